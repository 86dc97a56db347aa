"""Spans made of a shape and values are as the SDK's own; where they do not fit, the tracer makes them."""

from __future__ import annotations

import json
import threading
from collections import UserDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
    use_span,
)

from otel_pipeline.engine.links import Facts, MessageLink
from otel_pipeline.engine.messages import SystemNames
from otel_pipeline.engine.span_shape import ShapedSpan, SpanShape
from otel_pipeline.engine.spans import TracerSpans, discard
from otel_pipeline.engine.trace_context import LightLink, LightSpan
from otel_pipeline.export.accounting import Account
from otel_pipeline.export.border import Border
from otel_pipeline.export.compiled_spans import CompiledSpans, make
from otel_pipeline.export.losses import Losses
from otel_pipeline.export.otlp.encoder import encode
from otel_pipeline.export.processors import CountedSpans
from otel_pipeline.export.sampling import KeepsTraceState

STATE = TraceState([("vendor", "1")])
REMOTE = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=STATE)


def provider(sampler=None, **options):
    exporter, made = InMemorySpanExporter(), TracerProvider(sampler, shutdown_on_exit=False, **options)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def spans_of(made):
    return make(made, made.get_tracer("scope", "1", schema_url="https://example.org/1"))


def described(exporter):
    """All of each span but its own ids."""
    found = []
    for span in exporter.get_finished_spans():
        text = json.loads(span.to_json())
        text["context"] = {"trace_state": text["context"]["trace_state"], "flags": int(span.context.trace_flags)}
        found.append((text, span.instrumentation_scope, span.parent, span.context.trace_id == 7))
    return found


def work(start):
    """A child with everything, and what the application may do to it."""
    attributes = {"a": 1, "b": "text", "c": True}
    span = start("name", SpanKind.CONSUMER, NonRecordingSpan(REMOTE), dict(attributes), [Link(REMOTE, {"k": 1})], 1_000)
    span.set_attribute("later", [1, 2])
    span.set_attributes({"bad": object()})
    span.add_event("event", {"e": 1}, timestamp=2_000)
    span.add_link(REMOTE)
    span.set_status(Status(StatusCode.ERROR, "broken"))
    span.update_name("renamed")
    span.end(3_000)
    span.set_attribute("after", "the end")


class Keeping:
    """An exporter of ours that keeps what it is given."""

    def __init__(self):
        self.spans = []

    def export(self, batch):
        self.spans += batch
        return SpanExportResult.SUCCESS

    def get_finished_spans(self):
        return self.spans

    def shutdown(self):
        """Do nothing."""


def native():
    """A provider to which nobody but us listens, and what its exporter gets."""
    exporter, made = Keeping(), TracerProvider(shutdown_on_exit=False)
    account = Account("traces", "http://localhost", {})
    made.add_span_processor(CountedSpans(Border(exporter, account, Losses(), lambda *_: None)))
    return made, exporter


LINKS = (Link(REMOTE, {"k": 1}),)
PLAIN = SpanShape("name", SpanKind.CONSUMER, {"a": 1, "b": "text", "c": True}, ("age", "none", "offset"))


def start(spans, *, more=None, values=(0.5, None, 7), links=LINKS, parent=None):
    parent = parent or NonRecordingSpan(REMOTE)
    return spans.start(PLAIN, values, parent, Context(), list(links), 1_000, more)


