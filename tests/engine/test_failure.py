"""Texts of the application's that cannot be had, encoded or carried: the span ends all the same."""

from __future__ import annotations

import traceback

import pytest
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_pipeline.engine.failure import cut, describe, end_anyway, error_type, stack_of, text_of
from otel_pipeline.engine.inference import Inferences
from otel_pipeline.engine.send import key_text
from tests.engine.test_trust import Side, message
from tests.limits import below_at_above


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Nameless(type):
    def __getattribute__(cls, name):
        if name == "__qualname__":
            raise RuntimeError("no name")
        return super().__getattribute__(name)


HALF = "cut \ud83d"
LONG = "x" * 50_000_000


def caught(error, cause=None):
    try:
        raise error from cause  # noqa: TRY301 - to have a traceback
    except BaseException as raised:
        return raised


@below_at_above("engine.failure.MAX_TEXT_BYTES", 4_096, "x" * 4_095, "x" * 4_096, "x" * 4_093 + "…")
def test_a_text_has_4_kb(size, outcome):
    """What is left out is marked; the end may be what is kept."""
    ends = "…" + outcome[:-1] if outcome[-1] == "…" else outcome

    assert (cut("x" * size), cut("x" * size, keep_end=True)) == (outcome, ends)


@below_at_above(
    "bytes of a text of characters of three bytes", 4_095, "€" * 1_364 + "…", "€" * 1_365, "€" * 1_364 + "…"
)
def test_characters_stay_whole(size, outcome):
    """Bytes are counted, and none of them is left alone."""
    text = ("€" * 1_366).encode()[:size].decode("utf-8", "ignore") if size == 4_095 else "€" * 1_366

    assert cut(text) == outcome


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (7, "7"),
        (HALF, "cut \ufffd"),
        ("\udfff\ud800", "\ufffd\ufffd"),
        (UnspeakableError(), "<UnspeakableError>"),
        (10**5_000, "<int>"),
        (LONG, "x" * 4_093 + "…"),
        ("\ud800" * 5_000, "\ufffd" * 1_364 + "…"),
    ],
    ids=["text", "number", "half", "halves", "raises", "too many digits", "50 MB", "halves alone"],
)
def test_the_text_of_any_object(value, text):
    """It is UTF-8, and never raises."""
    assert text_of(value) == text
    assert text_of(value).encode().decode() == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"k", "k"),
        (b"\xff", None),
        (HALF, "cut \ufffd"),
        (10**5_000, "<int>"),
        (b"k" * 5_000, "k" * 4_093 + "…"),
        (None, None),
    ],
    ids=["bytes", "no text", "half", "a number", "long", "none"],
)
def test_keys_of_messages_are_such_texts(key, text):
    """Where they stand on spans."""
    assert key_text(key) == text


def test_a_stack_is_as_python_prints_it():
    """With its causes; without texts it has types and places alone."""
    error = caught(ValueError("outer"), caught(KeyError("inner")))
    printed = "".join(traceback.format_exception(error))
    hidden = stack_of(error, with_text=False)

    assert stack_of(error, with_text=True) == printed
    assert hidden == printed.replace(": outer", "").replace(": 'inner'", "")


def test_a_stack_of_what_was_handled():
    """As Python prints it too; where it is suppressed, it is not there."""
    try:
        try:
            {}["inner"]
        except KeyError:
            raise ValueError("outer")  # noqa: B904
    except ValueError as raised:
        error = raised
    suppressed = caught(ValueError("outer"))

    assert stack_of(error, with_text=True) == "".join(traceback.format_exception(error))
    assert stack_of(suppressed, with_text=True) == "".join(traceback.format_exception(suppressed))


@below_at_above("engine.failure.MAX_CAUSES", 8, 7, 8, 8)
def test_a_chain_of_causes(size, outcome):
    """Eight are shown; one that goes in circles ends."""
    error = ValueError("e")
    for _ in range(size - 1):
        error = caught(ValueError("e"), error)
    circle = ValueError("c")
    circle.__cause__ = circle

    assert stack_of(error, with_text=True).count("ValueError: e") == outcome
    assert stack_of(circle, with_text=True).count("ValueError: c") == 1


def ping(depth):
    if not depth:
        raise ValueError(LONG)
    pong(depth)


def pong(depth):
    ping(depth - 1)


