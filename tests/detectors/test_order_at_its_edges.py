"""Order at its edges: the first offset, the last number of a window, a whole batch at once, messages without a place."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors import partition_order
from otel_pipeline.detectors.partition_order import PartitionOrder, Unplaced
from otel_pipeline.detectors.producer_numbers import Room
from otel_pipeline.detectors.producer_window import MAX_GAPS, WINDOW, Between, Counts, Window
from tests.limits import below_at_above

TAG = 7


@pytest.fixture
def order():
    return PartitionOrder(TAG, lambda: 0.0)


def read(order, *numbers, offset=0):
    """Messages of producer 1 with these numbers, at offsets in a row."""
    for at, number in enumerate(numbers):
        order.one(offset + at, 1, number, TAG)


def test_a_batch_in_which_nothing_is_remarkable(order):
    """It is taken in at once."""
    read(order, 1, 2)

    assert order.batch(2, 11, 1, 3, TAG) is True
    assert (order.highest, order.numbers(), order.latest.offset) == (11, {1: 12}, 11)


@pytest.mark.parametrize(
    ("first", "producer", "number", "tag"),
    [
        (3, 1, 3, TAG),
        (1, 1, 3, TAG),
        (2, 9, 3, TAG),
        (2, 1, 4, TAG),
        (2, 1, 2, TAG),
        (2, 1, 0, TAG),
        (2, 1, 3, TAG + 1),
    ],
)
def test_a_batch_that_has_to_be_told_one_by_one(order, first, producer, number, tag):
    """Another offset, producer, number or tag: nothing is taken in."""
    read(order, 1, 2)

    assert order.batch(first, first + 9, producer, number, tag) is False
    assert (order.highest, order.numbers()) == (1, {1: 2})


def test_a_batch_behind_a_gap_has_to_be_told_one_by_one(order):
    """The gap moves through the window with each message."""
    read(order, 1, 3)

    assert order.batch(2, 11, 1, 4, TAG) is False


@pytest.mark.parametrize(("producer", "number"), [(0, 5), (5, 0), (0, 0)])
def test_no_number(order, producer, number):
    """Without a producer, or without a number: nothing is compared."""
    order.one(0, producer, number, TAG)

    assert (order.unnumbered, order.firsts, order.numbers()) == (1, 0, {})


def test_messages_without_a_place():
    """Each way that one is told."""
    order = Unplaced(-1, lambda: 0.0)
    order.one(0, 1, 1, TAG)
    order.without_header(0)
    order.one_of_destination(0, 1, 1, TAG)

    assert (order.unplaced, order.firsts, order.highest) == (3, 0, -2)


@pytest.mark.parametrize(("offset", "found"), [(1, 1), (2, 0)])
def test_a_seek_after_the_first_message(order, offset, found):
    """To the next one, and nothing is left out: the missing number is a loss. Beyond it the application left it out."""
    read(order, 1)
    order.sought()
    read(order, 3, offset=offset)
    order.close()

    assert (order.missing_before_broker, order.is_sought) == (found, False)


@pytest.mark.parametrize(("offset", "found"), [(1, 1), (2, 0)])
def test_a_partition_that_comes_back_after_its_first_message(order, offset, found):
    """The next offset goes on with what is known; any other is a new base line."""
    read(order, 1)
    order.assigned()
    read(order, 3, offset=offset)
    order.close()

    assert (order.missing_before_broker, order.redelivered) == (found, 0)


@pytest.mark.parametrize(("back_to", "rewound", "redelivered"), [(0, 2, 0), (1, 1, 0)])
def test_a_seek_back_to_the_first_message(order, back_to, rewound, redelivered):
    """What was read before the seek is rewound; what comes again after that is redelivered."""
    read(order, 1, 2)
    order.sought()
    read(order, *range(back_to + 1, 4), offset=back_to)

    assert (order.rewound, order.redelivered, order.open) == (rewound, redelivered, 0)
    read(order, 3, offset=2)
    assert order.redelivered == redelivered + 1


def test_a_redelivery_that_nobody_sought(order):
    """The first two offsets once more."""
    read(order, 1, 2, 3)
    read(order, 1, 2, offset=0)

    assert (order.rewound, order.redelivered) == (0, 2)


@below_at_above("windows, of which half fill the table", 4, False, False, True)
def test_when_silence_is_looked_for(monkeypatch, size, outcome):
    """Where more than half of the places are taken, of the partition or of the process: else nobody has to go."""
    monkeypatch.setattr(partition_order, "MAX_PRODUCERS", 8)
    monkeypatch.setattr(partition_order, "MAX_ALL_PRODUCERS", 8)
    by_partition, by_process = (PartitionOrder(TAG, lambda: 0.0, -1, room) for room in (Room(), Room()))
    for producer in range(1, size + 1):
        by_partition.one(producer, producer, 1, TAG)
    by_partition._room.taken, by_process._room.taken = 0, size
    for each in (by_partition, by_process):
        each.look(0.0)

    assert [each._silence is not None for each in (by_partition, by_process)] == [outcome, outcome]


# One window


class Stream:
    """One producer's numbers, at offsets in a row; a clock that counts them."""

    def __init__(self, *numbers):
        self.counts, self.now_s, self.offset = Counts(), 0.0, 0
        self.window = Window(1, numbers[0], 0, 0)
        self.compare(*numbers[1:])

    def compare(self, *numbers):
        for number in numbers:
            self.offset += 1
            self.now_s += 1.0
            self.window.compare(number, self.offset, lambda: self.now_s, self.counts)
        return self

    @property
    def gaps(self):
        return [(gap.first, gap.last, gap.seen_s, gap.place) for gap in self.window.gaps or ()]


