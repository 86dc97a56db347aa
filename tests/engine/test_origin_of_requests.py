"""Where data began, over hops that are no messages: the propagator for HTTP and gRPC, and the member of tracestate."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from otel_pipeline.engine import origin_state, pipeline_propagator
from otel_pipeline.engine.batch import Batch, batch_in_hand, origin_in_hand
from otel_pipeline.engine.clients import Producer
from otel_pipeline.engine.headers import own_header, own_headers
from otel_pipeline.engine.merged import put_member
from otel_pipeline.engine.origin import Origin
from otel_pipeline.engine.pipeline_header import ENVIRONMENT_CODES, FAN_IN, PER_PARTITION, decode, encode
from otel_pipeline.engine.pipeline_propagator import PipelinePropagator
from otel_pipeline.engine.request import origin_of_request
from otel_pipeline.engine.send import sender
from otel_pipeline.engine.trace_context import LightSpan
from tests.engine.test_trust import Side, message
from tests.limits import below_at_above

NOW_MS = time.time_ns() // 1_000_000
BEGAN_MS = NOW_MS - 5_000
TRACE = b"00-%032x-%016x-01" % (1, 2)
PROPAGATOR = PipelinePropagator()


@pytest.fixture(autouse=True)
def own_context():
    before = attach(Context())
    pipeline_propagator.activate("production")
    yield before
    pipeline_propagator.activate(None)
    batch_in_hand.set(None)
    attach(Context())


def carried(**fields):
    said = {"flags": 0, "hops": 1, "environment": "test", "origin_ms": BEGAN_MS, "newest_ms": BEGAN_MS, "path": 1}
    return {"otelp": encode(**{**said, "producer_id": 2, "sequence": 3, "tag": 4, **fields}).decode()}


def injected(context):
    carrier = {}
    PROPAGATOR.inject(carrier, context)
    return decode(carrier["otelp"])


# The propagator


@pytest.mark.parametrize(("flags", "written"), [(PER_PARTITION, 0), (FAN_IN, FAN_IN), (FAN_IN | PER_PARTITION, FAN_IN)])
def test_our_propagator_writes_the_header_on(flags, written):
    """One hop further, without a number: of the flags it keeps whether data was joined."""
    found = injected(PROPAGATOR.extract(carried(flags=flags, newest_ms=BEGAN_MS + 4), Context()))

    assert (found.flags, found.hops, found.environment, found.origin_ms) == (written, 2, "test", BEGAN_MS)
    assert (found.path, found.producer_id, found.sequence, found.tag) == (1, 0, 0, 0)


def test_our_propagator_reads_into_the_current_context():
    """Where it is given none; and into the given one where it is given one."""
    attach(Context({"a": 1}))
    current, given_one = PROPAGATOR.extract(carried()), PROPAGATOR.extract(carried(), Context({"b": 2}))

    assert (current.get("a"), given_one.get("a"), given_one.get("b")) == (1, None, 2)


def test_of_several_headers_the_last_one_counts():
    """As everywhere; one that cannot be read is none."""
    several = {"otelp": [carried(hops=3)["otelp"], carried(hops=7)["otelp"]]}
    context = Context()

    assert injected(PROPAGATOR.extract(several, context)).hops == 8
    assert PROPAGATOR.extract({"otelp": [carried()["otelp"], "not readable"]}, context) is context
    assert PROPAGATOR.extract({}, context) is context


def test_without_anything_in_hand_the_data_begins_here():
    """In the environment of this process, at its first hop."""
    found = injected(Context({"a": 1}))

    assert (found.hops, found.environment, found.flags) == (1, "production", 0)
    assert NOW_MS <= found.origin_ms <= time.time_ns() // 1_000_000


def test_in_a_handler_the_origin_is_that_of_its_message():
    """And not of the request that the process serves besides; of a batch, until the next one, its oldest."""
    side = Side(ALWAYS_ON)
    attach(PROPAGATOR.extract(carried(environment="staging"), Context()))
    batch = Batch()
    batch.add(None, 1, [carried(environment="local", hops=5)["otelp"]], [BEGAN_MS])
    batch_in_hand.set(batch)
    of_batch = injected(None)
    delivery = side.processor.begin(side.consumer.partition("orders", 0), message(1, "test", hops=3))
    of_message = injected(None)
    side.processor.finish(delivery)

    assert [(each.environment, each.hops) for each in (of_batch, of_message)] == [("local", 6), ("test", 4)]


# What rests on a request


@pytest.fixture
def send():
    """The header of a message that is sent now, by a producer of staging."""
    side = Side(ALWAYS_ON, environment="staging")
    begin, producer = sender(side.engine), Producer(attributes={})

    def act(headers=None):
        return decode(dict(begin(producer, "orders", None, None, b"v", headers).headers)["otelp"])

    return act


def test_what_is_sent_while_a_request_is_served_rests_on_it(send):
    """A request's header reaches a message; a header in the application's own list is nearer, a message in hand too."""
    first = send()
    attach(PROPAGATOR.extract(carried(), Context()))
    found, own = send(), send([("otelp", carried(environment="local", hops=4)["otelp"].encode())])

    assert [(each.hops, each.environment) for each in (first, found, own)] == [
        (1, "staging"),
        (2, "test"),
        (5, "local"),
    ]
    assert (found.origin_ms, origin_in_hand()) == (BEGAN_MS, Origin(BEGAN_MS, BEGAN_MS, 1, "test", 1))


@pytest.mark.parametrize("kind", ["the SDK's", "light"])
def test_a_request_behind_a_service_without_this_package(send, kind):
    """`tracestate` has come through, with where its data began."""
    state = TraceState([("a", "1"), ("otelp", origin_state.member(BEGAN_MS, "local"))])
    made = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    span = NonRecordingSpan(made) if kind == "the SDK's" else LightSpan(1, 2, 1, True, lambda: state)
    attach(set_span_in_context(span, Context()))
    found = send()

    assert (found.hops, found.environment, found.origin_ms) == (2, "local", BEGAN_MS)
    assert origin_of_request(get_current()) == Origin(BEGAN_MS, BEGAN_MS, 1, "local", 0)


@pytest.mark.parametrize(
    "context",
    [
        Context(),
        Context({"a": 1}),
        set_span_in_context(LightSpan(1, 2, 1), Context()),
        set_span_in_context(LightSpan(1, 2, 1, True, lambda: None), Context()),
        set_span_in_context(LightSpan(1, 2, 1, True, lambda: TraceState([("otelp", "x")])), Context()),
    ],
    ids=["empty", "no span", "no state", "a state that cannot be read", "a member that cannot be read"],
)
def test_a_request_of_which_nothing_is_known(context):
    """It has no origin."""
    assert origin_of_request(context) is None


# The member of tracestate


NAMES = st.one_of(st.sampled_from([None, *ENVIRONMENT_CODES]), st.text(min_size=1, max_size=8))


@settings(max_examples=200)
@given(st.integers(0, 2**48 - 1), NAMES)
def test_what_is_written_is_read(origin_ms, environment):
    """In 40 bytes at most with its name, of letters that a tracestate may have."""
    value = origin_state.member(origin_ms, environment)
    found = decode(origin_state.read(value))
    cut = None if environment is None else environment.encode("utf-8", "ignore")[:16].decode("utf-8", "ignore")

    assert (found.origin_ms, found.environment, found.hops, found.producer_id) == (origin_ms, cut, 1, 0)
    assert len(f"otelp={value}") <= 40
    assert value.replace("-", "").replace("_", "").isalnum()
    assert value.isascii()


@below_at_above("engine.origin_state._MAX_CHARACTERS", 32, True, True, False)
def test_a_long_member(size, outcome):
    """The longest has a name of 16 bytes; one that is longer is somebody else's."""
    value = origin_state.member(BEGAN_MS, "e" * 16)[:size] + "A" * (size - 32)

    assert (origin_state.read(value) is not None) == outcome


