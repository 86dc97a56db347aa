"""confluent-kafka on its embedded broker: what holds for this client alone."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time

import pytest
from opentelemetry import trace

from otel_pipeline.brokers.kafka import confluent_kafka_clients as clients
from otel_pipeline.brokers.kafka.confluent_kafka_consumers import by_partition
from otel_pipeline.engine import immutable_types

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import Consumer, Producer, TopicPartition, cimpl  # noqa: E402

TRACER = trace.get_tracer("application")


class EarlyProducer(Producer):
    """Defined before anything is instrumented; calls the method it inherits."""

    def produce(self, topic, value, **more):
        return super().produce(topic, value + b"!", **more)


@pytest.fixture
def made(embedded):
    """Clients that are ended with the test."""
    found = []

    def make(kind, **settings):
        consumes = {"group.id": "readers", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50}
        usual = consumes if issubclass(kind, Consumer) else {"linger.ms": 0}
        found.append(kind({"bootstrap.servers": embedded, "log_level": 0, **usual, **settings}))
        return found[-1]

    yield make
    for client in found:
        if isinstance(client, Consumer):
            client.close()
        else:
            client.purge()
            client.flush(5)


@pytest.fixture
def instrument(telemetry):
    def instrumented(**arguments):
        telemetry.real_time()
        return telemetry.instrument(libraries=["confluent-kafka"], **arguments)

    return instrumented


def polled(consumer, count):
    """What comes, messages or not, but for nothing."""
    found, deadline = [], time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline
        message = consumer.poll(0.5)
        if message is not None:
            found.append(message)
    return found


def names(telemetry, kind="PRODUCER"):
    return [span.name for span in telemetry.spans() if span.kind == kind]


def test_what_was_there_before_is_instrumented_too(made, mock, instrument, telemetry):
    """Clients that were made, names that were imported and subclasses that were defined before."""
    topic, early, subclass = mock.topic(), made(Producer), made(EarlyProducer)
    reader = made(Consumer)
    instrument()
    early.produce(topic, b"a", partition=0)
    early.flush(10)
    subclass.produce(topic, b"b", partition=0, on_delivery=lambda *_: None)
    subclass.flush(10)
    reader.assign([TopicPartition(topic, 0, 0)])
    values = {message.value() for message in polled(reader, 2)}
    reader.close()

    assert values == {b"a", b"b!"}
    assert sorted(span.kind for span in telemetry.spans()) == ["CONSUMER", "CONSUMER", "PRODUCER", "PRODUCER"]
    # Which of its settings it has is not known: its own callback, perhaps, must not be replaced.
    assert {span.attributes.get("kafka.offset") for span in telemetry.spans() if span.kind == "PRODUCER"} == {None, 1}


def test_everything_is_put_back(instrument):
    """The very same objects, and classes that refuse a change again."""
    kinds = [
        getattr(cimpl, name) for name in ("Producer", "Consumer", "Message", "ShareConsumer") if hasattr(cimpl, name)
    ]
    bare = {kind: dict(vars(kind)) for kind in kinds}
    pipe = instrument()
    changed = {kind.__name__ for kind, before in bare.items() if dict(vars(kind)) != before}
    pipe.uninstrument()

    assert changed == {"Producer", "Consumer"} | {kind.__name__ for kind in kinds[3:]}
    assert all(vars(kind)[name] is value for kind, before in bare.items() for name, value in before.items())
    with pytest.raises(TypeError):
        Producer.produce = None


def status(pipe):
    (found,) = [each for each in pipe.status().adapters if each.name == "confluent-kafka"]
    return found.state, found.reason


def test_names_are_rebound_where_classes_cannot_be_changed(made, mock, instrument, telemetry, monkeypatch):
    """The status says which way it was, and whom it does not see."""
    topic, early = mock.topic(), made(Producer)
    pipe = instrument()
    state, reason = status(pipe)
    pipe.uninstrument()
    monkeypatch.setattr(immutable_types, "_FIELDS", [])
    pipe = instrument()
    otherwise = status(pipe)
    for producer in (early, made(confluent_kafka.Producer)):
        producer.produce(topic, b"a", partition=0)
        producer.flush(10)
    reader = made(confluent_kafka.Consumer)
    reader.assign([TopicPartition(topic, 0, 0)])
    values = [message.value() for message in polled(reader, 2)]
    reader.close()
    pipe.uninstrument()

    assert (state, reason.partition(";")[0]) == ("instrumented", "its C classes are patched in place")
    assert otherwise[1].startswith("its C classes cannot be patched in place by this Python: not seen are clients that")
    assert (values, names(telemetry), len(names(telemetry, "CONSUMER"))) == ([b"a", b"a"], [f"produce {topic}"], 2)
    assert (confluent_kafka.Producer is Producer, cimpl.Producer is Producer) == (True, True)


def outcome(act):
    try:
        return act()
    except BaseException as error:
        return type(error), str(error)


def nobody(*_answer):
    """A callback that wants nothing."""


CALLS = {
    "topic alone": (("t",), {}),
    "by position": (("t", b"v", b"k", -1, nobody, None, 0, [("a", b"1")]), {}),
    "by name": ((), {"topic": "t", "value": b"v", "headers": {"a": b"1"}}),
    "nothing": ((), {}),
    "no partition": (("t", b"v"), {"partition": None}),
    "no timestamp": (("t", b"v"), {"timestamp": None}),
    "no callback": (("t", b"v"), {"on_delivery": None, "callback": None}),
    "no headers": (("t", b"v"), {"headers": None}),
    "an unknown name": (("t", b"v"), {"nonsense": 1}),
    "twice": (("t", b"v"), {"topic": "t"}),
    "too many": (("t", b"v", b"k", -1, None, None, 0, None, None, None), {}),
    "a topic that is none": ((5, b"v"), {}),
    "a value that is none": (("t", object), {}),
    "a key that is none": (("t", b"v", 5), {}),
    "a partition that is none": (("t", b"v", b"k", "0"), {}),
    "a partition there is not": (("t", b"v", b"k", 10_000), {}),
    "a tuple of headers": (("t", b"v"), {"headers": (("a", b"1"),)}),
    "a list as pair": (("t", b"v"), {"headers": [["a", b"1"]]}),
    "a number in headers": (("t", b"v"), {"headers": [("a", 1)]}),
    "bytes as name": (("t", b"v"), {"headers": [(b"a", b"1")]}),
    "bytes as name of a dictionary": (("t", b"v"), {"headers": {b"a": b"1"}}),
    "a number in a dictionary": (("t", b"v"), {"headers": {"a": 1}}),
    "empty headers": (("t", b"v"), {"headers": []}),
    "None as header": (("t", b"v"), {"headers": {"a": None, "b": "text"}}),
    "too large": (("t", b"v" * 2_000_000), {}),
}


@pytest.mark.parametrize(("args", "kwargs"), CALLS.values(), ids=CALLS)
def test_a_call_gives_what_it_gives_without_us(made, instrument, args, kwargs):
    """Result and error, word for word."""
    nowhere = {"bootstrap.servers": "127.0.0.1:1"}
    bare = outcome(lambda: made(Producer, **nowhere).produce(*args, **kwargs))
    pipe = instrument()
    ours = outcome(lambda: made(Producer, **nowhere).produce(*args, **kwargs))

    assert ours == bare
    assert sum(pipe.status().errors.values()) == 0


MADE = {
    "none": ((), {}),
    "no dictionary": ((5,), {}),
    "two": (({}, {}), {}),
    "an unknown setting": (({"nonsense": 1},), {}),
    "an error_cb that is none": (({"error_cb": 5},), {}),
    "by name": ((), {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}),
    "both": (({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"},), {"log_level": 0}),
    "a logger": (({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"},), {"logger": logging.getLogger("theirs")}),
}


@pytest.mark.parametrize("kind", [Producer, Consumer])
@pytest.mark.parametrize(("args", "kwargs"), MADE.values(), ids=MADE)
def test_a_client_is_made_as_without_us(instrument, kind, args, kwargs):
    """And what the application gave is not changed."""

    def make():  # `**{}` is something else to the client than nothing.
        return type(kind(*args, **kwargs) if kwargs else kind(*args))

    bare = outcome(make)
    pipe = instrument()
    before = repr((args, kwargs))
    ours = outcome(make)

    assert (ours, repr((args, kwargs))) == (bare, before)
    assert sum(pipe.status().errors.values()) == 0


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ({"callback": "first", "on_delivery": "second"}, ["first"]),
        ({"on_delivery": "second"}, ["second"]),
        ({}, ["of the settings"]),
    ],
)
def test_one_callback_is_called(made, mock, instrument, telemetry, given, called):
    """The one that the client would call, once, in the context of its send."""
    instrument()
    seen = []

    def named(name):
        return lambda error, message: seen.append((name, error, message.offset(), current()))

    producer = made(Producer, on_delivery=named("of the settings"))
    with TRACER.start_as_current_span("request"):
        producer.produce(mock.topic(), b"a", partition=0, **{name: named(value) for name, value in given.items()})
    producer.flush(10)

    assert seen == [(called[0], None, 0, "request")]
    assert [span.attributes.get("kafka.offset") for span in telemetry.spans() if span.kind == "PRODUCER"] == [0]


def current():
    return getattr(trace.get_current_span(), "name", None)


def test_what_a_callback_raises_comes_out_where_it_did(made, mock, instrument):
    """Out of flush(), and the callbacks after it are served all the same."""
    topic = mock.topic()

    def run():
        producer, seen = made(Producer), []

        def fails(_error, _message):
            seen.append("fails")
            raise ValueError("of the application")

        producer.produce(topic, b"a", partition=0, on_delivery=fails)
        producer.produce(topic, b"b", partition=0, on_delivery=lambda *_: seen.append("after"))
        found = [outcome(lambda: producer.flush(10)), outcome(lambda: producer.flush(10))]
        return found, seen, len(producer)

    bare = run()
    instrument()
    assert run() == bare


def test_a_send_from_a_callback_is_not_the_child_of_what_is_in_hand(made, mock, instrument, telemetry):
    """It belongs to the send whose outcome was told."""
    source, target = mock.topic(), mock.topic("retries")
    instrument()
    producer, reader = made(Producer), made(Consumer)
    producer.produce(source, b"a", partition=0)
    producer.flush(10)
    reader.assign([TopicPartition(source, 0, 0)])
    with TRACER.start_as_current_span("request"):
        producer.produce(target, b"b", on_delivery=lambda *_: producer.produce(target, b"again"))
    polled(reader, 1)
    producer.poll(5)
    producer.flush(10)
    reader.close()

    parents = {span.span_id: span.name for span in telemetry.spans()}
    sends = [span for span in telemetry.spans() if span.name == f"produce {target}"]
    assert [parents.get(span.parent_span_id) for span in sends] == ["request", "request"]


def test_nobody_tells_of_delivered_messages_where_only_errors_are_reported(made, mock, instrument, telemetry):
    """The span ends when the message is queued, nothing waits for an answer, and it is said once."""
    pipe = instrument()
    producer = made(Producer, **{"delivery.report.only.error": True})
    for _ in range(2):
        producer.produce(mock.topic(), b"a", partition=0, on_delivery=lambda *_: None)
    producer.flush(10)

    assert [span.attributes.get("kafka.offset") for span in telemetry.spans()] == [None, None]
    assert len([said for said in pipe.status().problems if "delivery.report.only.error" in said]) == 1
    assert [dict(tell()) for tell in pipe._engine.queued] == [{}]


@pytest.mark.no_check
def test_what_cannot_be_delivered_is_told_by_its_kind(made, instrument, telemetry):
    """The application has its error; ours says which one it was."""
    pipe = instrument()
    seen = []
    producer = made(Producer, **{"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 100})
    producer.produce("orders", b"a", on_delivery=lambda error, _message: seen.append(error.name()))
    producer.flush(10)

    (span,) = telemetry.spans()
    assert (seen, span.status, span.attributes["error.type"]) == (
        ["_MSG_TIMED_OUT"],
        "ERROR",
        "confluent_kafka.KafkaError._MSG_TIMED_OUT",
    )
    assert sum(pipe.status().errors.values()) == 0


def test_messages_that_are_left_in_the_queue_are_told(made, instrument):
    """No flush(), and the producer is dropped: nobody will answer them any more."""
    pipe = instrument()
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    for _ in range(3):
        producer.produce("orders", b"a")
    before = [dict(tell()) for tell in pipe._engine.queued]
    del producer
    gc.collect()
    left = [dict(tell()) for tell in pipe._engine.queued]
    (sent,) = pipe._monitoring.judge(leaving=True).producers

    assert (before, left) == ([{"orders": 3}], [{"orders": 3}])
    assert (sent.lights["delivered"].state, sent.lights["delivered"].why[:31]) == (
        "red",
        "3 messages were not answered wh",
    )


def test_the_end_of_a_partition_and_errors_are_handed_through(made, mock, instrument, telemetry):
    """As they are, without a span; the message in hand is left."""
    topic = mock.topic()
    instrument()
    producer = made(Producer)
    for value in (b"a", b"b"):
        producer.produce(topic, value, partition=0)
    producer.flush(10)
    reader = made(Consumer, **{"enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, 0)])
    found = polled(reader, 3)
    inside = current()
    reader.assign([TopicPartition(topic, 0, 0)])
    batch, deadline = [], time.monotonic() + 20
    while len(batch) < 3 and time.monotonic() < deadline:
        batch += reader.consume(3, 0.5)

    codes = [[each.error() and each.error().name() for each in many] for many in (found, batch)]
    assert codes == [[None, None, "_PARTITION_EOF"]] * 2
    assert (inside, names(telemetry, "CONSUMER")) == (None, [f"process {topic}"] * 2)
    assert sum(s.attributes["messaging.batch.message_count"] for s in telemetry.spans() if s.kind == "CLIENT") == 2
    assert by_partition([found[2]]) == {}


def test_a_call_gives_messages_of_several_partitions(made, mock, instrument, telemetry):
    """In the client's own order; each partition is judged by itself."""
    topic = mock.topic()
    pipe = instrument()
    producer = made(Producer)
    for number in range(120):
        producer.produce(topic, b"%d" % number, partition=number % 4)
    producer.flush(10)
    reader = made(Consumer)
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
    messages, deadline = [], time.monotonic() + 20
    while len(messages) < 120:
        assert time.monotonic() < deadline
        messages += reader.consume(120, 0.5)
    flows = [each for each in pipe.health().flows if each.destination == topic]

    assert sorted(int(message.value()) for message in messages) == list(range(120))
    assert [point.value for point in telemetry.metric("messaging.client.consumed.messages").points] == [120]
    assert [each.lights["order"].state for each in flows] == ["green"]


