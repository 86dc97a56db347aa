"""Composite samplers, compiled: every decision and tracestate is the SDK's own."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from otel_pipeline.engine.span_shape import SpanShape
from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.export import compiled_spans, thresholds
from otel_pipeline.export.compiled_spans import CompiledSpans
from otel_pipeline.export.sampling import KeepsTraceState, keep_tracestate, root_decision
from tests.limits import below_at_above

experimental = pytest.importorskip("opentelemetry.sdk.trace._sampling_experimental")
on, off = experimental.composable_always_on(), experimental.composable_always_off()
ratio, by_parent = experimental.composable_traceid_ratio_based, experimental.composable_parent_threshold
composite = experimental.composite_sampler
COMPOSED = {
    "on": on,
    "off": off,
    "1": ratio(1.0),
    "1 in 3": ratio(1 / 3),
    "half": ratio(0.5),
    "tiny": ratio(2**-56),
    "none": ratio(0.0),
    "parent or on": by_parent(on),
    "parent or off": by_parent(off),
    "parent or half": by_parent(ratio(0.5)),
    "parent or parent or 1 in 3": by_parent(by_parent(ratio(1 / 3))),
}
SAMPLERS = {
    **{name: composite(each) for name, each in COMPOSED.items()},
    **{f"{name}, told": KeepsTraceState(composite(each)) for name, each in COMPOSED.items()},
    **{f"flag or {name}": ParentBased(composite(each)) for name, each in COMPOSED.items()},
}
SHAPE = SpanShape("process orders", SpanKind.CONSUMER, {})


def made(sampler):
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    return compiled_spans.make(provider, tracer), TracerSpans(tracer, root_decision(tracer))


SPANS = {name: made(sampler) for name, sampler in SAMPLERS.items()}


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_of_them_are_compiled(name):
    """What an application composes, what `composite/development` of a configuration file makes, and what we wrap."""
    compiled, _ = SPANS[name]

    assert (type(compiled), compiled.lane) == (CompiledSpans, "native")


def test_what_looks_at_more_is_left_to_the_tracer():
    """Rules look at names and attributes; whoever else has a class of his own may look at anything."""

    class OfTheirs(type(on)):
        """Another one."""

    rules = experimental.composable_rule_based([]) if hasattr(experimental, "composable_rule_based") else OfTheirs()
    found = [type(made(composite(each))[0]) for each in (rules, OfTheirs(), by_parent(OfTheirs()), by_parent(rules))]

    assert found == [TracerSpans] * 4


HEX = st.text("0123456789abcdef", min_size=1, max_size=14)
SAID = st.one_of(
    HEX.map("th:{}".format),
    st.sampled_from(
        ["th:0", "th:8", "th:80", "th:5555555555555", "th:ffffffffffffff", "th:", "th:0x8", "th:+8", "th:1_0"]
    ),
    st.sampled_from(["th:8;rv:7fffffffffffff", "th:8;rv:80000000000000", "rv:80000000000000", "rv:1", "th:8;th:4"]),
    st.builds("th:{};rv:{}".format, HEX, st.text("0123456789abcdef", min_size=14, max_size=14)),
    st.sampled_from(["x:y", "th:8;x:y", "x:y;th:C", "th:8" + ";x:y" * 63, "TH:8", "a" * 256, ";", "th:80000000000000"]),
)
OTHERS = st.lists(
    st.tuples(st.sampled_from(["vendor", "otelp", "z@y"]), st.sampled_from(["1", "th:8"])),
    unique_by=lambda pair: pair[0],
)
FULL = TraceState([(f"k{number}", "v") for number in range(32)])


def state(before, said, after):
    names = {name for name, _ in before}
    return TraceState([*before, *([("ot", said)] if said else []), *((n, v) for n, v in after if n not in names)])


STATES = st.one_of(st.none(), st.builds(state, OTHERS, st.none() | SAID, OTHERS), st.just(FULL))
EDGES = [1, 1 << 55, (1 << 55) - 1, (1 << 56) - 1, 1 << 56, 0x55555555555555, 0x55555555555554]
TRACE_IDS = st.sampled_from(EDGES) | st.integers(1, 2**128 - 1)
KINDS = ("remote", "local", "light", "recorded")


def parent_of(kind, trace_id, flags, held):
    """A parent of every kind that the engine has: from a message, an SDK's span, and one of ours that is recorded."""
    if kind == "light":
        return LightSpan(trace_id, 8, flags, True, None if held is None else lambda: held)
    if kind == "recorded":
        spans, _ = SPANS["flag or on"]
        return spans.start(
            SHAPE, (), LightSpan(trace_id, 8, flags | 1, True, None if held is None else lambda: held), Context()
        )
    return NonRecordingSpan(SpanContext(trace_id, 8, kind == "remote", TraceFlags(flags), held))


def said_of(span):
    context = span.get_span_context()
    return context.trace_id, context.trace_flags, list(context.trace_state.items()), context.is_remote


