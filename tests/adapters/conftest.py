"""Brokers for the adapters' tests: the embedded one always, the real one where it has been fetched."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from dataclasses import dataclass, field

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from otel_pipeline.brokers.embedded import API_VERSION, embedded_broker

_numbers = itertools.count(1)
_RUN = f"{time.time_ns() // 1_000_000 % 1_000_000}-{os.getpid()}"
"""A broker that serves several runs, or several processes of one, has the topics of all."""


@dataclass
class Kafka:
    """A broker, and clients of it that are closed when the test ends."""

    address: str
    options: dict
    clients: list = field(default_factory=list)

    def topic(self, name="orders"):
        """A topic of this test alone."""
        return f"{name}-{_RUN}-{next(_numbers)}"

    def producer(self, kind=KafkaProducer, **options):
        made = kind(bootstrap_servers=self.address, **{"linger_ms": 0, **self.options, **options})
        self.clients.append(made)
        return made

    def send(self, topic, *values, headers=None, key=None, partition=0):
        """Send with the application's own producer, and wait for the broker."""
        producer = self.producer()
        for value in values:
            producer.send(topic, value, key=key, headers=headers, partition=partition).get(10)
        return producer

    def consumer(self, *topics, kind=KafkaConsumer, **options):
        """A consumer that starts at the beginning; assigned, because joining a group takes seconds."""
        made = kind(
            bootstrap_servers=self.address,
            **{
                "group_id": f"group-{_RUN}-{next(_numbers)}",
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "consumer_timeout_ms": 10_000,
                **self.options,
                **options,
            },
        )
        made.assign([TopicPartition(topic, 0) for topic in topics])
        self.clients.append(made)
        return made

    @staticmethod
    def poll(consumer, count):
        """The first messages, by polling."""
        records, deadline = [], time.monotonic() + 20
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} messages came"
            records += [record for batch in consumer.poll(500).values() for record in batch]
        return records

    def close(self):
        for client in self.clients:
            client.close()


@pytest.fixture(scope="session")
def embedded():
    pytest.importorskip("confluent_kafka")
    with embedded_broker() as address:
        yield address


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def kafka(request):
    if request.param == "embedded":
        found = Kafka(request.getfixturevalue("embedded"), {"api_version": API_VERSION})
    else:
        found = Kafka(request.getfixturevalue("real_broker").bootstrap, {})
    yield found
    found.close()


@pytest.fixture
def mock(embedded):
    """The embedded broker alone, for what needs no second opinion."""
    found = Kafka(embedded, {"api_version": API_VERSION})
    yield found
    found.close()


@pytest.fixture(params=["tracer", "compiled"])
def telemetry(telemetry, request):
    """Both ways that spans are made: by the SDK's tracer, and copied from a template."""
    if request.param == "compiled":
        telemetry.as_in_production()
    return telemetry


@pytest.fixture
def application(telemetry, embedded):
    """Runs a coroutine function, called with an object that makes aiokafka's clients and topics, in a loop of its own."""
    pytest.importorskip("aiokafka")
    from tests.adapters.aiokafka_application import Application

    pipe = telemetry.instrument(libraries=["aiokafka"])

    def run(main):
        async def whole():
            made = Application(embedded)
            try:
                return await main(made)
            finally:
                await made.close()

        return asyncio.run(whole())

    run.pipe = pipe
    return run