def test_a_client_is_not_kept_and_not_changed(made, instrument):
    """Not by what is known of it, and not by its own calls; its settings are those of the application."""
    pipe = instrument()
    conf = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    consumer = Consumer(conf)
    held = sys.getrefcount(consumer)
    consumer.poll(0)
    consumer.consume(1, 0)
    pipe.health()
    after, known = sys.getrefcount(consumer), len(pipe._engine.consumers.all())
    del consumer
    gc.collect()

    assert (after, known, len(pipe._engine.consumers.all())) == (held, 1, 0)
    assert conf == {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}


def test_the_applications_error_cb_is_called(instrument):
    """With what the client says; what it raises comes out of poll()."""
    instrument()
    seen = []

    def fails(error):
        seen.append(error.name())
        if len(seen) == 1:
            raise ValueError("of the application")

    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0, "error_cb": fails})
    consumer.subscribe(["orders"])
    with pytest.raises(ValueError, match="of the application"):
        consumer.poll(10)
    consumer.close()

    assert seen[0] in {"_TRANSPORT", "_ALL_BROKERS_DOWN"}


def test_rebalances_are_told_to_the_application_as_ever(made, mock, instrument):
    """With its own callbacks; without any, the client assigns by itself."""
    topic = mock.topic()
    pipe = instrument()
    producer = made(Producer)
    producer.produce(topic, b"a", partition=0)
    producer.flush(10)
    seen, alone = [], made(Consumer, **{"group.id": "alone", "session.timeout.ms": 3_000})
    alone.subscribe([topic])
    own = made(Consumer, **{"group.id": "own", "session.timeout.ms": 3_000})
    own.subscribe(
        [topic],
        on_assign=lambda consumer, partitions: seen.append(("assigned", consumer is own, len(partitions))),
        on_revoke=lambda consumer, partitions: seen.append(("revoked", consumer is own, len(partitions))),
    )
    values = [polled(consumer, 1)[0].value() for consumer in (alone, own)]
    positions = [len(each.positions()) for each in pipe._engine.consumers.all()]
    for consumer in (alone, own):
        consumer.close()

    assert (values, positions) == ([b"a", b"a"], [4, 4])
    assert seen == [("assigned", True, 4), ("revoked", True, 4)]