@settings(max_examples=2_500)
@given(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(KINDS), TRACE_IDS, st.integers(0, 3), STATES)
@example("half, told", "remote", 1 << 55, 1, FULL)
@example("parent or half, told", "light", 1, 1, state([], "th:8", []))
@example("1 in 3, told", "light", (1 << 56) - 1, 1, state([("vendor", "1")], "th:5555555555555", []))
def test_under_a_parent_it_decides_as_the_sdk_does(name, kind, trace_id, flags, held):
    """Whether it is recorded, its ids, flags, and what it hands on; whatever the tracestate says, or says wrongly."""
    compiled, theirs = SPANS[name]
    parent = parent_of(kind, trace_id, flags, held)
    wanted = theirs.start(SHAPE, (), parent, Context())
    dropped = compiled.dropped(parent)
    found = dropped or compiled.start(SHAPE, (), parent, Context())

    assert (dropped is None) is wanted.is_recording()
    assert said_of(found) == said_of(wanted)
    if dropped is None:
        assert found.parent == wanted.parent
        assert found.parent.trace_state == wanted.parent.trace_state


@settings(max_examples=500)
@given(st.sampled_from(sorted(COMPOSED)), TRACE_IDS, st.integers(0, 1), STATES)
def test_of_providers_of_ours_the_sampler_is_told(name, trace_id, flags, held):
    """As its own signature has it: then the parent's threshold and randomness count, and nobody's members are lost."""
    provider = TracerProvider(composite(COMPOSED[name]), shutdown_on_exit=False)
    keep_tracestate(provider)
    parent = parent_of("remote", trace_id, flags, held)
    context = set_span_in_context(parent, Context())
    wanted = composite(COMPOSED[name]).should_sample(
        context, trace_id, "", trace_state=parent.get_span_context().trace_state
    )
    span = provider.get_tracer("test").start_span("", context)

    assert span.is_recording() is wanted.decision.is_sampled()
    kept = wanted.trace_state or parent.get_span_context().trace_state  # Older SDKs lose one with 32 members whole.
    assert list(span.get_span_context().trace_state.items()) == list(kept.items())


@pytest.mark.parametrize("name", SAMPLERS)
def test_new_traces(name):
    """At the rate, with ids and a tracestate that the sampler itself would have given them."""
    compiled, theirs = SPANS[name]
    recorded = 0
    for _ in range(2_000):
        dropped = compiled.dropped(None)
        span = dropped or compiled.start(SHAPE, (), None, Context())
        trace_id, flags, held, _ = said_of(span)
        result = SAMPLERS[name].should_sample(None, trace_id, "")
        recorded += dropped is None
        assert (dropped is None, flags & 1) == (result.decision.is_sampled(), int(result.decision.is_sampled()))
        assert held == list((result.trace_state or TraceState()).items())
    rate = {"off": 0, "none": 0, "1 in 3": 1 / 3, "half": 1 / 2, "tiny": 0}.get(
        name.removesuffix(", told").split("or ")[-1], 1
    )

    assert abs(recorded / 2_000 - rate) < 0.06
    assert [compiled.samples_root(each) for each in EDGES] == [
        theirs.samples_root(each, "", SpanKind.CONSUMER, Context(), dict) for each in EDGES
    ]


def test_an_id_that_is_drawn_is_one_that_is_recorded():
    """Where next to none is: at the threshold, or above it."""
    compiled, _ = SPANS["tiny"]

    assert compiled.start(SHAPE, (), None, Context()).trace_id & (1 << 56) - 1 == (1 << 56) - 1


def test_a_tracer_that_tells():
    """A later SDK may hand the tracestate to its sampler: then the sampler decides with it, in our lane as well."""
    rule = thresholds.rule_of(SAMPLERS["parent or half"])

    assert (rule.is_told, thresholds.rule_of(SAMPLERS["parent or half, told"]).is_told) == (thresholds._tells(), True)


def test_the_context_that_a_sampler_is_asked_with_has_the_parent():
    """Of what a threshold alone does not say."""
    heard = []
    sampler = KeepsTraceState(composite(by_parent(on)))
    rule = thresholds.rule_of(sampler)
    sampler._sampler.should_sample = lambda context, *_, **named: (
        heard.append((get_current_span(context), named)) or composite(off).should_sample(context, 7, "")
    )
    held = state([], "th:8;x:y", [])
    parent = LightSpan(7, 8, 1, True, lambda: held)
    dropped = thresholds.Thresholds(sampler, rule, 0).dropped_ids(parent)

    assert (heard, dropped[0], dropped[3]()) == ([(parent, {"trace_state": held})], 7, held)


@below_at_above("export.thresholds.MAX_KNOWN", 256, 255, 256, 1)
def test_of_so_many_thresholds_the_meaning_is_kept(size, outcome):
    sampler = SAMPLERS["parent or half, told"]
    made = thresholds.Thresholds(sampler, thresholds.rule_of(sampler), 0)
    for number in range(size):
        held = TraceState([("ot", f"th:{number:05x}1")])
        made.dropped_ids(LightSpan(7, 8, 1, True, lambda held=held: held))

    assert len(made._known) == outcome
