"""The seam fits a client written in C: confluent-kafka's own producer, with 30 lines between it and the engine.

Its objects take neither attributes nor weak references, it chooses the partition in C, and it calls back with (error,
message) when the application polls. What any adapter of such a client needs is here, without its own adapter.
"""

from __future__ import annotations

import asyncio
import collections
import time
import weakref
from types import SimpleNamespace

import pytest
from opentelemetry import trace

from otel_pipeline.brokers.kafka.acknowledgements import Delivered, follow
from otel_pipeline.brokers.kafka.client import KafkaProducers, Library
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.pipeline_header import decode
from otel_pipeline.engine.send import sender
from otel_pipeline.engine.thread_sequence import ThreadSequences

confluent_kafka = pytest.importorskip("confluent_kafka")
TRACER = trace.get_tracer("application")


class Held:
    """What the C object holds as a callback of its settings."""

    def __call__(self, _error):
        """Nothing of interest."""


class Seam:
    """What an adapter does for each client that is made, and for each message."""

    def __init__(self, engine, address):
        self.engine, self.address = engine, address
        self.begin, self.sequences = sender(engine, "produce"), ThreadSequences(engine.guard)
        engine.queued.append(self.sequences.queued)
        fields = MessageFields(*[None] * 8)
        self.settings = {}
        library = Library("confluent-kafka", fields, lambda client: self.settings[id(client)])
        self.producers = KafkaProducers(engine, library, None)

    def producer(self, **settings):
        held = Held()
        made = confluent_kafka.Producer(
            {"bootstrap.servers": self.address, "error_cb": held, "linger.ms": 0, "log_level": 0, **settings}
        )
        self.settings[id(made)] = {"bootstrap_servers": self.address, "client_id": "mine"}
        self.producers.new(made, held)
        return made

    def produce(self, client, topic, value, callback=None, headers=None):
        sending = self.begin(self.producers.of(client), topic, None, None, value, headers)
        given = self.sequences.stamp(sending.headers, topic)

        def answered(error, message):
            self.sequences.answered(topic)
            return delivered(error, message)

        delivered = Delivered(self.engine, sending, callback, confluent_kafka.KafkaException)
        try:
            client.produce(topic, value, headers=sending.headers, on_delivery=answered)
        except BaseException as error:
            self.sequences.settle(given, taken=False)
            sending.finish(None, None, error)
            raise
        self.sequences.settle(given, taken=True)


@pytest.fixture
def seam(telemetry, embedded):
    telemetry.real_time()
    return Seam(telemetry.instrument(disable=["confluent-kafka"])._engine, embedded)


def test_a_c_object_has_a_side_and_is_not_kept(seam):
    """Gone with it, as what its settings hold tells."""
    client = seam.producer()
    with pytest.raises(TypeError):
        weakref.ref(client)
    known = seam.producers.of(client)
    del client

    assert (known.client_id, len(seam.producers)) == ("mine", 0)


def test_a_send_is_acknowledged_when_the_application_polls(seam, telemetry, mock):
    """Partition and offset are those of the message."""
    topic, client = mock.topic(), seam.producer()
    seam.produce(client, topic, b"a")
    before = telemetry.spans()
    client.flush(10)

    (span,) = telemetry.spans()
    assert (before, span.name, span.attributes["kafka.offset"], span.status) == ([], f"produce {topic}", 0, "UNSET")


