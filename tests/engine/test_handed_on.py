"""What is written on when data that came from elsewhere is sent on, processed together, or seen without our header."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.context import Context, attach, get_current
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, get_current_span

from otel_pipeline import semconv
from otel_pipeline.brokers.kafka.client import NAMES
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.batch import batch_in_hand
from otel_pipeline.engine.clients import Producer
from otel_pipeline.engine.consumer_loop import Deliveries
from otel_pipeline.engine.exemplars import _show
from otel_pipeline.engine.inference import Inferences
from otel_pipeline.engine.origin import Origin, merge, origin_of
from otel_pipeline.engine.pipeline_header import FAN_IN, PER_PARTITION, decode, encode
from otel_pipeline.engine.process import Processing
from otel_pipeline.engine.propagation import Propagation
from otel_pipeline.engine.receive import _hand_out
from otel_pipeline.engine.send import _later_hop, destination_of, key_text, sender
from otel_pipeline.engine.span_shape import SpanShape
from tests.engine.test_trust import FIELDS, NOW_MS, Side, message

ORIGIN = Origin(origin_ms=5, newest_ms=5, hops=1, environment="test", path=7)


@pytest.fixture
def side():
    return Side(ALWAYS_ON)


@pytest.fixture
def producer():
    return Producer(
        attributes={},
        client_id=None,
        cluster_id=lambda: None,
        headers_allowed=True,
        excluded=False,
        numbers=None,
        read=lambda answer: answer,
        names=NAMES,
    )


def sent(side, producer, *, partition=None, offset=None):
    """The attributes of the span of a message that was acknowledged there."""
    sender(side.engine)(producer, "orders", None, None, b"v", None).finish(partition, offset)
    return dict(side.exporter.get_finished_spans()[-1].attributes)


@pytest.mark.parametrize(("partition", "offset"), [(0, 0), (1, 7)])
def test_where_a_message_went(side, producer, partition, offset):
    """Partition and offset are those of the acknowledgement, the first ones too."""
    attributes = sent(side, producer, partition=partition, offset=offset)

    assert attributes[semconv.MESSAGING_DESTINATION_PARTITION_ID] == str(partition)
    assert attributes[semconv.KAFKA_OFFSET] == offset


@pytest.mark.parametrize("unknown", [None, -1])
def test_where_a_message_went_is_not_known(side, producer, unknown):
    """-1 is the client's word for it; nothing is made up."""
    attributes = sent(side, producer, partition=unknown, offset=unknown)

    assert not {semconv.MESSAGING_DESTINATION_PARTITION_ID, semconv.KAFKA_OFFSET} & attributes.keys()


@pytest.mark.parametrize(
    ("key", "text"),
    [(b"a", "a"), (bytearray(b"a"), "a"), (b"\xff", None), ("a", "a"), (7, "7"), (None, None), (1.5, None)],
)
def test_keys_as_text(key, text):
    """What has one text form alone."""
    assert key_text(key) == text


@pytest.mark.parametrize(
    ("origin", "flags"),
    [
        (ORIGIN, PER_PARTITION),
        (ORIGIN._replace(inputs=2), PER_PARTITION | FAN_IN),
        (ORIGIN._replace(newest_ms=6), PER_PARTITION | FAN_IN),
    ],
    ids=["one", "several at once", "several before"],
)
def test_the_header_says_whether_data_was_joined(side, producer, origin, flags):
    """From several inputs, here or before."""
    destination = destination_of(side.engine, producer, "orders", "send")
    written = decode(_later_hop(side.engine, producer, destination, origin, PER_PARTITION))

    assert (written.flags, written.hops, written.origin_ms, written.newest_ms) == (flags, 2, 5, origin.newest_ms)


@pytest.mark.parametrize(("hops", "goes_on"), [(31, True), (32, False), (33, False)])
def test_the_path_ends_with_the_trace(side, producer, hops, goes_on):
    """After 32 hops it is no longer written on: it would go in circles."""
    destination = destination_of(side.engine, producer, "orders", "send")
    written = decode(_later_hop(side.engine, producer, destination, ORIGIN._replace(hops=hops), 0))

    assert (written.path != 7, written.hops) == (goes_on, hops + 1)


def test_origins_are_merged():
    """The oldest decides; newest, most hops and all inputs are kept beside it."""
    other = Origin(origin_ms=9, newest_ms=11, hops=4, environment="staging", path=8, inputs=2)

    assert merge([other, ORIGIN]) == Origin(5, 11, 4, "test", 7, 3)


