"""Headers of the application's own, and of others: merged, never dropped; what is bad costs nothing but itself."""

from __future__ import annotations

import pytest
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.trace_context import LightSpan

OLDER, NEWER = b"00-%032x-%016x-01" % (1, 1), b"00-%032x-%016x-01" % (2, 2)
COUNTED: list[str] = []


class Other(TextMapPropagator):
    """Stands for one that is not compiled; it writes nothing."""

    fields = frozenset({"other"})

    def extract(self, _carrier, context=None, getter=None):
        return context

    def inject(self, *_arguments, **_options):
        pass


@pytest.fixture(params=["compiled", "configured"])
def propagation(request):
    """Both ways: the default propagators, and others beside them."""
    COUNTED.clear()
    members = [TraceContextTextMapPropagator(), W3CBaggagePropagator()]
    if request.param == "compiled":
        return Propagation(get_global_textmap(), COUNTED.append)
    return Propagation(CompositePropagator([Other(), *members]), COUNTED.append)


def context(members=(), state=()):
    made = Context()
    for key, value in dict(members).items():
        made = baggage.set_baggage(key, value, made)
    span = SpanContext(3, 3, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState(list(state)))
    return set_span_in_context(NonRecordingSpan(span), made)


OURS = ("traceparent", b"00-%032x-%016x-01" % (3, 3))
CASES = {
    "baggage of the application alone": (
        [("a", b"1"), ("Baggage", b"x=y;p")],
        {},
        [("a", b"1"), ("Baggage", b"x=y;p"), OURS],
    ),
    "both": ([("baggage", b"x=y")], {"user": "7"}, [OURS, ("baggage", b"x=y,user=7")]),
    "the same member": ([("baggage", b"user=8,x=%FF")], {"user": "7"}, [OURS, ("baggage", b"user=8,x=%FF")]),
    "two headers": ([("baggage", b"x=y"), ("BAGGAGE", b"z=1,")], {"u": "7"}, [OURS, ("baggage", b"x=y,z=1,u=7")]),
    "as text": ([("baggage", "x=y")], {"user": "7"}, [OURS, ("baggage", b"x=y,user=7")]),
    "null": ([("baggage", None)], {"user": "7"}, [OURS, ("baggage", b"user=7")]),
    "null and nothing": ([("baggage", None)], {}, [OURS]),
    "empty": ([("baggage", b"")], {"user": "7"}, [OURS, ("baggage", b"user=7")]),
    "too long to be read": (
        [("baggage", b"x=" + b"y" * 8_200)],
        {"user": "7"},
        [("baggage", b"x=" + b"y" * 8_200), OURS],
    ),
    "bytes that are no text": ([("baggage", b"x=\xff")], {"user": "7"}, [OURS, ("baggage", b"x=\xff,user=7")]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_applications_baggage_stays(propagation, case):
    """Its entries win; where there is nothing to add it stays as it was, where it was."""
    headers, members, written = CASES[case]
    before = list(headers)

    assert (propagation.write(headers, context(members)), headers) == (written, before)


STATES = {
    "of the application alone": (
        [("Tracestate", b"a=1"), ("b", b"2")],
        (),
        [("Tracestate", b"a=1"), ("b", b"2"), OURS],
    ),
    "both": ([("tracestate", b"a=1")], [("b", "2")], [OURS, ("tracestate", b"a=1,b=2")]),
    "the same member": ([("tracestate", b"b=1")], [("b", "2")], [OURS, ("tracestate", b"b=1")]),
    "not valid": ([("tracestate", b"A=1")], [("b", "2")], [("tracestate", b"A=1"), OURS]),
}


@pytest.mark.parametrize("case", STATES)
def test_the_applications_tracestate_stays(propagation, case):
    """Its entries win; one that is not valid would make both unreadable, so ours is left out."""
    headers, state, written = STATES[case]

    assert propagation.write(headers, context(state=state)) == written


def test_together_they_stay_within_the_limits(propagation):
    """32 members of tracestate; 180 members and 8,192 bytes of baggage. What is left out is ours."""
    state = [(f"k{at}", "1") for at in range(3)]
    headers = [("tracestate", b",".join(b"a%d=1" % at for at in range(30))), ("baggage", b"x=" + b"y" * 4_000)]
    written = dict(propagation.write(headers, context({"m": "v" * 4_000, "n": "v" * 200, "o": "v"}, state)))
    many = [("baggage", b",".join(b"a%d=1" % at for at in range(179)))]

    assert written["tracestate"].split(b",")[-3:] == [b"a29=1", b"k0=1", b"k1=1"]
    assert [part[:3] for part in written["baggage"].split(b",")] == [b"x=y", b"m=v", b"o=v"]
    assert propagation.write(many, context({"m": "1", "n": "2"}))[-1][1].endswith(b",a178=1,m=1")


def test_what_was_copied_along_is_replaced(propagation):
    """The message in hand has brought it: what the application has made of it in its context is written."""
    came = [("tracestate", b"a=1"), ("baggage", b"x=1,y=2;p"), ("traceparent", OLDER)]
    inside = baggage.remove_baggage("x", propagation.incoming(came, Context())[1])
    span = LightSpan(3, 3, 1, read_state=lambda: TraceState([("b", "2")]))
    forwarded = propagation.outgoing(came, span, inside)
    own = propagation.outgoing([*came, ("baggage", b"z=3")], span, inside)

    assert forwarded == [OURS, ("tracestate", b"b=2"), ("baggage", b"y=2;p")]
    assert own == [OURS, ("tracestate", b"b=2"), ("baggage", b"z=3,y=2;p")]
    assert propagation.outgoing(came, LightSpan(3, 3, 1), baggage.clear(inside)) == [OURS]


def test_the_last_valid_context_counts_and_the_others_are_linked(propagation):
    """Also where one of them is not valid, and where one comes twice."""
    headers = [("traceparent", each) for each in (OLDER, NEWER, OLDER, b"x")]
    created, _, carried, *_ = propagation.incoming(headers, Context())
    sampled = propagation.sampled(headers)
    alone = propagation.creation_links([("traceparent", NEWER), ("traceparent", NEWER)])

    assert (created.get_span_context().trace_id, carried == propagation.find(headers), sampled) == (1, True, True)
    assert [link.context.trace_id for link in propagation.creation_links(headers)] == [1, 2]
    assert ([link.context.trace_id for link in alone], COUNTED) == ([2], [])


BAD = {
    "baggage that is no text": (("baggage", 7), {}),
    "baggage of null": (("baggage", None), {}),
    "baggage that is too long": (("baggage", b"a=" + b"b" * 8_200), {}),
    "a member that does not decode": (("baggage", b"a=\xff,b=1"), {"b": "1"}),
    "tracestate that is no text": (("tracestate", 7), {}),
    "no pair": (7, {}),
    "a name that is no text": ((7, b"x"), {}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_costs_nothing_but_itself(propagation, case):
    """The sender's span is found all the same, and so is other baggage."""
    bad, members = BAD[case]
    created, inside, *_ = propagation.incoming([("traceparent", NEWER), bad, ("baggage", b"c=2")], Context())
    made = created.get_span_context()

    found = dict(baggage.get_all(inside))
    assert (made.trace_id, dict(made.trace_state)) == (2, {})
    assert found == {**members, "c": "2"} or (
        case in ("baggage that is no text", "baggage that is too long") and not found
    )


def test_both_ways_write_the_same_of_baggage():
    """A space is %20 whatever is configured beside it; properties stay."""
    headers = [("baggage", b"a=b%20c;p")]
    written = []
    for propagator in (get_global_textmap(), CompositePropagator([Other(), W3CBaggagePropagator()])):
        way = Propagation(propagator, COUNTED.append)
        inside = way.incoming(headers, Context())[1]
        written.append(dict(way.write(None, inside))["baggage"])

    assert written == [b"a=b%20c;p"] * 2