def all_kinds(spans):
    """Whatever the engine makes, and whatever an application does to it."""
    work(
        lambda name, kind, parent, attributes, links, at: spans.start(
            SpanShape(name, kind, attributes), (), parent, Context(), links, at
        )
    )
    start(spans).end(3_000)
    start(spans, more={"key": "k"}).end(3_000)
    start(spans, links=()).end(3_000)
    start(spans, parent=LightSpan(7, 8, 3, True)).end(3_000)
    start(spans, parent=LightSpan(7, 8, 1, False, lambda: STATE)).end(3_000)
    inner = start(spans, parent=start(spans))
    inner.set_attribute("a", 2)
    inner.end(3_000)
    inner.end(4_000)
    with pytest.raises(KeyError), use_span(start(spans), end_on_exit=False) as failed:
        raise KeyError
    failed.end(5_000)
    read = start(spans)
    assert (read.attributes["offset"], read.name, read.is_recording()) == (7, "name", True)
    read.end(3_000)
    end_with(spans.start(PLAIN, (), NonRecordingSpan(REMOTE), Context(), (), 1_000), (None, None, 8))
    end_with(spans.start(PLAIN, (1.5, None, None), NonRecordingSpan(REMOTE), Context(), (), 1_000), (None, None, 9))
    looked = spans.start(PLAIN, (1.5, None, None), NonRecordingSpan(REMOTE), Context(), (), 1_000)
    looked.set_attribute("own", 1)
    end_with(looked, (None, "now", 9))
    end_with(looked, (None, "later", 10))


def end_with(span, values):
    if isinstance(span, ShapedSpan):
        span.end_with(values, 3_000)
        return
    if span.is_recording():
        span.set_attributes({name: value for name, value in zip(PLAIN.names, values, strict=True) if value is not None})
    span.end(3_000)


def scrubbed(found):
    """Without what a second run has of its own: ids of spans above, stacks, times of events."""
    for text, _, _, _ in found:
        for event in text["events"]:
            event["timestamp"] = ""
            event["attributes"].pop("exception.stacktrace", None)
        if text["parent_id"] != "0x0000000000000008":
            text["parent_id"] = "another's"
    return [(text, scope, known) for text, scope, _, known in found]


@pytest.mark.parametrize("lane", [provider, native])
def test_a_compiled_span_is_what_the_tracer_would_have_made(lane, caplog):
    """Compared field by field in both lanes, after the application has changed it."""
    (made, exporter), (their_provider, theirs) = lane(), provider()
    tracer = their_provider.get_tracer("scope", "1", schema_url="https://example.org/1")
    spans = spans_of(made)
    for each in (spans, TracerSpans(tracer)):
        all_kinds(each)
    made.force_flush()
    caplog.clear()

    assert isinstance(spans, CompiledSpans)
    assert scrubbed(described(exporter)) == scrubbed(described(theirs))
    assert len(exporter.get_finished_spans()) == 12
    made.shutdown()


def requested(body):
    return trace_service_pb2.ExportTraceServiceRequest.FromString(body)


def theirs(span):
    """What the SDK's encoder makes of a span; that of 1.30 leaves the schema of the scope out."""
    made = encode_spans([span])
    made.resource_spans[0].scope_spans[0].schema_url = "https://example.org/1"
    return made


def test_our_spans_are_encoded_as_the_sdks_own_are():
    """Whoever has looked at one, changed it, or nobody; with more links than a span may have, too."""
    made, exporter = native()
    spans = spans_of(made)
    all_kinds(spans)
    start(spans, links=LINKS * 128).end(3_000)
    start(spans, links=LINKS * 129).end(3_000)
    start(spans, links=(LightLink(LightSpan(7, 8, 1, True)), LightLink(LightSpan(9, 8, 1)))).end(3_000)
    spans.start(PLAIN, (), None, Context()).end(3_000)
    made.force_flush()
    found = exporter.get_finished_spans()

    encoded = [requested(encode("traces", [span]).body) for span in found]
    assert encoded == [theirs(span._readable_span()) for span in found]
    assert len(found) == 16
    made.shutdown()


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PRESENT = st.one_of(NAMES, st.booleans(), st.floats(), st.integers(-(2**63), 2**63 - 1))
VALUES = st.none() | PRESENT
TIMES = st.integers(0, 2**64 - 1)
PARENTS = st.one_of(
    st.none(),
    st.just(INVALID_SPAN),
    st.just(NonRecordingSpan(REMOTE)),
    st.builds(LightSpan, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255), st.booleans()),
    st.just(LightSpan(7, 8, 1, False, lambda: STATE)),
)
DONE = st.one_of(
    st.tuples(st.just("set_attribute"), NAMES, PRESENT),
    st.tuples(st.just("add_event"), NAMES, st.dictionaries(NAMES, PRESENT, max_size=2), TIMES),
    st.tuples(st.just("add_link"), st.just(REMOTE), st.dictionaries(NAMES, PRESENT, max_size=2)),
    st.tuples(st.just("set_status"), st.builds(Status, st.sampled_from(StatusCode))),
    st.tuples(st.just("update_name"), NAMES),
    st.tuples(st.just("get_span_context")),
)
ANY_SPANS = spans_of(TracerProvider(shutdown_on_exit=False))


