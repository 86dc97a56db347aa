"""A failure at any place of ours: the application's calls are made once, with its arguments, results and exceptions."""

from __future__ import annotations

import copy

import pytest
from kafka import KafkaConsumer, KafkaProducer

import otel_pipeline
from otel_pipeline.brokers.kafka import client, kafka_python_fetches
from otel_pipeline.engine import (
    clients,
    delivery,
    inference,
    pipeline_header,
    process,
    processor,
    receive,
    send,
    sequence,
    totals,
)
from otel_pipeline.engine.guard import OFF_AFTER

PLACES = [
    (send, "heal"),
    (send, "_destination"),
    (send, "_set_pipeline_header"),
    (send, "_first_hop"),
    (send.Sending, "__init__"),
    (clients.Destination, "bind"),
    (sequence.Sequences, "stamp"),
    (pipeline_header, "tag_of"),
    (pipeline_header, "path_hash"),
    (pipeline_header.Template, "filled"),
    (receive, "_count"),
    (receive, "_receive_span"),
    (receive, "_record_batch"),
    (clients.Consumer, "partition"),
    (clients.PartitionState, "__init__"),
    (processor, "execution"),
    (processor, "Context"),
    (processor, "_links"),
    (processor.Processor, "_attributes"),
    (processor.Processor, "_too_far"),
    (processor.Processor, "_open"),
    (process.Processing, "_state"),
    (inference.Inferences, "_open"),
    (inference.Inferences, "record"),
    (totals.HistogramCell, "record"),
    (delivery.OpenDelivery, "__init__"),
    (client, "client_attributes"),
    (client, "server_of"),
    (kafka_python_fetches, "follow"),
]


@pytest.mark.no_check
@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[f"{owner.__name__}.{name}" for owner, name in PLACES])
def test_a_failure_of_ours_is_not_the_applications(telemetry, mock, monkeypatch, owner, name):
    """Sent, received, processed, predicted, committed and closed as if we were not there; the failure is counted."""
    topic = mock.topic()
    pipe = telemetry.instrument()

    def fail(*_arguments, **_options):
        raise RuntimeError("of ours")

    if (owner, name) == (sequence.Sequences, "stamp"):
        # It has a guard of its own inside; what it calls fails instead.
        monkeypatch.setattr(pipeline_header.Template, "filled", fail)
    else:
        monkeypatch.setattr(owner, name, fail)
    headers = [("tenant", b"7")]
    before = copy.deepcopy(headers)
    producer = mock.producer()
    offsets = [producer.send(topic, value, headers=headers, partition=0).get(10).offset for value in (b"a", b"b", b"c")]
    consumer, seen = mock.consumer(topic), []
    for record in consumer:
        with otel_pipeline.process(record), otel_pipeline.inference("model", rows=1):
            seen.append((record.value, record.headers[0]))
        if len(seen) == 2:
            break
    polled = mock.poll(consumer, 1)
    with otel_pipeline.process(polled):
        pass
    consumer.commit()
    consumer.close()

    assert (offsets, headers) == ([0, 1, 2], before)
    assert seen == [(b"a", ("tenant", b"7")), (b"b", ("tenant", b"7"))]
    assert [record.value for record in polled] == [b"c"]
    assert sum(pipe.status().errors.values()) <= OFF_AFTER


def test_a_client_that_drifted_is_left_alone(telemetry, mock, monkeypatch):
    """Another signature: the adapter stays off, with one clear line, and the client works."""
    topic, send_method = mock.topic(), KafkaProducer.send

    def drifted(self, topic, message=None):
        return send_method(self, topic, message, partition=0)

    monkeypatch.setattr(KafkaProducer, "send", drifted)
    pipe = telemetry.instrument()
    mock.producer().send(topic, message=b"a").get(10)
    (status,) = [adapter for adapter in pipe.status().adapters if adapter.name == "kafka-python"]

    assert (status.state, telemetry.spans(), "__wrapped__" in vars(KafkaConsumer.poll)) == ("skipped", [], False)
    assert "takes (self, topic, message), known is" in status.reason
