"""How many bytes a message's spans are: a rise fails."""

from __future__ import annotations

import zlib

import pytest

import otel_pipeline
from otel_pipeline.export.otlp.encoder import encode

MESSAGES = 200
RAW, SENT = {"PRODUCER": 480, "CONSUMER": 740}, {"PRODUCER": 50, "CONSUMER": 80}
"""Of a span: in OTLP, and of many together with gzip's level 1, which docs/scale.md has."""


@pytest.mark.broker
def test_spans_are_small(mock, telemetry):
    """Of kafka-python's messages of 100 bytes in production, with everything that they say."""
    telemetry.as_in_production()
    telemetry.real_time()
    pipe = otel_pipeline.instrument("orders-service", environment="production", _providers=telemetry)
    topic, producer = mock.topic(), mock.producer()
    for _ in range(MESSAGES):
        producer.send(topic, b"x" * 100, partition=0)
    producer.flush()
    for number, _ in enumerate(mock.consumer(topic), 1):
        if number == MESSAGES:
            break
    pipe.uninstrument()

    raw, sent = {}, {}
    for kind in RAW:
        spans = [span for span in telemetry._exporter.spans if span.kind.name == kind]
        body = encode("traces", spans).body
        raw[kind], sent[kind] = len(body) / len(spans), len(zlib.compress(body, 1)) / len(spans)
        assert len(spans) in {MESSAGES, MESSAGES - 1}
    assert all(raw[kind] <= RAW[kind] and sent[kind] <= SENT[kind] for kind in RAW), (raw, sent)
