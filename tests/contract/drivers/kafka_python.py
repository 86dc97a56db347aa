"""kafka-python, in its three ways: a loop over the consumer, poll(), and poll() with process()."""

from __future__ import annotations

import dataclasses
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import otel_pipeline
from tests.contract.driver import Can

PATIENCE_S = 20


class Reader:
    """By poll() alone; the others differ by their loop."""

    def __init__(self, client, topic):
        self.client, self.partition = client, TopicPartition(topic, 0)

    def _poll(self, count):
        """What one call returns of the only partition."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            polled = self.client.poll(200, max_records=count)
            if polled:
                (records,) = polled.values()
                return records
            assert time.monotonic() < deadline, "nothing came"

    def receive_one(self):
        return self._poll(1)[0]

    def receive_many(self, count):
        records = []
        while len(records) < count:
            records += self._poll(count - len(records))
        return records

    def loop(self, handler, count, then=None):
        while count:
            records = self._poll(count)
            count -= len(records)
            for record in records:
                handler(record)
        return then() if then else None

    def commit(self):
        self.client.commit()

    def seek(self, offset):
        self.client.seek(self.partition, offset)

    def close(self):
        self.client.close()


class IteratingReader(Reader):
    def receive_one(self):
        return next(self.client)

    def loop(self, handler, count, then=None):
        for record in self.client:
            handler(record)
            count -= 1
            if not count:
                break
        return then() if then else None


class ProcessingReader(Reader):
    def loop(self, handler, count, then=None):
        def handled(record):
            with otel_pipeline.process(record, consumer=self.client):
                handler(record)

        return super().loop(handled, count, then)


class KafkaPython:
    library, system = "kafka-python", "kafka"
    send_word, receive_word = "send", "poll"
    names = ("messaging.destination.partition.id", "kafka.offset")
    public = tuple(
        (kind, name)
        for kind, names in (
            (KafkaProducer, "send abort_transaction"),
            (KafkaConsumer, "__iter__ __next__ poll commit commit_async seek seek_to_beginning seek_to_end close"),
        )
        for name in names.split()
        if hasattr(kind, name)
    )

    def __init__(self, broker):
        self.broker = broker
        self._opened, self._producer = [], None

    def topic(self, name="orders"):
        return self.broker.topic(name)

    def _made(self, kind, **options):
        made = kind(bootstrap_servers=self.broker.address, **self.broker.kafka_python, **options)
        self._opened.append(made)
        return made

    def producer(self):
        self._producer = self._producer or self._made(KafkaProducer, linger_ms=0)
        return self._producer

    def send(self, topic, value, *, key=None, headers=None):
        return self.producer().send(topic, value, key=key, headers=headers, partition=0).get(PATIENCE_S).offset

    def send_many(self, topic, values):
        for future in [self.producer().send(topic, value, partition=0) for value in values]:
            future.get(PATIENCE_S)

    def reader(self, topic, *, group=None, client_id=None, deserializer=None):
        client = self._made(
            KafkaConsumer,
            group_id=group or self.broker.group(),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            consumer_timeout_ms=PATIENCE_S * 1000,
            fetch_max_wait_ms=50,
            **({"client_id": client_id} if client_id else {}),
            **({"value_deserializer": deserializer} if deserializer else {}),
        )
        client.assign([TopicPartition(topic, 0)])
        return self.kind(client, topic)

    def inside(self, function):
        return function()

    def read(self, message, what):
        return getattr(message, what)

    def clients(self):
        return list(self._opened)

    def close_clients(self):
        for client in self._opened:
            client.close()
        self._opened.clear()
        self._producer = None

    close = close_clients


class Iterator(KafkaPython):
    name = "kafka-python, `for`"
    kind = IteratingReader
    can = Can(
        process_span="yes",
        loop_ends=True,
        handler_error="no",
        batches=True,
        sequence="partition",
        commit=True,
        commit_ahead=True,
        seek=True,
        pace=True,
        unreadable=True,
        cluster="in newer versions",
        groups=True,
        keys=True,
    )


class Poll(KafkaPython):
    name = "kafka-python, `poll`"
    kind = Reader
    can = dataclasses.replace(Iterator.can, process_span="once somebody looks")


class Process(KafkaPython):
    name = "kafka-python, `poll` and `process()`"
    kind = ProcessingReader
    can = Can(**{**vars(Iterator.can), "handler_error": "yes"})