def test_an_aborted_transaction_is_neither_sent_nor_failed(made, mock, instrument, telemetry):
    """What was taken back is no loss, and what follows is numbered anew."""
    topic = mock.topic()
    pipe = instrument()
    producer = made(Producer, **{"transactional.id": topic, "linger.ms": 5_000})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic, b"aborted", partition=0)
    producer.abort_transaction(10)
    producer.flush(10)
    producer.begin_transaction()
    producer.produce(topic, b"committed", partition=0)
    producer.commit_transaction(10)
    producer.flush(10)
    (sent,) = pipe.health().producers

    assert sent.lights["delivered"].why == "1 message acknowledged, none failed"


@pytest.mark.parametrize(
    ("conf", "found"),
    [
        ({}, {"acks": -1, "linger_ms": 5, "retries": 2_147_483_647}),
        ({"acks": "all", "linger.ms": "0.5", "retries": "3"}, {"acks": -1, "linger_ms": 0.5, "retries": 3}),
        ({"request.required.acks": 1, "queue.buffering.max.ms": 7}, {"acks": 1, "linger_ms": 7}),
        ({"enable.idempotence": "true"}, {"enable_idempotence": True}),
        ({"transactional.id": "t"}, {"enable_idempotence": True}),
        ({"client.id": "7", "metadata.broker.list": "a:1"}, {"client_id": "7", "bootstrap_servers": "a:1"}),
        ({5: 6}, {"acks": -1}),
    ],
)
def test_settings_are_read_as_the_client_reads_them(conf, found):
    """Under Kafka's names: text for anything, other names, what holds where nothing is said."""
    read = clients.settings_of(conf, clients.PRODUCES)

    assert {name: read.get(name) for name in found} == found