@pytest.mark.parametrize(
    ("timestamp_ms", "origin_ms"), [(NOW_MS, NOW_MS), (1, 0), (0, 0), (-1, 0), (None, 0), ("7", 0), (True, 0)], ids=repr
)
def test_the_origin_of_a_message_without_a_header(timestamp_ms, origin_ms):
    """Its own time; 0 is unknown."""
    assert origin_of(None, timestamp_ms) == Origin(origin_ms, origin_ms, 1, None, 0)


def test_a_batch_has_no_partition_of_its_own(side):
    """Its messages may come from several; a message has one."""
    state = side.consumer.partition("orders", 0)
    one, several = side.processor.begin(state, message(1)), side.processor.begin_batch([state], [message(2)])
    partitions = one.partition, several.partition
    side.processor.finish(several)
    side.processor.finish(one)

    assert partitions == (0, None)


def test_the_age_of_a_batch(side):
    """That of its oldest data, to the millisecond."""
    state = side.consumer.partition("orders", 0)
    side.processor.finish(side.processor.begin_batch([state, state], [message(1, hops=2), message(2)]))
    (span,) = side.exporter.get_finished_spans()

    assert span.attributes["otel_pipeline.data.age"] == pytest.approx(2.0, abs=1e-6)
    assert span.attributes["otel_pipeline.hops"] == 2


def test_nothing_was_handed_out_yet(side):
    """By a consumer whose partition is met for the first time; its first message is not taken for an older one."""
    assert side.consumer.partition("orders", 0).handed_offset == -1


class Observer:
    def __init__(self):
        self.shown = []

    def exemplify(self, _span, oldest_ms, _end_ns):
        self.shown.append(oldest_ms)


@pytest.mark.parametrize(("origins_ms", "shown"), [((0, 1, 5), [1]), ((0,), []), ((-1, 3), [1])])
def test_the_exemplar_of_a_batch(side, origins_ms, shown):
    """Its oldest message whose age is known, or a bound of it."""
    observer = Observer()
    span = side.engine.spans.start(SpanShape("a", SpanKind.INTERNAL, {}), (), None, Context(), (), 1).get_span_context()
    _show((span, None, None, None, [(observer, 0, origin) for origin in origins_ms], 0, 0, 0))

    assert observer.shown == shown


def test_the_sampled_flag_of_other_propagators():
    """Read through their own API."""
    propagation = Propagation(B3MultiFormat(), lambda _reason: None)
    ids = [("x-b3-traceid", b"%032x" % 1), ("x-b3-spanid", b"%016x" % 2)]

    assert [
        propagation.sampled(headers)
        for headers in ([*ids, ("x-b3-sampled", b"1")], [*ids, ("x-b3-sampled", b"0")], [("a", b"b")], [], None)
    ] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (b"00-%032x-%016x-01", True),
        (b"00-%032x-%016x-00", False),
        (b"00-%032x-%016x-03", True),
        (b"00-%032x-%016x-10", False),
        (b"01-%032x-%016x-01-more", True),
    ],
)
def test_the_sampled_flag(value, sampled):
    """Of this version and of later ones."""
    propagation = Side(ALWAYS_ON).engine.propagation

    assert propagation.sampled([("traceparent", value % (1, 2))]) is sampled


@pytest.mark.parametrize("version", [0, 2])
def test_hops_of_another_version(version):
    """They are not known."""
    value = encode(
        flags=0, hops=5, environment=None, origin_ms=1, newest_ms=1, path=1, producer_id=1, sequence=1, tag=1
    )
    raw = pipeline_header.a2b_base64(value.translate(pipeline_header.STANDARD))
    other = pipeline_header.b2a_base64(bytes((version,)) + raw[1:], newline=False)

    assert (pipeline_header.hops_of(value), pipeline_header.hops_of(other)) == (5, 0)


def test_a_generator_that_is_left_and_entered_again(side):
    """Its message is current while its own code runs; what was current before is so in between."""
    state = side.consumer.partition("orders", 0)
    before = get_current()
    processing = Processing(None, None)
    processing._delivery = delivery = side.processor.begin(state, message(1))
    processing._processor = side.processor
    processing.suspend()
    between = get_current()
    processing.suspend()
    processing.resume()
    current = get_current()
    processing.resume()
    processing.finish(None)

    assert (between is before, current is delivery.own or get_current_span(current) is delivery.span) == (True, True)
    assert get_current() is before


