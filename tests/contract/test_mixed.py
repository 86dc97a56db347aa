"""Any producer with any consumer: what one client writes, every other one reads, in one trace."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry import trace

import otel_pipeline
from tests.contract.conftest import driver_of
from tests.contract.test_trace import flow

pytestmark = pytest.mark.once
TRACER = trace.get_tracer("application")
PRODUCERS = (
    "kafka_python:Iterator",
    "aiokafka:AsyncFor",
    "aiokafka:SendBatch",
    "confluent_kafka:Polling",
    "confluent_kafka:Serializing",
)
CONSUMERS = (
    "kafka_python:Iterator",
    "kafka_python:Poll",
    "aiokafka:AsyncFor",
    "aiokafka:Getmany",
    "confluent_kafka:Polling",
    "confluent_kafka:Consuming",
    "confluent_kafka:Serializing",
    "confluent_kafka:Sharing",
)
FIRST = ("kafka_python:Iterator", "aiokafka:AsyncFor", "confluent_kafka:Polling")
LOOPS = ("kafka_python:Poll", "aiokafka:Getmany", "confluent_kafka:Consuming")


def _pairs():
    for producer, consumer in itertools.product(PRODUCERS, CONSUMERS):
        yield pytest.param(producer, consumer, "embedded", id=f"{producer} {consumer}")
    for producer, consumer in itertools.product(FIRST, LOOPS):
        yield pytest.param(producer, consumer, "real", id=f"{producer} {consumer} real", marks=pytest.mark.real)


@pytest.mark.parametrize(("producer", "consumer", "where"), [*_pairs()])
def test_one_trace_over_two_clients(request, telemetry, producer, consumer, where):
    """Right parents, and two hops where the handler sends on; no header is withheld or doubled."""
    telemetry.as_in_production()
    telemetry.real_time()
    telemetry.instrument(environment="staging")
    sends, reads = (driver_of(request, name, where) for name in (producer, consumer))
    try:
        source, target = sends.topic(), sends.topic("next")
        headers = [("application", b"mine")]
        for value in (b"a", b"b"):
            sends.send(source, value, headers=headers)
        seen = []

        def handle(message):
            with TRACER.start_as_current_span("handle"):
                found = otel_pipeline.current()
                names = sorted(name for name, _ in reads.read(message, "headers"))
                seen.append((found.hops, found.origin_environment, names))
                reads.send(target, b"x")

        reader = reads.reader(source)
        reader.loop(handle, 2)
        reader.close()
    finally:
        reads.close()
        sends.close()

    chain = (
        f"{sends.send_word} {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        "    handle INTERNAL\n"
        f"      {reads.send_word} {target} PRODUCER"
    )
    assert flow(telemetry) == f"{chain}\n{chain}"
    assert seen == [(1, "staging", ["application", "otelp", "traceparent"])] * 2