def test_hazards_of_what_holds_where_nothing_is_said(made, instrument):
    """Without idempotence a retry repeats and reorders; commits by time are on; a new group begins at the end."""
    pipe = instrument()
    made(Producer), made(Consumer, **{"auto.offset.reset": "largest"})
    made(Producer, **{"enable.idempotence": "true"})

    assert {name for name, library in pipe._engine.hazards if library == "confluent-kafka"} == {
        "retries_repeat",
        "retries_reorder",
        "commits_by_time",
        "new_group_skips_history",
    }


def test_contrib_beside_ours_gives_no_second_span(mock, embedded, instrument, telemetry):
    """Whichever came first, a message has one span and one context on each side; it is said."""
    contrib = pytest.importorskip("opentelemetry.instrumentation.confluent_kafka").ConfluentKafkaInstrumentor
    topic, sent = mock.topic(), []
    contrib().instrument(tracer_provider=telemetry.tracer_provider, skip_dep_check=True)
    pipe = instrument()

    def send(value):
        producer = confluent_kafka.Producer({"bootstrap.servers": embedded, "linger.ms": 0, "log_level": 0})
        producer.produce(topic, value, partition=0, on_delivery=lambda _error, message: sent.append(message.value()))
        producer.flush(10)

    send(b"a")
    contrib().instrument(tracer_provider=telemetry.tracer_provider, skip_dep_check=True)
    pipe.replace_others()
    send(b"b")
    reader = confluent_kafka.Consumer({"bootstrap.servers": embedded, "group.id": "g", "log_level": 0})
    reader.assign([TopicPartition(topic, 0, 0)])
    found = [[name for name, _ in message.headers()] for message in polled(reader, 2)]
    reader.close()

    assert (sent, found) == ([b"a", b"b"], [["traceparent", "otelp"]] * 2)
    expected = [f"process {topic}", f"process {topic}", f"produce {topic}", f"produce {topic}"]
    assert sorted(span.name for span in telemetry.spans()) == expected
    assert any("taken off" in problem for problem in pipe.status().problems)
    assert confluent_kafka.Producer is Producer