@below_at_above("engine.origin_state._FIXED_BYTES", 8, None, "local", "local")
def test_a_short_member(size, outcome):
    """Version, origin and environment."""
    raw = bytes((1,)) + BEGAN_MS.to_bytes(6, "big") + bytes((1, 7))
    found = origin_state.read(origin_state.b2a_base64(raw[:size], newline=False).decode().strip("="))

    assert (None if found is None else decode(found).environment) == outcome


@pytest.mark.parametrize(
    "value", ["", "x", "é" * 11, "A" * 11, "Ag" + "A" * 9, origin_state.member(5, "e" * 16)[:-1] + "_"]
)
def test_what_cannot_be_read_is_none(value):
    """Empty, no base64, of another version, half of a character."""
    found = origin_state.read(value)

    assert found is None or decode(found).environment != "e" * 16


def member_pair(environment="local", more=b""):
    return ("tracestate", b"a=1,otelp=%b%b" % (origin_state.member(BEGAN_MS, environment).encode(), more))


@pytest.mark.parametrize(
    ("headers", "environment"),
    [
        ([("traceparent", TRACE), member_pair()], "local"),
        ([("TraceState", member_pair(more=b" , b=2")[1])], "local"),
        ([("tracestate", b"b=2"), member_pair()], "local"),
        ({"tracestate": member_pair()[1].decode()}, "local"),
        ([7, member_pair()], "local"),
        ([member_pair(), ("otelp", carried()["otelp"].encode()), ("a", b"1")], "test"),
        ([("tracestate", b"a=1")], None),
        ([("tracestate", None)], None),
        ([("tracestate", b"otelp=" + b"x" * 10_000)], None),
    ],
    ids=["a member", "any case", "two headers", "a mapping", "beside no pair", "both", "none", "null", "too long"],
)
def test_a_message_whose_header_was_not_handed_on(headers, environment):
    """Its member of tracestate stands for it; the header itself is better. Alone and in a batch."""
    engine = Side(ALWAYS_ON).engine
    *_, header, said = engine.propagation.incoming(headers, Context())
    read = None if header is None else decode(header)

    assert header == own_header(headers) == own_headers(lambda each: each, [headers])[0]
    assert (said is None, None if read is None else read.environment) == (environment is None, environment)


def test_the_member_is_put_in_front():
    """Of those that were there, in place of an older one; our own header stays the last."""
    headers = [("tracestate", b"a=1"), ("traceparent", TRACE), ("TraceState", b"otelp=old,b=2"), ("otelp", b"x")]
    put_member(headers, "otelp", "new")

    assert headers == [("traceparent", TRACE), ("tracestate", b"otelp=new,a=1,b=2"), ("otelp", b"x")]


@pytest.mark.parametrize("headers", [[("a", b"1")], [("traceparent", TRACE), ("tracestate", b"A=1"), ("a", b"1")]])
def test_the_member_is_left_out(headers):
    """Where nobody would read it, or where what the application has written cannot be read."""
    before = list(headers)
    put_member(headers, "otelp", "new")

    assert headers == before


def test_a_full_tracestate_loses_its_last_member():
    """32 are the most, and who writes comes first."""
    headers = [("traceparent", TRACE), ("tracestate", b",".join(b"k%d=1" % at for at in range(32))), ("otelp", b"x")]
    put_member(headers, "otelp", "new")
    members = headers[1][1].split(b",")

    assert (len(members), members[0], members[-1]) == (32, b"otelp=new", b"k30=1")
