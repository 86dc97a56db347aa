"""Headers of any bytes: read without raising, written into a copy, equal to what OpenTelemetry's own propagators do."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_pipeline.engine.brought import brought
from otel_pipeline.engine.pipeline_propagator import PipelinePropagator
from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.trace_context import LightSpan, TraceContext

COUNTED: list[str] = []
DEFAULT = Propagation(get_global_textmap(), COUNTED.append)
IDS = st.integers(min_value=1, max_value=2**64 - 1)
KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=8).map(lambda text: "k" + text)
VALUES = st.text(min_size=1, max_size=20)


def span_context(trace_id, span_id, flags, state):
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags), trace_state=TraceState(state))


@settings(max_examples=150)
@given(IDS, IDS, st.integers(0, 255), st.dictionaries(KEYS, st.text("abc123", min_size=1), max_size=4))
def test_what_is_written_and_read_equals_the_apis(trace_id, span_id, flags, state):
    """Trace context: the same headers out, the same context in."""
    context = set_span_in_context(
        NonRecordingSpan(span_context(trace_id, span_id, flags, list(state.items()))), Context()
    )
    official: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(official, context)
    written = DEFAULT.write(None, context)
    there = get_current_span(TraceContextTextMapPropagator().extract(official)).get_span_context()
    here = get_current_span(DEFAULT.read(written, Context())).get_span_context()

    assert {name: value.decode() for name, value in written} == official
    assert (here, dict(here.trace_state)) == (there, dict(there.trace_state))


@settings(max_examples=150)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_baggage_comes_back_and_the_api_reads_it(members):
    """Any text; spaces are written as %20, which everybody reads, and a peer's plus stays a plus."""
    context = Context()
    for key, value in members.items():
        context = baggage.set_baggage(key, value, context)
    written = DEFAULT.write(None, context)
    stripped = {key: value.strip() for key, value in members.items()}

    assert dict(baggage.get_all(DEFAULT.read(written, Context()))) == members
    if all("+" not in value for value in members.values()):
        carrier = {name: value.decode() for name, value in written}
        assert dict(baggage.get_all(W3CBaggagePropagator().extract(carrier, Context()))) == stripped


NAMES = st.one_of(
    st.sampled_from(["traceparent", "TraceParent", "tracestate", "baggage", "otelp", "b3", ""]),
    st.text(max_size=12),
    st.none(),
    st.binary(max_size=12),
)
ANY = st.one_of(st.none(), st.binary(max_size=600), st.text(max_size=60), st.integers())
SAYS = st.sampled_from([b"00-%032x-%016x-01" % (1, 2), b"a=1, ot=th:8", "b=2", b"key=value;x=y", b"", b"\xff=1"])
VALUE = st.none() | SAYS | st.binary(max_size=120) | st.text(max_size=60)
HEADERS = st.one_of(
    st.none(),
    st.lists(st.one_of(st.tuples(NAMES, ANY), st.tuples(NAMES), ANY), max_size=8),
    st.lists(st.tuples(NAMES, ANY), max_size=8),
    st.dictionaries(st.text(max_size=12), ANY, max_size=5),
)


@settings(max_examples=400)
@given(HEADERS)
def test_nothing_raises_and_nothing_is_changed(headers):
    """Whatever a message brings along."""
    before = copy.deepcopy(headers)
    context = Context()
    DEFAULT.read(headers, context)
    DEFAULT.creation_links(headers)
    DEFAULT.sampled(headers)
    DEFAULT.find(headers)
    if headers:
        DEFAULT.incoming(headers, context)

    assert headers == before


AS_CLIENTS_GIVE = st.one_of(
    st.none(),
    st.lists(st.tuples(st.sampled_from(["traceparent", "TRACEPARENT", "tracestate", "baggage", "otelp", "a"]), VALUE)),
    st.lists(st.tuples(st.text(max_size=12), VALUE), max_size=8),
    st.dictionaries(st.text(max_size=12), st.binary(max_size=60) | st.text(max_size=60), max_size=5),
)


@settings(max_examples=300)
@given(AS_CLIENTS_GIVE, IDS, IDS, st.integers(0, 3))
def test_what_is_written_over_any_headers_is_read(headers, trace_id, span_id, flags):
    """The last context is ours, by one pass as by the careful one; what is the application's own stays."""
    before = copy.deepcopy(headers)
    written = DEFAULT.outgoing(headers, LightSpan(trace_id, span_id, flags), Context())
    compiled = TraceContext(COUNTED.append, with_baggage=True)
    found, *others = compiled.incoming(written, Context())
    careful, *same = compiled._more(written, Context())
    named = (*DEFAULT.names, "otelp")
    given_to_us = [] if not headers else list(headers.items() if isinstance(headers, dict) else headers)

    assert headers == before
    assert {(each.trace_id, each.span_id, each.flags) for each in (found, careful)} == {(trace_id, span_id, flags)}
    assert list(map(list, brought(others[0])[:2])) == list(map(list, brought(same[0])[:2]))
    assert (baggage.get_all(others[0]), others[1:]) == (baggage.get_all(same[0]), same[1:])
    assert found.get_span_context() == careful.get_span_context()
    assert [pair for pair in written if pair[0].lower() not in named] == [
        pair for pair in given_to_us if pair[0].lower() not in named
    ]