def test_an_adopted_message_stays_the_iterators(side):
    """Neither left nor entered by who processes it; what it raised is told to the iterator."""
    state = side.consumer.partition("orders", 0)
    processing = Processing(None, None)
    processing._delivery = delivery = side.processor.begin(state, message(1))
    processing._processor, processing._adopted = side.processor, True
    error = KeyError()
    attach(Context({"the application's": 1}))
    around = get_current()
    processing.suspend()
    processing.resume()
    stayed = get_current() is around
    attach(delivery.own)
    processing.suspend()
    current = stayed and get_current() is delivery.own
    processing.finish(error)
    told = delivery.error, delivery.ended
    side.processor.finish(delivery)

    assert (current, told) == (True, (error, False))


def test_how_long_what_fails_took(side):
    """A message whose handler raised, and a model call that did, in seconds."""
    state = side.consumer.partition("orders", 0)
    delivery = side.processor.begin(state, message(1))
    side.now_ns += 250_000_000
    side.processor.finish(delivery, KeyError())
    inferences = Inferences(
        spans=side.engine.spans,
        totals=side.engine.totals,
        guard=side.engine.guard,
        clock_ns=lambda: side.now_ns,
        monotonic_ns=lambda: side.now_ns,
    )
    call = inferences.begin("m")
    side.now_ns += 500_000_000
    call.finish(KeyError())
    call.finish(KeyError())
    took = {
        attributes["error.type"]: (point.count, point.sum)
        for histogram in (side.engine.process_duration, inferences.duration)
        for attributes, point in histogram.points()
    }
    counted = [(point.count, point.sum) for _, point in inferences.duration.points()]

    assert (took, counted) == ({"KeyError": (1, 0.5)}, [(1, 0.5)])
    assert [point.sum for _, point in side.engine.process_duration.points()] == [0.25]


def test_a_context_that_the_application_wrote_is_linked(side, producer):
    """The send is a CLIENT span then: the creation is the application's own."""
    headers = [("traceparent", b"00-%032x-%016x-01" % (7, 8))]
    sender(side.engine)(producer, "orders", None, None, b"v", headers).finish(0, 0)
    sender(side.engine)(producer, "orders", None, None, b"v", None).finish(0, 0)

    assert [
        (span.kind.name, [link.context.trace_id for link in span.links]) for span in side.exporter.get_finished_spans()
    ] == [("CLIENT", [7]), ("PRODUCER", [])]


@pytest.mark.parametrize("environment", ["staging", "my-own", None])
def test_the_environment_where_data_began(side, environment):
    """On the span of every message that says it."""
    side.process(message(1, environment))
    (span,) = side.exporter.get_finished_spans()

    assert span.attributes.get("otel_pipeline.origin.environment") == environment
    assert (span.attributes["otel_pipeline.data.age"], span.attributes["otel_pipeline.hops"]) == (2.0, 1)


def test_exemplars_are_asked_for(side):
    """Nothing is kept where nobody exports them."""
    assert side.engine.totals.exemplars is False


def test_a_loop_that_is_left_leaves_its_own_message():
    """Not the one that another loop over the same consumer has handed out since."""
    consumer, left = SimpleNamespace(open=None), []

    def loop(name):
        consumer.open = name
        deliveries = Deliveries(iter([name]), consumer, SimpleNamespace(loop_left=left.append))
        next(deliveries)
        return deliveries

    first, second = loop("first"), loop("second")
    del first
    before = list(left)
    del second

    assert (before, len(left)) == ([], 1)


@pytest.mark.parametrize(("off", "told"), [(False, 1), (True, 0)])
def test_a_pull_that_nobody_is_told_of(side, off, told):
    """Once telling of them is switched off, none is."""
    batches = []
    side.engine.observe = lambda _consumer, _state: SimpleNamespace(
        batch=lambda messages, _headers, _now_ms: batches.append(messages) or [0] * len(messages)
    )
    side.consumer.partition("orders", 0)
    side.engine.guard.place("batch").off = off
    _hand_out(side.engine, FIELDS, side.consumer, [[message(1)]])
    batch_in_hand.set(None)

    assert len(batches) == told
