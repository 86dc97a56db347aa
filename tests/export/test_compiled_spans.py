"""Spans that are copied from a template are the SDK's own; where they do not fit, the tracer makes them."""

from __future__ import annotations

import json

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
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
)

from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.export.compiled_spans import CompiledSpans, make

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


def test_a_compiled_span_is_what_the_tracer_would_have_made(caplog):
    """Compared field by field, after the application has changed it."""
    compiled, theirs = provider(), provider()
    spans, tracer = (
        spans_of(compiled[0]),
        TracerSpans(theirs[0].get_tracer("scope", "1", schema_url="https://example.org/1")),
    )
    for made in (spans, tracer):
        work(
            lambda name, kind, parent, attributes, links, at, made=made: made.start(
                name, kind, parent, Context(), attributes, links, at
            )
        )
    caplog.clear()

    assert isinstance(spans, CompiledSpans)
    assert described(compiled[1]) == described(theirs[1])


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


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_new_traces_are_recorded_at_the_rate(rate):
    """And with ids that the SDK's own sampler would have recorded."""
    made, exporter = provider(ParentBased(TraceIdRatioBased(rate)))
    spans = spans_of(made)
    count = 0
    for _ in range(4_000):
        if spans.dropped(None) is None:
            count += 1
            spans.start("root", SpanKind.INTERNAL, None, Context(), {}).end()

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
        provider(ALWAYS_ON)[0],
        provider(ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF))[0],
        provider(id_generator=OtherIds())[0],
        provider(span_limits=SpanLimits(max_span_attribute_length=10))[0],
        provider(span_limits=SpanLimits(max_span_attributes=5))[0],
    ],
    ids=["sampler", "parents", "ids", "length", "count"],
)
def test_what_does_not_fit_is_made_by_the_tracer(made):
    """Another sampler, id generator, or limits."""
    assert isinstance(spans_of(made), TracerSpans)


def test_a_provider_of_another_kind_is_left_to_its_tracer():
    """The API's own, which does nothing."""
    from opentelemetry.trace import NoOpTracerProvider

    made = NoOpTracerProvider()

    assert isinstance(make(made, made.get_tracer("scope")), TracerSpans)
