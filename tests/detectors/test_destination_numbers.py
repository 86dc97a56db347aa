"""Numbers given over all partitions: jumps mean nothing, repeats and disorder mean what they always do."""

from __future__ import annotations

import random

import pytest

from otel_pipeline.detectors.destination_numbers import WINDOW, DestinationNumbers
from otel_pipeline.detectors.environments import PartitionEnvironments
from otel_pipeline.detectors.freshness import PartitionFreshness
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.detectors.producer_window import NUMBERS
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals
from tests.limits import below_at_above

PARTITION_TAG, DESTINATION_TAG, ELSEWHERE = 1, 2, 3


def told(*numbers):
    """What is found of each of one producer's numbers."""
    seen = DestinationNumbers()
    return [seen.one(7, number, offset) for offset, number in enumerate(numbers)]


@pytest.fixture
def order():
    return PartitionOrder(PARTITION_TAG, lambda: 0.0, DESTINATION_TAG)


def found(order):
    names = (
        "by_destination",
        "missing_before_broker",
        "open",
        "reordered",
        "duplicate",
        "redelivered",
        "relayed",
    )
    return {name: value for name in names if (value := getattr(order, name))}


@pytest.mark.parametrize(
    ("numbers", "last"),
    [
        ((1, 2), None),
        ((1, 5_000_000), None),
        ((5, 5), "duplicate"),
        ((1, 9, 5), "reordered"),
        ((1, 9, 5, 5), "duplicate"),
        ((5, 4), None),  # Below the first that came.
        ((NUMBERS - 1, 2), None),  # They begin again.
        ((NUMBERS - 1, 2, NUMBERS), "reordered"),
    ],
)
def test_each_number_by_those_before(numbers, last):
    """A jump is none of anybody's business."""
    assert told(*numbers)[-1] == last


@pytest.mark.parametrize(
    ("back", "expected"),
    [(WINDOW - 1, "reordered"), (WINDOW, None), (WINDOW + 1, None)],
    ids=["below", "at", "above"],
)
def test_what_is_displaced_further_than_the_window_counts_as_nothing(back, expected):
    """It may have come already, and nobody remembers."""
    assert told(1, 5_000, 5_000 - back)[-1] == expected


@pytest.mark.parametrize(("ahead", "expected"), [(WINDOW - 1, "duplicate"), (WINDOW, None), (WINDOW + 1, None)])
def test_a_jump_beyond_the_window_forgets_what_was_in_it(ahead, expected):
    """A number that came is known for as long as it is in the window."""
    assert told(1, 10, 10 + ahead, 10)[-1] == expected


@below_at_above("detectors.producer_numbers.MAX_PRODUCERS, of a destination", 4_096, (0, 1), (0, 1), (1, 1))
def test_producers_are_bounded(order, size, outcome):
    """A full table turns newcomers away, and keeps comparing those that it has."""
    for producer in range(1, size + 1):
        order.one_of_destination(producer, producer, 1, DESTINATION_TAG)
    order.one_of_destination(size + 1, 1, 1, DESTINATION_TAG)

    assert (order.turned_away, order.duplicate) == outcome


@pytest.mark.parametrize("seed", range(5))
def test_what_was_doubled_and_displaced_is_found_in_every_partition(seed):
    """Four threads over six partitions: by comparing numbers alone, and nothing is ever missing."""
    chance = random.Random(seed)
    last, logs = dict.fromkeys(range(4), 0), {partition: [] for partition in range(6)}
    for _ in range(6_000):
        thread = chance.randrange(4)
        last[thread] += 1
        log, roll = logs[chance.randrange(6)], chance.random()
        log.append((thread + 1, last[thread]))
        if roll < 0.01:
            log.append(log[-1])
        elif roll < 0.03 and len(log) > 3:
            log[-1], log[-3] = log[-3], log[-1]
    for log in logs.values():
        order, newest, come, truth = (
            PartitionOrder(0, lambda: 0.0, DESTINATION_TAG),
            {},
            set(),
            {"by_destination": len(log)},
        )
        lowest = {}
        for offset, (producer, number) in enumerate(log):
            order.one_of_destination(offset, producer, number, DESTINATION_TAG)
            if number >= lowest.setdefault(producer, number):
                if (producer, number) in come:
                    truth["duplicate"] = truth.get("duplicate", 0) + 1
                elif number < newest.get(producer, 0):
                    truth["reordered"] = truth.get("reordered", 0) + 1
                come.add((producer, number))
                newest[producer] = max(newest.get(producer, 0), number)
        assert found(order) == truth