def test_writing_replaces_in_a_copy():
    """An older context goes, in any case, the rest keeps its order; with nothing to write it goes as well."""
    headers = [("a", b"1"), ("TRACEPARENT", b"old"), ("b", b"2"), ("TraceParent", b"older")]
    before = list(headers)
    context = set_span_in_context(NonRecordingSpan(span_context(1, 2, 1, [])), Context())

    assert DEFAULT.write(headers, context) == [
        ("a", b"1"),
        ("b", b"2"),
        ("traceparent", b"00-%032x-%016x-01" % (1, 2)),
    ]
    assert (DEFAULT.write(headers, Context()), headers) == ([("a", b"1"), ("b", b"2")], before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("traceparent", b"x" * 1_000_000), ("tracestate", b"a=1," * 10_000), ("baggage", b"a=1," * 10_000)],
)
def test_oversize_values_are_no_context_and_counted(name, value):
    """Beyond the limits a header is as good as none; the others still count."""
    COUNTED.clear()
    headers = (
        [(name, value)] if name == "traceparent" else [("traceparent", b"00-%032x-%016x-01" % (1, 2)), (name, value)]
    )
    context = DEFAULT.read(headers, Context())
    found = get_current_span(context).get_span_context()

    assert (dict(found.trace_state), baggage.get_all(context), COUNTED) == ({}, {}, [name])


def test_too_much_baggage_is_cut():
    """180 members, 8,192 bytes: what fits is written."""
    context = Context()
    for at in range(300):
        context = baggage.set_baggage(f"key{at}", "v" * 40, context)
    ((_, written),) = DEFAULT.write(None, context)

    assert (len(written) <= 8192, 100 < written.count(b",") < 180) == (True, True)


PARENTS = st.sampled_from(
    [b"00-%032x-%016x-%02x" % ids for ids in ((1, 2, 1), (3, 4, 0), (5, 6, 0xB), (7, 8, 2), (0, 2, 1), (1, 0, 1))]
    + [b"", b"x" * 55, f"00-{9:032x}-{9:016x}-01", None, b"a=1,ot=th:8", "b=2"]
)
PAIRS = st.tuples(st.sampled_from(["traceparent", "Traceparent", "tracestate", "baggage", "otelp", "a"]), PARENTS)


@settings(max_examples=300)
@given(st.one_of(st.lists(PAIRS, max_size=4), HEADERS))
def test_links_of_a_batch_are_those_of_sampled_messages(headers):
    """In one look as in two."""
    wanted = DEFAULT.creation_links(headers) if DEFAULT.sampled(headers) else ()

    assert [link.context for link in DEFAULT.sampled_links(headers)] == [link.context for link in wanted]


def test_mappings_are_read_as_well():
    """For clients whose headers are one."""
    headers = {"traceparent": f"00-{1:032x}-{2:016x}-01"}

    assert (DEFAULT.sampled(headers), [link.context.span_id for link in DEFAULT.creation_links(headers)]) == (True, [2])


def test_b3_works_when_it_is_configured():
    """Other propagators go through their own API, over the same pairs."""
    b3 = pytest.importorskip("opentelemetry.propagators.b3")
    propagation = Propagation(CompositePropagator([b3.B3SingleFormat()]), COUNTED.append)
    context = set_span_in_context(NonRecordingSpan(span_context(1, 2, 1, [])), Context())
    written = propagation.write([("b3", b"old"), ("a", b"1")], context)

    assert written == [("a", b"1"), ("b3", b"%032x-%016x-1" % (1, 2))]
    assert [link.context for link in propagation.creation_links(written)] == [span_context(1, 2, 1, [])]
    assert (propagation.find(written), propagation.sampled(written)) == (written[1][1], True)
    span, inside, carried, header, said = propagation.incoming(written, Context())
    assert (span.get_span_context().span_id, dict(inside) != {}, carried, header, said) == (
        2,
        True,
        written[1][1],
        None,
        None,
    )


def test_a_propagator_that_raises_is_counted():
    """Reading gives no context, writing no headers."""

    class Broken(TextMapPropagator):
        fields = frozenset({"broken"})

        def extract(self, *_arguments, **_options):
            raise ValueError

        inject = extract

    COUNTED.clear()
    propagation = Propagation(Broken(), COUNTED.append)

    assert (propagation.read([("broken", b"1")], Context()), propagation.write([("a", b"1")], Context())) == (
        Context(),
        [("a", b"1")],
    )
    assert COUNTED == ["propagator", "propagator"]


def test_our_own_propagator_beside_the_default_ones_is_left_to_the_engine():
    """`OTEL_PROPAGATORS=tracecontext,baggage,otel_pipeline` stays compiled."""
    together = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator(), PipelinePropagator()])

    assert Propagation(together, COUNTED.append).names == {"traceparent", "tracestate", "baggage"}