def test_who_judges_does_not_wait_for_a_call_of_the_client(made, mock, instrument):
    """The client keeps other threads waiting for as long as a call of the application's waits for messages."""
    topic, consumer = mock.topic(), made(Consumer)
    pipe = instrument()
    mock.send(topic, b"a")
    consumer.assign([TopicPartition(topic, 0, 0)])
    polled(consumer, 1)
    waits = threading.Thread(target=consumer.poll, args=(20,))
    waits.start()
    try:
        judged = [len(pipe._monitoring.judge().flows) for _ in range(3)]
        waited = waits.is_alive()
    finally:
        mock.send(topic, b"b")
        waits.join(20)

    assert (judged, waited) == ([1] * 3, True)


def test_the_schema_s_id_in_a_header_is_known_on_both_sides(made, mock, instrument):
    """As Confluent's own serializer writes it; the value is compared as if it had none."""
    registry = pytest.importorskip("confluent_kafka.schema_registry")
    if not hasattr(registry, "header_schema_id_serializer"):
        pytest.skip("this version writes no ids into headers")
    serde = pytest.importorskip("confluent_kafka.schema_registry.serde")
    from confluent_kafka.serialization import MessageField, SerializationContext

    topic, guid = mock.topic(), "00000000-0000-0000-0000-000000000005"
    pipe = instrument()

    def serialize(value, context):
        return registry.header_schema_id_serializer(value, context, serde.SchemaId("JSON", None, guid))

    producer, headers = made(Producer), []
    for number in range(3):
        headers = [("tenant", b"7")]
        value = serialize(b'{"id": %d}' % number, SerializationContext(topic, MessageField.VALUE, headers))
        producer.produce(topic, value, partition=0, headers=headers)
    producer.flush(10)
    consumer = made(Consumer)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [(message.value(), [name for name, _ in message.headers()][:2]) for message in polled(consumer, 3)]
    contracts = pipe._monitoring.contracts
    evidence = [contracts.evidence(topic, side) for side in ("producer", "consumer")]

    assert found == [(b'{"id": %d}' % number, ["tenant", "__value_schema_id"]) for number in range(3)]
    assert [(each.schemas, each.learned) for each in evidence] == [([f"guid {guid}"], 3)] * 2
    assert pipe.status().errors == {}
