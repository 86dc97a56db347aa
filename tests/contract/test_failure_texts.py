"""Exceptions whose text cannot be had, encoded or carried, on every client: the span ends, nothing stays current."""

from __future__ import annotations

import pytest

import otel_pipeline
from tests.contract.conftest import current


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


ERRORS = {
    "raises": (UnspeakableError(), "<UnspeakableError>"),
    "half a character": (ValueError("cut \ud83d"), "cut \ufffd"),
    "50 MB": (ValueError("x" * 50_000_000), "x" * 4_093 + "…"),
}


def fail_each(driver, errors):
    """The handler fails with each in turn; whether the application got its own, and what was current before and after."""
    topic = driver.topic()
    driver.send_many(topic, [b"%d" % at for at in range(len(errors))])
    reader = driver.reader(topic)
    seen = []

    def handle(message, error):
        with otel_pipeline.process(message, consumer=reader.client):
            raise error

    for message, error in zip(reader.receive_many(len(errors)), errors, strict=True):
        before = current()
        with pytest.raises(type(error)) as raised:
            handle(message, error)
        seen.append((raised.value is error, current() == before))
    reader.close()
    return topic, seen


def test_a_handlers_exception_of_any_text(driver, instrument, telemetry):
    """All that it says is what can be said; the application gets its own exception."""
    instrument(environment="test")
    topic, seen = fail_each(driver, [error for error, _ in ERRORS.values()])

    spans = [span for span in telemetry.spans() if span.status == "ERROR"]
    assert [span.events[0].attributes["exception.message"] for span in spans] == [text for _, text in ERRORS.values()]
    assert ({span.name for span in spans}, seen) == ({f"process {topic}"}, [(True, True)] * 3)


@pytest.mark.parametrize(
    ("environment", "option", "texts"),
    [
        ("local", None, 1),
        ("test", None, 1),
        ("development", None, 1),
        ("staging", None, 0),
        ("production", None, 0),
        ("my-own", None, 0),
        ("production", "true", 1),
        ("local", "false", 0),
    ],
)
def test_where_the_text_of_an_exception_stands_on_spans(driver, configured, telemetry, environment, option, texts):
    """`capture.exception_text`: near to who writes the program. The type always."""
    configured(f"capture: {{exception_text: {option}}}" if option else "sample_rate: 1", environment=environment)
    fail_each(driver, [ValueError("canary of the application")])

    (span,) = [span for span in telemetry.spans() if span.status == "ERROR"]
    said = repr((span.status_message, span.events, span.attributes))
    assert (span.attributes["error.type"], "ValueError" in said) == ("ValueError", True)
    assert [span.status_message == "canary of the application", "canary of the app" in said] == [bool(texts)] * 2
