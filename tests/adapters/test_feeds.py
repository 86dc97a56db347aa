"""What is told of a consumer's fetches, in terms that every Kafka client has."""

from __future__ import annotations

import pytest
from kafka import TopicPartition

from otel_pipeline.brokers.kafka import feeds
from otel_pipeline.brokers.kafka.feeds import Answer
from otel_pipeline.brokers.kafka.younger import Younger
from otel_pipeline.engine.clients import MAX_PARTITION_STATES, Consumer
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals
from tests.limits import below_at_above

YOUNG = ("orders", 3)


class Observed:
    """Keeps what it was told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *given: self.told.append((name, *given))


@pytest.fixture
def consumer():
    """One whose fetches are observed; `told` has what the observer of each partition was told."""
    engine = Engine(spans=None, propagation=None, totals=Totals(), guard=Guard())
    made = Consumer(engine, MessageFields(*[lambda _: 0] * 8), attributes={}, operation="poll")
    engine.observe_fetches = lambda _consumer, destination, partition: made.fetches.setdefault(
        (destination, partition), Observed()
    )
    return made


@pytest.fixture
def younger():
    """Of a topic that had three partitions, one that has come since and has no position."""
    made = Younger()
    made.assigned([("orders", 0, False)], {"orders": 3}.get)
    made.assigned([("orders", 0, False), (*YOUNG, True)], {"orders": 5}.get)
    return made


def told(consumer, younger, **said):
    """What is told of it once this answer has come."""
    asked, answer = {TopicPartition(*YOUNG): said.pop("position", 40)}, Answer(**{"error": 0, "end": 90, **said})
    younger.tell(consumer, asked, {YOUNG: answer})
    return [] if YOUNG not in consumer.fetches else consumer.fetches[YOUNG].told


@pytest.mark.parametrize(
    ("position", "start", "expected"),
    [(40, 0, [("skipped", 40)]), (40, 39, [("skipped", 1)]), (40, 40, []), (40, 41, []), (0, 0, [])],
)
def test_a_younger_partition_counts_from_where_it_begins(consumer, younger, position, start, expected):
    """The first position less the start of the log, once."""
    for _ in range(2):
        assert told(consumer, younger, position=position, start=start) == expected


@pytest.mark.parametrize("said", [{"start": -1}, {"start": 0, "error": 6}])
def test_an_answer_that_does_not_tell_is_waited_for(consumer, younger, said):
    """An older protocol, a leader that has moved, another partition's answer."""
    before = told(consumer, younger, **said)
    younger.tell(consumer, {("orders", 0): 5}, {("orders", 0): Answer(0, 9, 9, 0)})
    younger.tell(consumer, {YOUNG: 5}, {})

    assert (before, told(consumer, younger, start=0)) == ([], [("skipped", 40)])


def test_a_partition_that_has_been_read_here_is_no_first_look(consumer, younger):
    """It came back, and nobody had committed."""
    consumer.partition(*YOUNG)

    assert told(consumer, younger, start=0) == []
    consumer.partitions.clear()
    assert told(consumer, younger, start=0) == []


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        (("orders", 0, False, 3), (*YOUNG, True, 5), 1),
        (("orders", 0, False, 4), (*YOUNG, True, 5), 0),  # There from the beginning.
        (("orders", 0, False, 3), (*YOUNG, False, 5), 0),  # Committed, or sought by the application.
        (("orders", 0, False, 0), (*YOUNG, True, 5), 0),  # Nothing is known of the topic.
        (("raw", 0, False, 1), (*YOUNG, True, 5), 0),  # The first of its topic.
        ((*YOUNG, True, 5), (*YOUNG, True, 5), 0),
    ],
)
def test_what_is_younger(consumer, first, then, expected):
    """A partition with a number that its topic did not have, and without a position."""
    younger = Younger()
    for topic, partition, missing, count in (first, then):
        younger.assigned([(topic, partition, missing)], {topic: count}.get)

    assert len(told(consumer, younger, start=0)) == expected


@below_at_above("topics that are remembered", MAX_PARTITION_STATES, 1, 1, 0)
def test_topics_are_bounded(consumer, size, outcome):
    """Of more it is not known which partitions are younger."""
    younger = Younger()
    younger.assigned([(f"t{at}", 0, False) for at in range(size - 1)], lambda _: 1)
    younger.assigned([("orders", 0, False)], {"orders": 3}.get)
    younger.assigned([(*YOUNG, True)], {"orders": 5}.get)

    assert len(told(consumer, younger, start=0)) == outcome


def test_which_log_is_read_is_told_with_each_answer(consumer):
    """Also where nothing has changed, and not where a broker had nothing to say."""
    asked = {("orders", 0): 5, ("orders", 1): 6, ("orders", 2): 7, ("orders", 3): 8}
    answers = {
        ("orders", 0): Answer(0, 9, 10, 2),
        ("orders", 2): Answer(feeds.OFFSET_OUT_OF_RANGE, -1),
        ("orders", 3): Answer(6, -1),
    }
    feeds.tell_fetched(consumer, asked, answers, (1.0, 2.0), "latest", {"orders": "id"}.get)
    feeds.tell_fetched(consumer, {("orders", 4): 1}, {}, (3.0, 4.0), "latest")

    assert {partition: observer.told for (_, partition), observer in consumer.fetches.items()} == {
        0: [("of_log", "id"), ("fetched", 1.0, 2.0, 5, 9, 10, 2)],
        1: [("of_log", "id"), ("fetched", 1.0, 2.0, 6, None)],
        2: [("out_of_range", 7, "latest")],
        3: [],
        4: [("of_log", None), ("fetched", 3.0, 4.0, 1, None)],
    }
