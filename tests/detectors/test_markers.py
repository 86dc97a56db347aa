"""Markers of transactions: they have offsets, are no messages, and excuse no number where the client shows them."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors.read_log import MAX_MARKERS
from tests.detectors.test_another_log import Reading
from tests.limits import below_at_above


@pytest.fixture
def reading():
    made = Reading()
    made.fetch(0, 100)
    made.read(*range(10))
    return made


@pytest.mark.parametrize(
    ("markers", "offset", "number", "open_", "excused"),
    [
        ((), 11, 12, 0, 1),
        ((10,), 11, 11, 0, 0),
        ((10,), 11, 12, 1, 0),
        ((10, 11), 12, 13, 2, 0),
        ((10,), 12, 13, 1, 1),
        ((9,), 11, 12, 0, 1),
        ((11,), 11, 12, 0, 1),
        ((10, 30), 11, 12, 1, 0),
    ],
)
def test_what_a_jump_excuses(reading, markers, offset, number, open_, excused):
    """As many numbers as offsets had no message, but for markers between the two messages."""
    if markers:
        reading.pace.markers(markers)
    reading.read(offset, number=number)

    assert (reading.order.open, reading.order.excused) == (open_, excused)


def test_markers_of_many_answers(reading):
    """Each is of its own jump."""
    reading.pace.markers((12, 15))
    reading.pace.markers((18,))
    reading.read(10, 11, 13, 14, number=11)
    reading.read(16, 17, number=16)
    reading.read(19, number=18)

    assert (reading.found(), reading.order.excused, reading.order.skipped) == ({"open": 1, "firsts": 1}, 0, 0)


def test_markers_that_were_fetched_before_the_first_message():
    """As those of every consumer's first answer."""
    reading = Reading()
    reading.fetch(0, 100)
    reading.pace.markers((1, 3))
    reading.read(0, 2, 4, number=1)

    assert (reading.found(), reading.order.excused, reading.order.skipped) == ({"firsts": 1}, 0, 0)


def test_what_is_fetched_again_is_told_again(reading):
    """After a seek back, or where the client has thrown an answer away: once is enough."""
    reading.pace.markers((10, 13))
    reading.pace.markers((10, 13, 16))
    reading.read(11, 12, number=11)
    reading.order.sought()
    reading.pace.markers((10, 13, 16))
    reading.read(8, 9, 11, 12, number=9)
    reading.read(14, 15, number=13)
    reading.read(17, number=16)

    assert (reading.found(), reading.order.excused) == ({"rewound": 4, "open": 1, "firsts": 1}, 0)


def test_markers_of_another_log(reading):
    """Those of the one that was read are not waited for."""
    reading.pace.markers((50, 60))
    reading.log = "new"
    reading.order.out_of_range(10, "earliest")
    reading.fetch(0, 5)
    reading.pace.markers((2,))
    reading.read(0, 1, producer=2, number=1)
    reading.read(3, producer=2, number=4)

    assert (reading.order.open, reading.order.excused) == (1, 0)


@below_at_above("detectors.read_log.MAX_MARKERS", 10_000, (1, 0), (1, 0), (0, 1))
def test_markers_of_what_is_not_handed_out_yet(reading, size, outcome):
    """The oldest is forgotten, and excuses a number, as if the client showed none."""
    assert MAX_MARKERS == 10_000
    reading.pace.markers(range(10, 10 + 2 * size, 2))
    reading.read(11, number=12)

    assert (reading.order.open, reading.order.excused) == outcome