@settings(max_examples=200)
@given(
    st.builds(SpanShape, NAMES, st.sampled_from(SpanKind), st.just({"a": 1}), st.just(("age", "offset"))),
    st.tuples(VALUES, VALUES) | st.just(()),
    PARENTS,
    st.lists(st.sampled_from([*LINKS, LightSpan(7, 8, 1), LightLink(LightSpan(9, 8, 1, True))]), max_size=3),
    st.none() | st.dictionaries(NAMES, PRESENT, max_size=2),
    st.lists(DONE, max_size=3),
    st.tuples(TIMES, TIMES),
)
def test_any_span_is_encoded_as_the_sdk_would(shape, values, parent, links, more, done, times):
    """Of any shape and values, whatever was done to it; with values as with what was looked at."""
    span = ANY_SPANS.start(shape, values, parent, Context(), tuple(links), times[0], more)
    for name, *arguments in done:
        getattr(span, name)(*arguments)
    span.end(times[1])
    found = encode("traces", [span])

    assert found[1:] == (1, 0, 0)
    # As bytes: NaN is not equal to itself.
    assert requested(found.body).SerializeToString(deterministic=True) == theirs(
        span._readable_span()
    ).SerializeToString(deterministic=True)


@pytest.mark.parametrize("most", [SpanLimits.UNSET, 0, 1, 2])
def test_a_span_has_as_many_links_as_the_limits_let_it(most):
    """All without a limit, which an empty `OTEL_SPAN_LINK_COUNT_LIMIT` means; what is dropped is counted."""
    exporter, made = Keeping(), TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_links=most))
    made.add_span_processor(CountedSpans(Border(exporter, Account("traces", "", {}), Losses(), lambda *_: None)))
    spans = spans_of(made)
    start(spans, links=LINKS * 2).end()
    made.force_flush()
    ((encoded,),) = (
        [span for of in each.scope_spans for span in of.spans]
        for each in requested(encode("traces", exporter.get_finished_spans()).body).resource_spans
    )

    kept = 2 if most == SpanLimits.UNSET else most
    assert isinstance(spans, CompiledSpans)
    assert (len(encoded.links), encoded.dropped_links_count) == (kept, 2 - kept)
    made.shutdown()


def test_the_sdks_limits_hold_for_what_is_said_of_a_message():
    """Where its tracer makes the span."""
    made, exporter = provider(span_limits=SpanLimits(max_attribute_length=3, max_link_attributes=1))
    facts = Facts(SystemNames(partition="partition"), "orders", 12345, None, None, 0, None, False, None)
    spans_of(made).start(PLAIN, (), None, Context(), (MessageLink(LightSpan(7, 8, 1), facts),)).end()
    (span,) = exporter.get_finished_spans()
    (link,) = span.links

    assert (list(link.attributes.values()), link.dropped_attributes) == (["123"], 1)
    assert requested(encode("traces", [span]).body) == theirs(span)


@pytest.mark.parametrize("bad", ["half \ud800", 2**70])
def test_what_cannot_be_encoded_is_repaired(bad):
    """In the native lane, too."""
    made, exporter = native()
    spans_of(made).start(PLAIN, (bad,), None, Context(), (LightSpan(7, 8, 1),)).end()
    made.force_flush()
    found = encode("traces", exporter.get_finished_spans())

    assert (found.items, found.repaired, found.left_out) == (1, 1, 0)
    made.shutdown()


