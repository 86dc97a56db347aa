"""Sends that one answer of the broker finishes: each has its own offset and time, whatever becomes of the batch."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer
from kafka.producer.future import FutureRecordMetadata

from otel_pipeline import semconv
from otel_pipeline.brokers.kafka.kafka_python_batches import SentBatches
from otel_pipeline.engine import guard

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(not hasattr(FutureRecordMetadata, "rebind"), reason="older clients answer one by one"),
]
OFFSET = semconv.KAFKA_OFFSET
LATER_MS = 60_000
"""So that a batch is sent when it is asked for."""


def offsets(telemetry):
    """Offset and status of each send, in the order in which they ended."""
    return [
        (span.attributes.get(OFFSET), span.attributes.get("error.type"))
        for span in telemetry.spans()
        if span.name.startswith("send")
    ]


def waiting(producer):
    """The only batch that the producer has not sent yet, and its queue."""
    (queue,) = producer._accumulator._batches.values()
    return queue[0], queue


def test_one_answer_finishes_all(telemetry, mock):
    """The first of a destination one by one, since its series are made then; the others together."""
    pipe, topic = telemetry.instrument(), mock.topic()
    producer = mock.producer(linger_ms=LATER_MS)
    for _ in range(2):
        for _ in range(5):
            producer.send(topic, b"a", partition=0)
        producer.flush()

    assert offsets(telemetry) == [(offset, None) for offset in range(10)]
    assert [point.value for point in telemetry.metric("messaging.client.sent.messages").points] == [10]
    durations = [
        point
        for point in telemetry.metric("messaging.client.operation.duration").points
        if point.attributes["messaging.operation.name"] == "send"
    ]
    assert [point.count for point in durations] == [10]
    assert pipe.status().errors == {}


def test_a_batch_that_is_split_is_finished_by_its_parts(telemetry, mock):
    """A batch that is too large gets no answer; the client makes two of it."""
    pipe, topic = telemetry.instrument(), mock.topic()
    producer = mock.producer(linger_ms=LATER_MS)
    futures = [producer.send(topic, b"a", partition=0) for _ in range(5)]
    accumulator = producer._accumulator
    batch, queue = waiting(producer)
    queue.clear()
    batch.records.close()
    accumulator._incomplete.remove(batch)
    assert accumulator.split_and_reenqueue(batch) == 2
    producer.flush()

    assert [future.get(10).offset for future in futures] == [0, 1, 2, 3, 4]
    assert sorted(offsets(telemetry)) == [(offset, None) for offset in range(5)]
    assert pipe.status().errors == {}


@pytest.mark.parametrize("known", [False, True])
def test_a_batch_that_fails_fails_each(telemetry, mock, known):
    """With the exception that the client gives each of them."""
    pipe, topic = telemetry.instrument(), mock.topic()
    producer = mock.producer(linger_ms=LATER_MS)
    if known:
        producer.send(topic, b"a", partition=0)
        producer.flush()
        telemetry.clear()
    for _ in range(3):
        producer.send(topic, b"a", partition=0)
    batch, queue = waiting(producer)
    queue.clear()
    producer._accumulator._incomplete.remove(batch)
    batch.complete_exceptionally(RuntimeError(), lambda place: KeyError(place) if place else ValueError(place))

    assert offsets(telemetry) == [(None, "ValueError"), (None, "KeyError"), (None, "KeyError")]
    assert pipe.status().errors == {}


def test_nobody_answers(telemetry, mock):
    """With acks=0 the client knows no offset."""
    pipe, topic = telemetry.instrument(), mock.topic()
    producer = mock.producer(acks=0, enable_idempotence=False)
    for _ in range(2):
        producer.send(topic, b"a", partition=0)
        producer.flush()

    assert offsets(telemetry) == [(None, None)] * 2
    assert pipe.status().errors == {}


def test_a_batch_of_two_pipelines(telemetry, mock):
    """Each finishes its own: a batch that was begun under one is answered under the next."""
    pipe, topic = telemetry.instrument(), mock.topic()
    producer = mock.producer(linger_ms=LATER_MS)
    producer.send(topic, b"a", partition=0)
    pipe.uninstrument()
    producer.send(topic, b"a", partition=0)
    again = telemetry.instrument()
    producer.send(topic, b"a", partition=0)
    producer.flush()

    assert sorted(offsets(telemetry)) == [(0, None), (2, None)]
    assert (pipe.status().errors, again.status().errors) == ({}, {})


def test_interrupted_once_the_batch_has_it(telemetry, mock, monkeypatch):
    """The call fails, the message is on its way: the broker's answer is what its span tells, once."""
    telemetry.instrument()
    topic, producer = mock.topic(), mock.producer(linger_ms=LATER_MS)
    producer.send(topic, b"a", partition=0)
    producer.flush()

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(producer._sender, "wakeup", interrupted)
        with pytest.raises(KeyboardInterrupt):
            producer.send(topic, b"b", partition=0)
    producer.flush()

    assert offsets(telemetry) == [(0, None), (1, None)]
    assert [point.value for point in telemetry.metric("messaging.client.sent.messages").points] == [2]


def test_what_another_layer_copies_is_followed_by_itself(telemetry, mock, monkeypatch):
    """Headers that are not our list any more are found in no batch."""
    inner = KafkaProducer.send

    def send(self, topic, value=None, key=None, headers=None, partition=None, timestamp_ms=None):
        return inner(self, topic, value, key, list(headers or ()), partition, timestamp_ms)

    monkeypatch.setattr(KafkaProducer, "send", send)
    pipe, topic = telemetry.instrument(), mock.topic()
    producer = mock.producer()
    for _ in range(3):
        producer.send(topic, b"a", partition=0).get(10)

    assert offsets(telemetry) == [(offset, None) for offset in range(3)]
    assert pipe.status().errors == {}


def test_where_batches_cannot_be_followed_each_send_is(telemetry, mock, monkeypatch):
    """A client whose batches have become others is tried so often, and no more; nothing is lost by it."""
    pipe, topic = telemetry.instrument(), mock.topic()
    monkeypatch.setattr(guard, "OFF_AFTER", 3)
    monkeypatch.setattr(SentBatches, "add", lambda *_message: 1 / 0)
    producer = mock.producer()
    for _ in range(5):
        producer.send(topic, b"a", partition=0).get(10)

    assert offsets(telemetry) == [(offset, None) for offset in range(5)]
    assert pipe.status().errors == {"send.together": 3}


def test_what_cannot_be_followed_at_all_is_the_applications_alone(telemetry, mock, monkeypatch):
    """Neither by its batch nor by itself: it is sent, and counted as a failure of ours."""
    pipe, topic = telemetry.instrument(), mock.topic()
    monkeypatch.setattr(SentBatches, "add", lambda *_message: 1 / 0)
    monkeypatch.setattr(FutureRecordMetadata, "_add_cb_eb", lambda *_callbacks: 1 / 0)

    assert mock.producer().send(topic, b"a", partition=0).get(10).offset == 0
    assert pipe.status().errors == {"send.together": 1, "send.follow": 1}
