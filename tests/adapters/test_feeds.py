"""What is told of a consumer's fetches, in terms that every Kafka client has."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import TopicPartitionState

from otel_pipeline.brokers.kafka import feeds
from otel_pipeline.brokers.kafka.feeds import Answer
from otel_pipeline.brokers.kafka.kafka_python_fetches import _Followed
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals

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


def skipped(consumer, younger, **said):
    """What is told of a partition whose first answer this is."""
    asked, answer = {TopicPartition(*YOUNG): said.pop("position", 40)}, Answer(**{"error": 0, "end": 90, **said})
    feeds.tell_skipped(consumer, asked, {YOUNG: answer}, younger)
    return [] if YOUNG not in consumer.fetches else consumer.fetches[YOUNG].told


@pytest.mark.parametrize(
    ("position", "start", "told"),
    [(40, 0, [("skipped", 40)]), (40, 39, [("skipped", 1)]), (40, 40, []), (40, 41, []), (0, 0, [])],
)
def test_a_younger_partition_counts_from_where_it_begins(consumer, position, start, told):
    """The first position less the start of the log, once."""
    younger = {YOUNG}

    assert (skipped(consumer, younger, position=position, start=start), younger) == (told, set())
    assert skipped(consumer, younger, position=position, start=start) == told


@pytest.mark.parametrize("said", [{"start": -1}, {"start": 0, "error": 6}])
def test_an_answer_that_does_not_tell_is_waited_for(consumer, said):
    """An older protocol, a leader that has moved."""
    younger = {YOUNG}

    assert (skipped(consumer, younger, **said), younger) == ([], {YOUNG})
    assert skipped(consumer, younger, start=0) == [("skipped", 40)]


def test_another_partitions_answer_says_nothing(consumer):
    """It is waited for."""
    younger = {YOUNG}
    feeds.tell_skipped(consumer, {("orders", 0): 5}, {("orders", 0): Answer(0, 9, 9, 0)}, younger)
    feeds.tell_skipped(consumer, {YOUNG: 5}, {}, younger)

    assert younger == {YOUNG}


def test_a_partition_that_has_been_read_here_is_no_first_look(consumer):
    """It came back, and nobody had committed."""
    consumer.partition(*YOUNG)
    younger = {YOUNG}

    assert (skipped(consumer, younger, start=0), younger) == ([], set())


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


told_by_the_client = pytest.mark.skipif(
    not hasattr(TopicPartitionState, "is_missing_position"), reason="since kafka-python 2.1"
)


class Client:
    """A consumer of kafka-python as far as it is asked: how many partitions its topics have."""

    def __init__(self, **partitions):
        self.config, self._client, self.cluster = KafkaConsumer.DEFAULT_CONFIG, self, self
        self.partitions = partitions

    def partitions_for_topic(self, topic):
        count = self.partitions.get(topic)
        return None if count is None else set(range(count))


def assigned(*partitions, missing=()):
    """An assignment in which these have no position."""
    states = {}
    for topic, partition in (*partitions, *missing):
        state = states[TopicPartition(topic, partition)] = TopicPartitionState()
        if (topic, partition) in partitions:
            state.seek(5)
    return states


@told_by_the_client
def test_a_partition_is_younger_where_its_topic_had_fewer_when_it_was_first_assigned(consumer):
    """And only where the client has no position for it."""
    client = Client(orders=2, raw=1)
    followed = _Followed(client, consumer)
    followed.resets(assigned(("orders", 0), missing=[("orders", 1)]))
    before = set(followed.younger)
    client.partitions["orders"] = 5
    followed.resets(assigned(("orders", 1), ("orders", 2), missing=[("orders", 3), ("orders", 4), ("raw", 0)]))

    assert (before, followed.younger) == (set(), {("orders", 3), ("orders", 4)})


@told_by_the_client
def test_a_topic_of_which_nothing_is_known_has_no_younger_ones(consumer):
    """No evidence."""
    followed = _Followed(Client(), consumer)
    followed.resets(assigned(missing=[("orders", 0)]))
    followed.resets(assigned(missing=[("orders", 0), ("orders", 7)]))

    assert followed.younger == set()


@told_by_the_client
def test_a_position_that_the_application_has_asked_for_is_its_own(consumer):
    """`seek_to_end` before the first message."""
    client = Client(orders=1)
    followed = _Followed(client, consumer)
    followed.resets(assigned(("orders", 0)))
    states = assigned(missing=[("orders", 1)])
    states[TopicPartition("orders", 1)].reset(-1)
    followed.resets(states)

    assert followed.younger == set()