class WatchedLock:
    """A lock that tells of who waits for it."""

    def __init__(self, somebody_waits):
        self._lock = threading.Lock()
        self._somebody_waits = somebody_waits

    def __enter__(self):
        if not self._lock.acquire(blocking=False):
            self._somebody_waits.set()
            self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


class EndsMeanwhile(UserDict):
    """Attributes of a shape; while they are read, another thread ends the span."""

    span = None
    come_so_far = None
    ending = None

    def __iter__(self):
        if self.ending is None:
            self.ending = threading.Thread(target=self._end)
            self.ending.start()
            self.come_so_far.wait()
        return super().__iter__()

    def _end(self):
        self.span.end()
        self.come_so_far.set()


def test_a_span_that_another_thread_ends_takes_what_is_being_set():
    """Nothing is raised into the application: the end waits, as the SDK's does."""
    made, exporter = native()
    attributes = EndsMeanwhile({"a": 1})
    attributes.come_so_far = threading.Event()
    span = spans_of(made).start(SpanShape("name", SpanKind.CONSUMER, attributes), (), None, Context())
    attributes.span = span
    assert (span.is_plain, span._lock is span._lock, span.is_plain) == (True, True, False)
    span.__dict__["_lock"] = WatchedLock(attributes.come_so_far)

    span.set_attribute("b", 2)

    attributes.ending.join()
    made.force_flush()
    assert [dict(each.attributes) for each in exporter.get_finished_spans()] == [{"a": 1, "b": 2}]
    made.shutdown()


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize("lane", [provider, native])
def test_a_span_of_what_did_not_come_about_is_not_exported(lane, looked):
    """Whether somebody has read its context before or not."""
    made, exporter = lane()
    span = start(spans_of(made))
    if looked:
        assert span.get_span_context().trace_flags.sampled
    discard(span)
    made.force_flush()

    assert (span.is_recording(), list(exporter.get_finished_spans())) == (False, [])
    made.shutdown()


def test_the_lane_changes_when_somebody_listens():
    """A processor that the application adds later hears of spans from then on, and sees the SDK's own ones."""
    made, exporter = native()
    spans = spans_of(made)
    start(spans).end(3_000)
    theirs, before = Listening(), spans.lane
    open_before = start(spans)
    made.add_span_processor(theirs)
    open_before.end(3_000)
    start(spans).end(3_000)
    made.force_flush()

    assert (before, spans.lane, TracerSpans(None).lane) == ("native", "compatible", "sdk")
    assert theirs.heard == ["on_end ReadableSpan", "on_start RecordedSpan", "on_end ReadableSpan"]
    assert [span.end_time for span in exporter.get_finished_spans()] == [3_000] * 3
    made.shutdown()


class Listening(SpanProcessor):
    def __init__(self):
        self.heard = []

    def on_start(self, span, parent_context=None):
        span.set_attribute("by", "them")
        self.heard.append(f"on_start {type(span).__name__}")

    def on_end(self, span):
        self.heard.append(f"on_end {type(span).__name__}")


def test_in_the_native_lane_nothing_is_made_that_nobody_asked_for():
    """Neither attributes, events, links nor a lock; a parent keeps none of its own children's parents alive."""
    made, _ = native()
    spans = spans_of(made)
    above = start(spans)
    span = start(spans, parent=above)
    span.end_with((None, None, 9), 3_000)
    looked_at = vars(span).copy()
    looked_at.pop("_context", None)  # Which the queue of SDK 1.30 asks for.

    assert (looked_at, span.is_plain, type(span.above)) == ({}, True, LightSpan)
    assert span.attributes == {"a": 1, "b": "text", "c": True, "age": 0.5, "offset": 9}
    assert span.parent == above.get_span_context()
    with pytest.raises(AttributeError, match="'RecordedSpan' object has no attribute 'other'"):
        span.other  # noqa: B018
    made.shutdown()


