"""confluent-kafka's share consumers on the embedded broker: what is returned, answered for, delivered again, not judged."""

from __future__ import annotations

import time
from collections import Counter

import pytest

import otel_pipeline
from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.detectors.order import VIOLATIONS
from otel_pipeline.engine.driven import DrivenList

confluent_kafka = pytest.importorskip("confluent_kafka")
if not hasattr(confluent_kafka, "ShareConsumer"):
    pytest.skip("this version has no share consumers", allow_module_level=True)
from confluent_kafka import AcknowledgeType, DeserializingShareConsumer, Producer, ShareConsumer, cimpl  # noqa: E402
from confluent_kafka._model import Messages  # noqa: E402
from confluent_kafka.serialization import StringDeserializer  # noqa: E402

PATIENCE_S = 20


@pytest.fixture
def made(embedded):
    """Clients that are ended with the test."""
    found = []

    def make(kind=ShareConsumer, group="readers", **settings):
        found.append(kind({"bootstrap.servers": embedded, "log_level": 0, "group.id": group, **settings}))
        return found[-1]

    yield make
    for client in found:
        client.close()


@pytest.fixture
def produce(embedded):
    producer = Producer({"bootstrap.servers": embedded, "linger.ms": 0, "log_level": 0})

    def send(topic, *values):
        for value in values:
            producer.produce(topic, value, partition=0)
        assert producer.flush(PATIENCE_S) == 0

    return send


@pytest.fixture
def instrument(telemetry):
    def instrumented(**arguments):
        telemetry.real_time()
        return telemetry.instrument(libraries=["confluent-kafka"], **arguments)

    return instrumented


def polled(consumer):
    deadline = time.monotonic() + PATIENCE_S
    while not (messages := consumer.poll(0.5)):
        assert time.monotonic() < deadline
    return messages


def spans(telemetry):
    """How many there are by name."""
    return dict(Counter(f"{span.name} {span.kind}" for span in telemetry.spans()))


def outcome(act):
    try:
        return act()
    except BaseException as error:
        return type(error), str(error)


def test_what_is_returned_is_what_the_client_returns(made, mock, produce, instrument):
    """The client's own sequence, with all that it can do; copies and slices are plain."""
    topic = mock.topic()
    instrument()
    produce(topic, b"a", b"b", b"c")
    consumer = made()
    consumer.subscribe([topic])
    found = polled(consumer)
    values = [message.value() for message in found]

    assert (type(found), type(found[:2]), type(found[0])) == (Messages, Messages, cimpl.Message)
    assert (type(found.records()), type(found._records), type(found[:2]._records)) == (list, DrivenList, list)
    assert (values, found.count(), len(found), found.is_empty()) == ([b"a", b"b", b"c"], 3, 3, False)
    assert (found[-1].value(), found.records()[1].value(), repr(found)[:10]) == (b"c", b"b", "Messages([")


def test_what_a_loop_sends_is_the_messages(made, mock, produce, instrument, telemetry):
    """Each message of a loop that looks has a span below its sender's; the group's name is known."""
    topic, target = mock.topic(), mock.topic()
    instrument()
    produce(topic, b"a", b"b")
    consumer = made()
    consumer.subscribe([topic])
    for message in polled(consumer):
        produce(target, message.value())
    consumer.close()
    found = telemetry.spans()
    sent = {span.span_id for span in found if span.name == f"produce {topic}"}
    processed = {span.span_id: span for span in found if span.kind == "CONSUMER"}

    assert spans(telemetry) == {
        f"produce {topic} PRODUCER": 2,
        f"poll {topic} CLIENT": 1,
        f"process {topic} CONSUMER": 2,
        f"produce {target} PRODUCER": 2,
    }
    assert {span.parent_span_id for span in processed.values()} == sent
    assert {span.parent_span_id for span in found if span.name == f"produce {target}"} == set(processed)
    assert {span.attributes["messaging.consumer.group.name"] for span in processed.values()} == {"readers"}


def test_what_is_released_is_delivered_again_and_counted_so(made, mock, produce, instrument):
    """Exactly, by the broker's own count; of order and pace nothing is said, with the reason."""
    topic = mock.topic()
    pipe = instrument()
    produce(topic, *[b"%d" % number for number in range(10)])
    consumer = made(**{"share.acknowledgement.mode": "explicit"})
    consumer.subscribe([topic])
    first = polled(consumer)
    for message in first:
        consumer.acknowledge(message, AcknowledgeType.RELEASE if message.offset() < 4 else AcknowledgeType.ACCEPT)
    consumer.commit_sync()
    again = polled(consumer)
    for message in again:
        with otel_pipeline.process(message, consumer=consumer):
            consumer.acknowledge(message)
    answers = consumer.commit_sync()
    (evidence,) = [each for each in pipe._monitoring.evidence() if each.key.destination == topic and each.key.group]
    (flow,) = [each for each in pipe.health().flows if each.destination == topic]
    metrics = {metric.name for metric in pipe._engine.totals.gauges for _ in metric.points()}
    lights = {name: (flow.lights[name].state, flow.lights[name].why) for name in ("order", "pace")}

    assert ([message.offset() for message in again], list(answers.values())) == ([0, 1, 2, 3], [None])
    assert {kind: count for kind, count in evidence.counts.of(VIOLATIONS).items() if count} == {("redelivered",): 4}
    assert evidence.messages == 14
    unknown = ("grey", "not known: a share group hands each message to one of its consumers, in no order")
    assert lights == {"order": ("amber", "4 of 14 messages were delivered again"), "pace": unknown}
    assert flow.lights["order"].look == "releases, and handlers that take longer than a lock of the share group lasts"
    assert "otel_pipeline.consumer.offset" not in metrics
    assert pipe.status().errors == {}


