"""How many calls a message costs, of Python's functions and of C's: a rise fails. Counts do not depend on the machine."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

import otel_pipeline

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402

pytestmark = [
    pytest.mark.broker,
    pytest.mark.once,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python count calls otherwise"),
]
MANY = 500
PULL, STEP, GIVEN, ANSWERED = (4.9, 4.5), (1.1, 4.1), (23.2, 37.4), (13.2, 9.2)
"""At most so many calls by message, of Python's functions and of C's. Lower them with the code; a rise needs a reason."""
LEARNED = 1_200
"""Until the contract is learned: then nearly every value is only passed by."""


@pytest.fixture
def pipe(monkeypatch):
    for name in ("TRACES", "METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "none")
    found = otel_pipeline.instrument("calls", environment="staging", libraries=["confluent-kafka"])
    yield found
    found.shutdown(0)


def calls(act):
    """(Python's, C's) calls in this thread, the act's own among them."""
    found = Counter()

    def count(_frame, event, _argument):
        found[event] += 1

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return found["call"], found["c_call"] - 1  # But for `setprofile` itself.


def consumer_of(address, topic):
    consumer = Consumer({"bootstrap.servers": address, "group.id": "g", "log_level": 0, "fetch.wait.max.ms": 50})
    consumer.assign([TopicPartition(topic, 0, 0)])
    return consumer


def fill(address, topic, count):
    producer = Producer({"bootstrap.servers": address, "log_level": 0, "linger.ms": 200})
    for _ in range(count):
        producer.produce(topic, b'{"a":1}', partition=0)
    producer.flush(20)


def by_message(found, without=(0, 0)):
    """The fewest calls of some times, by message: now and then a value is compared, or ages are of two buckets."""
    best = min(found, key=sum)
    return [round((best[kind] - without[kind]) / MANY, 1) for kind in (0, 1)]


def above(found, most):
    """What is more than it may be, beside that."""
    return [(each, limit) for each, limit in zip(found, most, strict=True) if each > limit]


def test_a_driven_loop_that_looks_at_nothing(embedded, mock, pipe):
    """500 messages of one call: what the call adds for each of them, health and all, and a step of the loop."""
    topic, rounds = mock.topic(), 8
    fill(embedded, topic, LEARNED + rounds * MANY)
    consumer, taken, pulls, batches = consumer_of(embedded, topic), 0, [], []
    while taken < LEARNED:
        taken += len(consumer.consume(min(MANY, LEARNED - taken), 1))
    for _ in range(rounds):
        pulls.append(calls(lambda: batches.append(consumer.consume(MANY, 5))))
        assert len(batches[-1]) == MANY

    def loop(messages):
        for _ in messages:
            pass

    steps = by_message([calls(lambda each=each: loop(each)) for each in batches], calls(lambda: loop(batches[0][:])))
    consumer.close()

    assert above(by_message(pulls), PULL) + above(steps, STEP) == []
    assert pipe.status().errors == {}


def test_a_produced_message(embedded, mock, pipe):
    """Given to the client with a callback, and answered: sampled, numbered, with its contract and its span."""
    topic = mock.topic()
    fill(embedded, topic, LEARNED)
    producer = Producer({"bootstrap.servers": embedded, "log_level": 0, "linger.ms": 0})
    given, answered = [], []

    def nothing(_error, _message):
        pass

    def give():
        for _ in range(MANY):
            producer.produce(topic, b'{"a":1}', partition=0, on_delivery=nothing)

    for _ in range(6):
        given.append(calls(give))
        answered.append(calls(lambda: producer.flush(20)))

    assert above(by_message(given), GIVEN) + above(by_message(answered), ANSWERED) == []
    assert pipe.status().errors == {}