@pytest.mark.parametrize(
    ("parent", "recorded"),
    [
        (None, True),
        (INVALID_SPAN, True),
        (NonRecordingSpan(REMOTE), True),
        (LightSpan(7, 8, 1), True),
        (LightSpan(7, 8, 0), False),
        (NonRecordingSpan(SpanContext(7, 8, is_remote=False)), False),
    ],
)
def test_the_parent_decides(parent, recorded):
    """As `ParentBased` does; what is dropped keeps trace id and tracestate."""
    dropped = spans_of(provider()[0]).dropped(parent)

    assert (dropped is None) is recorded
    if dropped is not None:
        context = dropped.get_span_context()
        assert (context.trace_id, context.span_id not in (0, 8), context.is_remote) == (7, True, False)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        TraceIdRatioBased(0.5),
        ParentBased(ALWAYS_OFF),
        ParentBased(TraceIdRatioBased(0.5)),
        ParentBasedTraceIdRatio(0.5),
    ],
    ids=["on", "off", "ratio", "parent or off", "parent or ratio", "of the variable"],
)
def test_each_sampler_decides_as_the_sdk_lets_it(sampler, sampled):
    """Under parents with ids on both sides of a ratio's bound; ids, flags and tracestate as the SDK's."""
    made, _ = provider(sampler)
    spans, tracer = spans_of(made), made.get_tracer("scope")
    assert isinstance(spans, CompiledSpans)
    below, above = (1 << 63) - 1, 1 << 63
    for trace_id in (below, above, below | 7 << 64, above | 7 << 64):
        for parent in (
            NonRecordingSpan(SpanContext(trace_id, 8, True, TraceFlags(int(sampled)), STATE)),
            LightSpan(trace_id, 8, int(sampled), True, lambda: STATE),
        ):
            theirs = tracer.start_span("name", set_span_in_context(parent)).get_span_context()
            dropped = spans.dropped(parent)
            ours = (dropped or start(spans, parent=parent)).get_span_context()

            assert (dropped is None) is theirs.trace_flags.sampled
            assert (ours.trace_id, ours.trace_flags, ours.trace_state) == (
                theirs.trace_id,
                theirs.trace_flags,
                theirs.trace_state,
            )


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_new_traces_are_recorded_at_the_rate(rate):
    """And with ids that the SDK's own sampler would have recorded."""
    made, exporter = provider(ParentBased(TraceIdRatioBased(rate)))
    spans = spans_of(made)
    count = 0
    for _ in range(4_000):
        if spans.dropped(None) is None:
            count += 1
            spans.start(SpanShape("root", SpanKind.INTERNAL, {}), (), None, Context()).end()

    sampler = TraceIdRatioBased(rate)
    assert abs(count / 4_000 - rate) < 0.05
    assert all(
        sampler.should_sample(None, span.context.trace_id, "").decision.is_sampled()
        for span in exporter.get_finished_spans()
    )


class OtherIds(RandomIdGenerator):
    pass


@pytest.mark.parametrize(
    "made",
    [
        provider(KeepsTraceState(ALWAYS_ON))[0],
        provider(ParentBased(KeepsTraceState(ALWAYS_ON)))[0],
        provider(ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF))[0],
        provider(id_generator=OtherIds())[0],
        provider(span_limits=SpanLimits(max_span_attribute_length=10))[0],
        provider(span_limits=SpanLimits(max_span_attributes=5))[0],
    ],
    ids=["sampler", "root", "parents", "ids", "length", "count"],
)
def test_what_does_not_fit_is_made_by_the_tracer(made):
    """Another sampler, id generator, or limits."""
    assert isinstance(spans_of(made), TracerSpans)


def test_spans_that_the_sdk_counts_are_made_by_the_tracer(monkeypatch):
    """`otel.sdk.span.started` and `otel.sdk.span.live` are of all spans, where they are asked for."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    made, _ = provider()
    counts = hasattr(made.get_tracer("scope"), "_tracer_metrics")  # Later SDKs do.

    assert isinstance(spans_of(made), TracerSpans if counts else CompiledSpans)


def test_a_provider_of_another_kind_is_left_to_its_tracer():
    """The API's own, which does nothing."""
    from opentelemetry.trace import NoOpTracerProvider

    made = NoOpTracerProvider()

    assert isinstance(make(made, made.get_tracer("scope")), TracerSpans)