@below_at_above("engine.failure._FRAMES", 50, 48, 50, 50, step=2)
def test_frames_of_a_stack(size, outcome):
    """The last 50."""
    with pytest.raises(ValueError, match="x") as raised:
        ping(size // 2 - 1)

    assert stack_of(raised.value, with_text=False, limit=100_000).count("  File ") == outcome


def test_a_long_stack_keeps_its_end():
    """4 kB, where the error is; also below 800 calls."""
    with pytest.raises(ValueError, match="x") as raised:
        ping(400)
    stack = stack_of(raised.value, with_text=False)

    assert (len(stack.encode()) <= 4_096, stack[0], stack.endswith("raise ValueError(LONG)\nValueError\n")) == (
        True,
        "…",
        True,
    )


ERRORS = {
    "raises": (UnspeakableError(), f"{__name__}.UnspeakableError", "<UnspeakableError>"),
    "half a character": (ValueError(HALF), "ValueError", "cut \ufffd"),
    "50 MB": (ValueError(LONG), "ValueError", "x" * 4_093 + "…"),
    "plain": (KeyError("k"), "KeyError", "'k'"),
}


def failed(side, error):
    delivery = side.processor.begin(side.consumer.partition("orders", 0), message(7))
    side.processor.finish(delivery, error)
    return delivery


@pytest.fixture(params=[False, True], ids=["hidden", "shown"])
def side(request):
    attach(Context())
    found = Side(ALWAYS_ON, exception_text=request.param)
    found.shown = request.param
    return found


@pytest.mark.parametrize("case", ERRORS)
def test_a_handlers_exception(side, case):
    """The span ends, its context is left, and the type is told; the text only where it may be."""
    error, name, text = ERRORS[case]
    failed(side, caught(error))

    (span,) = side.exporter.get_finished_spans()
    (event,) = span.events
    assert (span.attributes["error.type"], event.attributes["exception.type"]) == (name, name)
    assert (span.status.description, event.attributes.get("exception.message")) == (
        (text, text) if side.shown else (None, None)
    )
    assert len(event.attributes["exception.stacktrace"].encode()) <= 4_096
    assert side.shown or "x" * 100 not in repr(span.events)
    assert get_current() == Context()
    assert side.engine.guard.errors == {}


def test_the_context_is_left_before_the_text_is_asked_for(side):
    """What `__str__` of the application starts is no child of a span that has ended."""
    seen = []

    class LooksError(Exception):
        def __str__(self):
            seen.append(get_current())
            return "looked"

    failed(side, caught(LooksError()))

    assert seen == ([Context()] * len(seen) if side.shown else [])


def test_what_the_application_records_itself_is_untouched(side):
    """Its exceptions keep their text, whatever the option says."""
    delivery = side.processor.begin(side.consumer.partition("orders", 0), message(7))
    delivery.span.record_exception(ValueError("mine"))
    side.processor.finish(delivery)

    (span,) = side.exporter.get_finished_spans()
    assert span.events[0].attributes["exception.message"] == "mine"


def test_a_class_without_a_name(side):
    """Its name raises: the span has none."""
    failed(side, Nameless("Kind", (Exception,), {})())

    (span,) = side.exporter.get_finished_spans()
    assert (span.attributes["error.type"], side.engine.guard.errors, get_current()) == ("_OTHER", {}, Context())


@pytest.mark.parametrize("case", ERRORS)
def test_a_model_call(side, case):
    """The same."""
    error, name, text = ERRORS[case]
    engine = side.engine
    calls = Inferences(spans=engine.spans, totals=engine.totals, guard=engine.guard, exception_text=side.shown)
    calls.begin("m").finish(caught(error))

    (span,) = side.exporter.get_finished_spans()
    assert (span.attributes["error.type"], span.status.description) == (name, text if side.shown else None)
    assert (get_current(), engine.guard.errors) == (Context(), {})


def test_a_detector_that_raises_does_not_keep_the_span_open(side):
    """What is ours fails: it is counted, the span ends, its context is left."""

    class Bad:
        def processed(self, *_arguments):
            raise ValueError

    side.consumer.partition("orders", 0).observer = Bad()
    failed(side, None)

    assert (len(side.exporter.get_finished_spans()), get_current()) == (1, Context())
    assert side.engine.guard.errors == {"process.finish": 1}


def test_what_cannot_be_described_or_ended_raises_nothing():
    """A span of somebody else's that raises at everything."""

    class Bad:
        def __getattr__(self, _name):
            raise ValueError

    describe(Bad(), ValueError("x"), with_text=True)
    end_anyway(Bad())
    end_anyway(None)

    assert error_type(ValueError()) == "ValueError"
