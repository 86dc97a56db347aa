"""The real parts work at all."""

from __future__ import annotations

import http.client
import json
import secrets
from typing import TYPE_CHECKING, Any

import kafka
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from real.servers import Broker, Collector

pytestmark = [pytest.mark.real, pytest.mark.once]


def test_a_broker_returns_the_message_it_took(real_broker: Broker) -> None:
    topic = f"topic-{secrets.token_hex(4)}"

    _send(real_broker, topic, [("name", b"value")])

    (message,) = _read(real_broker, topic, 1)
    assert (message.value, list(message.headers)) == (b"hello", [("name", b"value")])


def test_a_collector_writes_the_span_it_was_sent(real_collector: Collector) -> None:
    trace_id = secrets.token_hex(16)

    _send_span(real_collector, trace_id, "first span")

    assert [span["name"] for span in real_collector.spans(trace_id)] == ["first span"]


def test_a_java_service_continues_a_trace(
    real_broker: Broker, real_collector: Collector, real_relay: Callable[..., None]
) -> None:
    source, target = f"source-{secrets.token_hex(4)}", f"target-{secrets.token_hex(4)}"
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    _send(real_broker, source, [("traceparent", f"00-{trace_id}-{span_id}-01".encode())])

    real_relay(real_broker, real_collector, source, target, count=1)

    (message,) = _read(real_broker, target, 1)
    spans = {span["kind"]: span for span in real_collector.spans(trace_id, count=2)}
    producer, consumer = spans[4], spans[5]
    assert (consumer["parentSpanId"], producer["parentSpanId"]) == (span_id, consumer["spanId"])
    assert dict(message.headers)["traceparent"].decode() == f"00-{trace_id}-{producer['spanId']}-01"


def _send(broker: Broker, topic: str, headers: list[tuple[str, bytes]]) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=broker.bootstrap)
    try:
        producer.send(topic, b"hello", headers=headers).get(timeout=30)
    finally:
        producer.close()


def _read(broker: Broker, topic: str, count: int) -> list[Any]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=30_000
    )
    try:
        consumer.assign([kafka.TopicPartition(topic, 0)])
        return [message for _, message in zip(range(count), consumer, strict=False)]
    finally:
        consumer.close()


def _send_span(collector: Collector, trace_id: str, name: str) -> None:
    span = {"traceId": trace_id, "spanId": secrets.token_hex(8), "name": name, "kind": 1}
    span |= {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    connection = http.client.HTTPConnection(collector.http.removeprefix("http://"), timeout=10)
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    connection.request("POST", "/v1/traces", body, {"Content-Type": "application/json"})
    assert connection.getresponse().status == http.client.OK
    connection.close()