@pytest.mark.parametrize(("latency_s", "took_ms"), [(0.25, 251), (None, 1)])
def test_a_send_takes_as_long_as_the_message_says(telemetry, latency_s, took_ms):
    """Not as long as by our own clock, which ticks 1 ms a look here."""
    engine = telemetry.instrument(disable=["confluent-kafka"])._engine
    seam = Seam(engine, "127.0.0.1:1")
    seam.settings = collections.defaultdict(dict)
    message = SimpleNamespace(latency=lambda: latency_s, partition=lambda: 3, offset=lambda: 7)
    sending = seam.begin(seam.producers.of(Held()), "orders", None, None, b"a", None)
    Delivered(engine, sending, None, RuntimeError)(None, message)

    (span,) = telemetry.spans()
    assert ((span.end_ns - span.start_ns) // 1_000_000, span.attributes["kafka.offset"]) == (took_ms, 7)


def test_the_applications_callback_is_its_own(seam, telemetry, mock):
    """Once, in the context of its send; what it raises comes out where it always did, and the others are served."""
    topic, client, seen = mock.topic(), seam.producer(), []

    def callback(_error, message):
        seen.append((message.value().decode(), getattr(trace.get_current_span(), "name", None)))
        if message.value() == b"first":
            raise ValueError("of the application")

    for name in ("first", "second"):
        with TRACER.start_as_current_span(name):
            seam.produce(client, topic, name.encode(), callback)
    with TRACER.start_as_current_span("elsewhere") as around:
        with pytest.raises(ValueError, match="of the application"):
            client.flush(10)
        client.flush(10)
        left = trace.get_current_span() is around

    assert (sorted(seen), left) == ([("first", "first"), ("second", "second")], True)
    assert sorted(span.name for span in telemetry.spans()).count(f"produce {topic}") == 2


def test_numbers_go_over_all_partitions(seam, mock):
    """By thread: the partition is not known yet."""
    topic, client = mock.topic(), seam.producer()
    for _ in range(20):
        seam.produce(client, topic, b"a")
    queued = seam.sequences.queued()
    client.flush(10)
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": seam.address, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    reader.assign([confluent_kafka.TopicPartition(topic, partition, 0) for partition in range(4)])
    found, deadline = [], time.monotonic() + 20
    while len(found) < 20:
        assert time.monotonic() < deadline
        found += [
            decode(dict(message.headers())["otelp"]) for message in reader.consume(20, 0.5) if not message.error()
        ]
    reader.close()

    assert sorted(each.sequence for each in found) == [*range(1, 21)]
    assert (len({each.producer_id for each in found}), {each.flags for each in found}) == (1, {0})
    assert (queued, seam.sequences.queued()) == ({topic: 20}, {})


def test_what_the_client_refuses_is_not_given(seam, telemetry, mock):
    """A full queue: its own error, and the number is the next message's."""
    topic = mock.topic()
    client = seam.producer(**{"queue.buffering.max.messages": 1, "linger.ms": 5_000})
    seam.produce(client, topic, b"a")
    with pytest.raises(BufferError):
        seam.produce(client, topic, b"b")

    assert seam.sequences.queued() == {topic: 1}
    client.flush(10)
    seam.produce(client, topic, b"c")
    client.flush(10)
    assert sorted(span.status for span in telemetry.spans()) == ["ERROR", "UNSET", "UNSET"]
    assert [*seam.sequences._mine().last.values()] == [2]


@pytest.mark.parametrize("outcome", ["done", "failed", "cancelled", "nobody acknowledges"])
def test_a_future_is_followed(seam, telemetry, outcome):
    """And that nobody has looked at its exception is still said by asyncio."""
    said = []

    class Answer:
        partition, offset = 3, 7

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context["message"]))
        sending = seam.begin(seam.producers.of(Held()), "orders", None, None, b"a", None)
        future = asyncio.get_running_loop().create_future()
        follow(seam.engine, sending, future)
        if outcome == "failed":
            future.set_exception(ValueError("of the client"))
        elif outcome == "cancelled":
            future.cancel()
        else:
            future.set_result(Answer() if outcome == "done" else None)
        await asyncio.sleep(0)

    seam.settings = collections.defaultdict(dict)
    asyncio.run(main())
    (span,) = telemetry.spans()

    assert (span.status, span.attributes.get("error.type"), span.attributes.get("kafka.offset")) == {
        "done": ("UNSET", None, 7),
        "failed": ("ERROR", "ValueError", None),
        "cancelled": ("UNSET", None, None),
        "nobody acknowledges": ("UNSET", None, None),
    }[outcome]
    assert said == (["Future exception was never retrieved"] if outcome == "failed" else [])
    assert seam.engine.guard.errors == {}