def test_gaps_are_given_up_one_by_one():
    """The numbers of the others stay open."""
    stream = Stream(1, 4, 5, 9)
    newer = stream.window.gaps[1]
    stream.window.settle([newer], stream.counts, missing=True)

    assert (stream.counts.open, stream.counts.missing_before_broker) == (2, 3)
    assert stream.counts.missing_places == (Between(2, 3),)
    assert stream.gaps == [(2, 3, 1.0, Between(0, 1))]


def test_what_was_given_up_and_comes_is_late_and_stays_counted():
    """Also when the window has moved on since."""
    stream = Stream(1, 3)
    stream.window.settle(stream.window.gaps, stream.counts, missing=True)
    stream.compare(4, 6, 7, 2)

    assert (stream.counts.missing_before_broker, stream.counts.reordered, stream.counts.open) == (1, 1, 1)
    stream.compare(2)
    assert (stream.counts.duplicate, stream.counts.open) == (1, 1)


def test_a_gap_beyond_the_window_is_given_up_with_its_place():
    """And is none of the window's any more; what was jumped over at once has a place of its own."""
    stream = Stream(1, 3).compare(2 + WINDOW)
    assert (stream.counts.missing_before_broker, stream.counts.open, len(stream.gaps)) == (1, WINDOW - 2, 1)
    assert stream.counts.missing_places == (Between(0, 1),)

    stream.compare(2 + 2 * WINDOW)
    assert stream.counts.missing_before_broker == 1 + (WINDOW - 2) + 0
    assert stream.gaps == [(3 + WINDOW, 1 + 2 * WINDOW, 3.0, Between(2, 3))]


def test_a_gap_in_the_window_is_kept_until_it_leaves_it():
    """By one number."""
    stream = Stream(1, 3, *range(4, 2 + WINDOW))
    assert (stream.counts.open, stream.counts.missing_before_broker, len(stream.gaps)) == (1, 0, 1)

    stream.compare(2 + WINDOW)
    assert (stream.counts.open, stream.counts.missing_before_broker, stream.window.gaps) == (0, 1, None)


@below_at_above("detectors.producer_window.MAX_GAPS", MAX_GAPS, MAX_GAPS - 1, MAX_GAPS, MAX_GAPS)
def test_too_many_gaps_are_joined_to_the_last(size, outcome):
    """With its time set to now: given up later than alone, never too early."""
    stream = Stream(1, *range(3, 3 + 2 * size, 2))

    assert (len(stream.gaps), stream.counts.open) == (outcome, size)
    assert [first for first, *_ in stream.gaps] == [2 + 2 * at for at in range(outcome)]
    assert stream.gaps[-1][1:3] == (2 * size, float(size))
    assert stream.gaps[0][1:3] == (2, 1.0)


def test_a_gap_that_has_left_the_window_has_been_counted():
    """Whoever still holds it counts nothing."""
    stream = Stream(1, 3)
    (gap,) = stream.window.gaps
    stream.compare(3 + 2 * WINDOW)
    before = stream.counts.open, stream.counts.missing_before_broker
    stream.window.settle([gap], stream.counts, missing=True)

    assert (stream.counts.open, stream.counts.missing_before_broker) == before