def test_offsets_come_first(order):
    """What is redelivered is no duplicate; after a seek the numbers begin anew."""
    for offset, number in [(0, 1), (1, 4), (1, 4), (0, 1), (2, 4)]:
        order.one_of_destination(offset, 7, number, DESTINATION_TAG)
    order.sought()
    order.one_of_destination(100, 7, 4, DESTINATION_TAG)

    assert found(order) == {"by_destination": 4, "redelivered": 2, "duplicate": 1}


def test_a_header_that_was_copied_is_relayed(order):
    """Its numbers are another destination's, or another kind."""
    order.one_of_destination(0, 7, 1, ELSEWHERE)
    order.one_of_destination(1, 7, 1, PARTITION_TAG)
    order.one(2, 7, 1, DESTINATION_TAG)

    assert found(order) == {"relayed": 3}


def test_both_kinds_of_one_producer_are_apart(order):
    """A thread that names the partition sometimes has two sequences."""
    for offset in range(0, 10, 2):
        order.one(offset, 7, 1 + offset // 2, PARTITION_TAG)
        order.one_of_destination(offset + 1, 7, 1 + offset // 2, DESTINATION_TAG)

    assert found(order) == {"by_destination": 5}
    assert order.numbers() == {7: 5}, "what can be missed at the end is that of the partition"


FIELDS = MessageFields(
    destination=lambda _: "orders",
    partition=lambda _: 0,
    offset=lambda message: message[0],
    timestamp_ms=lambda _: 1_000,
    key=lambda _: None,
    headers=lambda message: message[1],
    value=lambda _: None,
    body_bytes=lambda _: 0,
)


def watch():
    cells = Totals().histogram("age", "s", "", (1, 10))
    return PartitionWatch(
        FIELDS,
        order=PartitionOrder(PARTITION_TAG, lambda: 0.0, DESTINATION_TAG),
        freshness=PartitionFreshness(cells.cell({}), cells.local({})),
        environments=PartitionEnvironments("test", {}),
    )


def header(number, *, per_partition, environment="test"):
    return pipeline_header.encode(
        flags=pipeline_header.PER_PARTITION if per_partition else 0,
        hops=1,
        environment=environment,
        origin_ms=1_000,
        newest_ms=0,
        path=1,
        producer_id=7,
        sequence=number,
        tag=PARTITION_TAG if per_partition else DESTINATION_TAG,
    )


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_batch_tells_the_same_as_its_messages(size):
    """Both kinds mixed, with disorder, jumps, no numbers and strangers, however the messages are cut into batches."""
    chance = random.Random(1)
    messages = []
    for offset in range(300):
        number = max(0, offset // 2 + chance.choice((0, 0, 0, 0, -1, 2)))
        environment = "production" if chance.random() < 0.05 else "test"
        value = header(number, per_partition=chance.random() < 0.5, environment=environment)
        messages.append((offset, value if chance.random() > 0.02 else None))
    one, many = watch(), watch()
    for message in messages:
        one.one(message, message[0], 1_000, message[1], pipeline_header.fields(message[1]), 2_000)
    for at in range(0, 300, size):
        batch = messages[at : at + size]
        many.batch(batch, [value for _, value in batch], 2_000)

    def state(each):
        order = each.order
        counts = (each.readable, each.without_header, order.unnumbered, each.environments.visitors)
        return found(order), order.numbers(), counts

    assert state(many) == state(one)
    assert {"by_destination", "reordered", "duplicate"} <= found(one.order).keys()
