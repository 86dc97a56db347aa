"""A failure at any place of ours: the application's calls are made once, with its arguments, results and exceptions."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.subscription_state import SubscriptionState
from kafka.producer.future import FutureRecordMetadata

import otel_pipeline
from otel_pipeline.brokers.kafka import client, feeds, kafka_python, kafka_python_batches, kafka_python_fetches
from otel_pipeline.brokers.kafka.younger import Younger
from otel_pipeline.detectors import event_time
from otel_pipeline.detectors.flows import Flows
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.engine import (
    batch,
    clients,
    delivery,
    driven,
    exemplars,
    inference,
    pipeline_header,
    prepared,
    process,
    processor,
    receive,
    send,
    sent_batch,
    sequence,
    totals,
)
from otel_pipeline.verdict import require_fresh

INJECTED = [
    ("assigned", PartitionWatch, "assigned"),
    ("client", client, "client_attributes"),
    ("batch", PartitionWatch, "processed_batch"),
    ("close", clients.Consumer, "close"),
    ("committed", feeds, "in_hand"),
    ("event_time.ce_time", event_time, "rfc3339_ms"),
    ("exemplars", exemplars, "_show"),
    ("fetched", kafka_python_fetches, "_partitions"),
    ("inference", inference.Inferences, "_open"),
    ("inference.finish", prepared.Prepared, "count"),
    ("client", client, "Consumer"),
    ("client", client, "Producer"),
    ("client", feeds, "resumed"),
    ("observe", PartitionWatch, "one"),
    ("observe fetched", Flows, "_flow_of"),
    ("process", processor.Processor, "_more"),
    ("process", processor.Processor, "_too_far"),
    ("process", processor, "_values"),
    ("process", processor, "execution"),
    ("process", processor, "Context"),
    ("process", delivery.OpenDelivery, "__init__"),
    ("batch.loop", driven.Drives, "state_of"),
    ("process()", process.Processing, "_state"),
    ("process.finish", processor.Processor, "_exemplify"),
    ("process() iterate receive", clients.Consumer, "partition"),
    ("receive", batch.Batch, "add"),
    ("receive", receive, "_count"),
    ("receive", receive, "_receive_span"),
    ("receive", receive, "_record_batch"),
    *([("reset", Younger, "assigned")] if hasattr(SubscriptionState, "reset_missing_positions") else []),
    ("require_fresh", require_fresh, "origin_in_hand"),
    ("seek", client, "_is_sought"),
    ("send", send, "destination_of"),
    ("send", send, "get_current"),
    ("send", send.Sending, "__init__"),
    ("send.finish", clients.Destination, "bind"),
    *(
        [("send.together", kafka_python_batches.SentBatches, "add"), ("send.finish", sent_batch.SentBatch, "_finish")]
        if hasattr(FutureRecordMetadata, "rebind")
        else [("send.follow", FutureRecordMetadata, "add_both")]
    ),
    ("send.headers", pipeline_header, "path_hash"),
    ("send.headers", send, "_first_hop"),
    ("send.headers", send, "set_pipeline_header"),
    ("detector.order sequence", pipeline_header, "tag_of"),
    ("sequence", pipeline_header.Template, "filled"),
    ("sequence", sequence.Sequences, "_count"),
    ("settle send.finish receive process.finish inference.finish", totals.HistogramCell, "record"),
]


ELSEWHERE = {
    "abort": "below",
    "asks": "tests/contract/test_injected.py",
    "batch.pool": "tests/adapters/test_polled_by_a_pool.py",
    "cluster": "tests/contract/test_injected.py",
    "current": "tests/contract/test_injected_doors.py",
    "delivering": "tests/export",
    "extract": "tests/engine/test_by_hand.py",
    "flow": "tests/contract/test_injected_doors.py",
    "framework": "tests/contract/test_framework.py",
    "event_time": "test_kafka_python_ages.py",
    "health": "tests/verdict: the thread that judges",
    "hook.send": "test_switched_off.py",
    "hook.process": "test_switched_off.py",
    "hook.inference": "test_switched_off.py",
    "inject": "tests/engine/test_by_hand.py",
    "logs": "tests/export/test_logs.py",
    "model": "tests/engine/test_model_objects.py",
    "pool": "tests/engine/test_pools.py",
    "propagator": "tests/contract/test_injected_doors.py",
    "producers": "tests/verdict/test_delivered.py",
    "send.acknowledgement": "below",
    "send.batch": "test_confluent_kafka_batches.py",
    "send.follow": "test_kafka_python_batches.py, and above where clients answer one by one",
    "sklearn.class": "tests/models/test_sklearn.py",
    "unreadable": "test_switched_off.py",
}


def every_place():
    """The names of all places that the package guards."""
    package = Path(otel_pipeline.__file__).parent
    return {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r'\b(?:place|place_in_force|step_aside|guarded)\("([^"]+)"', path.read_text("utf-8"))
    } | {"hook.send", "hook.process", "hook.inference"}


@pytest.mark.once  # Older clients do not have them all.
def test_every_place_is_made_to_fail():
    """A place that is added is added to the table; those of detectors are tried where detectors are."""
    named = {place for places, _, _ in INJECTED for place in places.split() if not place.startswith("detector.")}

    assert named | set(ELSEWHERE) == every_place()


def polls(consumer):
    """What each poll returns, until one has returned nothing for long."""
    while polled := consumer.poll(10_000):
        yield polled.values()


def application(kafka, topic, headers):
    """It does all that we are called for; what it got of its clients."""
    producer = kafka.producer()
    sent = [producer.send(topic, value, headers=headers, partition=0).get(10).offset for value in (b"a", b"b", b"c")]
    consumer, seen = kafka.consumer(topic), []
    for record in consumer:
        with otel_pipeline.process(record), otel_pipeline.inference("model", rows=1):
            seen.append((record.value, record.headers[0]))
            sent.append(producer.send(topic, b"on", headers=headers, partition=0).get(10).offset)
        if len(seen) == 2:
            break
    polled = kafka.poll(consumer, 3)
    with otel_pipeline.process(polled[0]), otel_pipeline.require_fresh("1h"):
        seen.append(polled[0].value)
    with otel_pipeline.process(polled[1:]):
        pass
    consumer.commit()
    consumer.unsubscribe()
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), 4)
    again = kafka.poll(consumer, 1)
    consumer.close()
    reader = kafka.consumer(topic)
    read = []
    for record in itertools.chain.from_iterable(itertools.chain.from_iterable(polls(reader))):
        read.append((record.value, otel_pipeline.current())[0])
        if len(read) == 5:
            break
    reader.close()
    return sent, seen, [*(record.value for record in (*polled, *again)), *read]


@pytest.mark.no_check
def test_an_answer_that_cannot_be_read_is_not_the_applications(telemetry, mock, monkeypatch):
    """The message is acknowledged all the same; where it lies is known to the application alone."""
    library = dataclasses.replace(kafka_python.KAFKA_PYTHON, acknowledged=lambda _answer: 1 / 0)
    monkeypatch.setattr(kafka_python, "KAFKA_PYTHON", library)
    monkeypatch.setattr(kafka_python_batches.SentBatches, "instrument", lambda *_patches: None)
    pipe = telemetry.instrument()
    producer, topic = mock.producer(), mock.topic()

    assert [producer.send(topic, b"a", partition=0).get(10).offset for _ in range(2)] == [0, 1]
    assert pipe.status().errors == {"send.acknowledgement": 2}


@pytest.mark.no_check
@pytest.mark.skipif(not hasattr(KafkaProducer, "abort_transaction"), reason="this client has no transactions")
def test_an_aborted_transaction_is_the_clients_own(telemetry, mock, monkeypatch):
    """What the client raises is raised, and ours is counted."""
    pipe = telemetry.instrument()
    producer = mock.producer()
    producer.send(mock.topic(), b"a", partition=0).get(10)
    monkeypatch.setattr(clients.Producer, "renew", lambda _self: 1 / 0)

    with pytest.raises(Exception, match="transaction"):
        producer.abort_transaction()
    assert pipe.status().errors == {"abort": 1}


@pytest.mark.no_check
@pytest.mark.parametrize(
    ("places", "owner", "name"), INJECTED, ids=[f"{owner.__name__}.{name}" for _, owner, name in INJECTED]
)
def test_a_failure_of_ours_is_not_the_applications(telemetry, mock, monkeypatch, tmp_path, places, owner, name):
    """Sent, received, processed, predicted, committed and closed as if we were not there; each failure is counted."""
    file = tmp_path / "otel_pipeline.yaml"
    file.write_text("destinations: {'*': {event_age: true}}")
    pipe = telemetry.instrument(config_file=file)
    failures = []

    def fail(*_arguments, **_options):
        failures.append(name)
        raise RuntimeError("of ours")

    monkeypatch.setattr(owner, name, fail)
    headers = [("ce_time", b"2026-01-01T00:00:00Z")]
    before = copy.deepcopy(headers)
    got = application(mock, mock.topic(), headers)
    telemetry.metrics()

    assert (got, headers) == (
        (
            [0, 1, 2, 3, 4],
            [(b"a", before[0]), (b"b", before[0]), b"c"],
            [b"c", b"on", b"on", b"on", *[b"a", b"b", b"c", b"on", b"on"]],
        ),
        before,
    )
    errors = pipe.status().errors
    if owner is totals.HistogramCell and "observe" in errors:
        # The age of a message that falls into another bucket than the one before is recorded there, too.
        places += " observe"
    assert (set(errors), sum(errors.values())) == (set(places.split()), len(failures))


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
