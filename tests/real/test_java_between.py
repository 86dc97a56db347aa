"""A Java service under OpenTelemetry's Java agent between two Python clients: one trace, whichever clients they are."""

from __future__ import annotations

import importlib
import secrets

import pytest

import otel_pipeline
from tests.contract.conftest import Broker

pytestmark = [pytest.mark.real, pytest.mark.once]


@pytest.mark.parametrize(
    ("producer", "consumer"),
    [
        ("confluent_kafka:Polling", "aiokafka:AsyncFor"),
        ("aiokafka:AsyncFor", "kafka_python:Poll"),
        ("kafka_python:Iterator", "confluent_kafka:Consuming"),
    ],
)
def test_one_trace_through_java(telemetry, real_broker, real_collector, real_relay, producer, consumer):
    """Its consumer span is the child of our send, our process span the child of its send."""
    telemetry.as_in_production()
    telemetry.real_time()
    telemetry.instrument(environment="staging")
    source, target = f"source-{secrets.token_hex(4)}", f"target-{secrets.token_hex(4)}"
    sends, reads = (_driver(name)(Broker(real_broker.bootstrap)) for name in (producer, consumer))
    try:
        sends.send(source, b"a")
        (sent,) = [span for span in telemetry.spans() if span.kind == "PRODUCER"]
        real_relay(real_broker, real_collector, source, target, count=1)
        reader = reads.reader(target)
        reader.loop(lambda _message: otel_pipeline.current(), 1)
        reader.close()
    finally:
        reads.close()
        sends.close()

    java = {span["kind"]: span for span in real_collector.spans(sent.trace_id, count=2)}
    (processed,) = [span for span in telemetry.spans() if span.kind == "CONSUMER"]
    above = {"ours": java[5]["parentSpanId"], "theirs": java[4]["parentSpanId"], "ours again": processed.parent_span_id}
    assert above == {"ours": sent.span_id, "theirs": java[5]["spanId"], "ours again": java[4]["spanId"]}
    assert processed.trace_id == sent.trace_id


def _driver(name):
    module, _, kind = name.partition(":")
    return getattr(importlib.import_module(f"tests.contract.drivers.{module}"), kind)
