"""What samplers say of roots, whichever provider is in force."""

from __future__ import annotations

import random

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, NoOpTracerProvider, SpanContext, SpanKind, TraceFlags, TraceState

from otel_pipeline.engine.span_shape import SpanShape
from otel_pipeline.engine.spans import Spans, TracerSpans
from otel_pipeline.engine.trust import unsampled
from otel_pipeline.export import compiled_spans
from otel_pipeline.export.compiled_spans import CompiledSpans
from otel_pipeline.export.providers import FollowingSpans
from otel_pipeline.export.sampling import root_decision


def asked(spans, trace_id):
    return spans.samples_root(trace_id, "process orders", SpanKind.CONSUMER, Context(), dict)


@pytest.mark.parametrize(
    "root",
    [ALWAYS_ON, ALWAYS_OFF, *map(TraceIdRatioBased, (0.0, 0.01, 0.5, 1.0))],
    ids=lambda sampler: sampler.get_description(),
)
def test_compiled_spans_decide_as_the_sampler_does(root):
    """Of each trace id, those at the edges included."""
    provider = TracerProvider(ParentBased(root), shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    compiled, theirs = compiled_spans.make(provider, tracer), TracerSpans(tracer, root_decision(tracer))
    source, bound = random.Random(3), getattr(root, "bound", 1)
    ids = [1, (1 << 128) - 1, max(bound - 1, 1), bound, bound + 1, *(source.getrandbits(128) for _ in range(2_000))]

    assert isinstance(compiled, CompiledSpans)
    assert [asked(compiled, each) for each in ids] == [asked(theirs, each) for each in ids]


def test_the_provider_that_comes_later_is_asked():
    """An application may set its own after `instrument()`, with a sampler that is not compiled, or with none."""
    spans = FollowingSpans(TracerProvider(ParentBased(ALWAYS_ON), shutdown_on_exit=False), "test", "1", "")
    found = [asked(spans, 7)]
    for provider in (TracerProvider(ALWAYS_OFF), TracerProvider(TraceIdRatioBased(1.0)), NoOpTracerProvider()):
        spans.follow(provider)
        found.append(asked(spans, 7))

    assert found == [True, False, True, False]


def test_whoever_follows_a_provider_has_all_that_spans_have():
    """It stands in for what makes them, in every program."""
    spans = FollowingSpans(TracerProvider(shutdown_on_exit=False), "test", "1", "")
    wanted = {name for name in vars(Spans) if not name.startswith("_")}

    assert {"start", "end_all", "dropped", "lane"} <= wanted
    assert {name for name in wanted if not hasattr(spans, name)} == set()


def test_a_composed_sampler_does_not_record_what_was_refused():
    """It believes the tracestate's threshold before the flag."""
    experimental = pytest.importorskip("opentelemetry.sdk.trace._sampling_experimental")
    never = experimental.composable_always_off()
    sampler = experimental.composite_sampler(experimental.composable_parent_threshold(never))
    tracer = TracerProvider(sampler, shutdown_on_exit=False).get_tracer("test")
    spans = TracerSpans(tracer, root_decision(tracer))
    state = TraceState([("ot", "th:0;rv:abcdef01234567")])
    sent = NonRecordingSpan(SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=state))
    recorded = [
        spans.start(SpanShape("process orders", SpanKind.CONSUMER, {}), (), parent, Context()).is_recording()
        for parent in (sent, unsampled(sent))
    ]

    assert (asked(spans, 7), recorded) == (False, [True, False])