def test_the_order_of_a_share_group_is_not_known(made, mock, produce, instrument):
    """However many messages have come, each once."""
    topic = mock.topic()
    pipe = instrument()
    produce(topic, *[b"%d" % number for number in range(200)])
    consumer, seen = made(), 0
    consumer.subscribe([topic])
    while seen < 200:
        seen += len(polled(consumer))
    (flow,) = [each for each in pipe.health().flows if each.destination == topic]

    why = "not known: a share group hands each message to one of its consumers, in no order"
    assert {(flow.lights[name].state, flow.lights[name].why) for name in ("order", "pace")} == {("grey", why)}


def bad(made, mock, produce):
    """Calls that the client refuses, and what it says."""
    topic = mock.topic()
    produce(topic, b"a")
    explicit = made(group="explicit", **{"share.acknowledgement.mode": "explicit"})
    explicit.subscribe([topic])
    message = polled(explicit)[0]
    found = [
        outcome(lambda: explicit.poll(0.1)),  # It has not answered for what it has.
        outcome(lambda: explicit.poll("soon")),
        outcome(lambda: explicit.poll(nonsense=1)),
        outcome(lambda: explicit.acknowledge(message, 17)),
        outcome(lambda: explicit.acknowledge(message)),
        outcome(lambda: explicit.commit_sync("soon")),
        [str(error) for error in explicit.commit_sync().values()],
        outcome(lambda: made(nonsense=1)),
        outcome(ShareConsumer),
        outcome(lambda: ShareConsumer(5)),
    ]
    explicit.close()
    return [*found, outcome(lambda: explicit.poll(0)), outcome(explicit.commit_sync), outcome(explicit.close)]


def test_errors_are_the_clients_own(made, mock, produce, instrument):
    """Word for word as without us."""
    bare = bad(made, mock, produce)
    pipe = instrument()

    assert bad(made, mock, produce) == bare
    assert sum(type(each) is tuple for each in bare) >= 8
    assert pipe.status().errors == {}


def test_what_a_deserializer_does_not_take_is_in_hand_and_counted(made, mock, produce, instrument, telemetry, tmp_path):
    """The client leaves it in what it returns; a loop has one span for each message, and none is made by the client."""
    topic, target = mock.topic(), mock.topic()
    (tmp_path / f"{topic}.json").write_text(Contract(topic, {"$": Field(("str",), True)}).dumps())
    file = tmp_path / "otel_pipeline.yaml"
    file.write_text(f"contracts: {{directory: '{tmp_path}'}}")
    pipe = instrument(config_file=file)
    produce(topic, b"fine", b"\xff\xfe")
    consumer = made(DeserializingShareConsumer, **{"value.deserializer": StringDeserializer("utf_8")})
    consumer.subscribe([topic])
    found = []
    for message in polled(consumer):
        found.append((message.value(), message.error() and message.error().name()))
        produce(target, b"seen")
    consumer.close()
    contract = pipe._monitoring.contracts.counts(topic, "consumer")
    unreadable = {label.values: count for label, count in contract.items() if count and "unreadable" in label.values}

    assert found == [("fine", None), (b"\xff\xfe", "_VALUE_DESERIALIZATION")]
    assert (spans(telemetry)[f"process {topic} CONSUMER"], list(unreadable.values())) == (2, [1])
    assert pipe.status().errors == {}


def test_what_an_exception_of_the_application_has_kept_comes_with_the_next_call(made, mock, produce, instrument):
    """As Ctrl-C would right before `poll` returns: in the client's own sequence, and nothing is lost."""
    topic = mock.topic()
    pipe = instrument()
    produce(topic, b"a", b"b")
    consumer = made()
    consumer.subscribe([topic])
    deadline, found = time.monotonic() + PATIENCE_S, None
    (known,) = pipe._engine.consumers.all()
    known.polling = Interrupted(known.polling)
    try:
        while not found:
            assert time.monotonic() < deadline
            found = consumer.poll(0.5)
    except KeyboardInterrupt:
        found = None
    known.polling = known.polling.plain
    again = polled(consumer)

    assert found is None
    assert (type(again), [message.value() for message in again]) == (Messages, [b"a", b"b"])


class Interrupted:
    """A consumer's `Polling` at whose end the application is interrupted, once there were messages."""

    def __init__(self, plain):
        self.plain = plain

    def __getattr__(self, name):
        return getattr(self.plain, name)

    def end(self, now_ns):
        self.plain.end(now_ns)
        raise KeyboardInterrupt
