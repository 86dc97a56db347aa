"""Clocks that are set, and senders whose data is old before the broker has it."""

from __future__ import annotations

from math import inf

import pytest

from otel_pipeline.detectors.sender_delay import SenderDelays
from otel_pipeline.detectors.wall_clock import WallClock
from tests.limits import below_at_above


class Clocks:
    """A wall clock that somebody sets, and one that nobody can."""

    def __init__(self):
        self.now_s, self.set_by_s, self.busy_s = 1_000.0, 0.0, 0.0
        self.clock = WallClock(lambda: 1_800_000_000.0 + self.now_s + self.set_by_s, self.steady)

    def steady(self):
        self.now_s += self.busy_s / 2
        return self.now_s

    def look(self, seconds=1, age_s=inf):
        for _ in range(seconds):
            self.now_s += 1
            self.clock.look(age_s)
        return self.clock.off


@pytest.fixture
def clocks():
    found = Clocks()
    found.look(100, age_s=0.05)
    return found


@below_at_above("detectors.wall_clock.STEP_S", 1.0, False, False, True, step=0.01)
def test_a_step(clocks, size, outcome):
    """Smaller ones are followed: a clock that is slewed makes many of them."""
    clocks.set_by_s = size - 1e-6

    assert (clocks.clock.is_off(), clocks.look()) == (outcome, outcome)
    assert not outcome or clocks.clock.step_s == pytest.approx(size, abs=1e-3)


def test_a_step_back(clocks):
    """It is one as well; and none is left once it is undone."""
    clocks.set_by_s = -3_600.0
    off = clocks.look()
    clocks.set_by_s = 0.0

    assert (off, clocks.look(), clocks.clock.step_s) == (True, False, -3_600.0)


@below_at_above("detectors.wall_clock.OFF_S", 300, True, True, False)
def test_it_is_believed_again(clocks, size, outcome):
    """After five minutes, whatever it says."""
    clocks.set_by_s = 60.0
    clocks.look()

    assert clocks.look(size) == outcome


@below_at_above("detectors.wall_clock.AGES", 30, True, False, False)
def test_ages_are_as_before(clocks, size, outcome):
    """All machines were set together: thirty messages that are as old as those before."""
    clocks.set_by_s = 60.0

    assert clocks.look(size, age_s=0.9) == outcome


def test_ages_that_are_not_as_before_say_nothing(clocks):
    """This machine alone was set."""
    clocks.set_by_s = 60.0

    assert clocks.look(100, age_s=60.0) is True


@below_at_above("detectors.wall_clock.READ_WITHIN_S", 0.01, True, False, False, step=0.001)
def test_a_look_while_the_machine_was_busy(clocks, size, outcome):
    """The two clocks were read too far apart to be compared."""
    clocks.set_by_s = 60.0
    clocks.busy_s = 2 * size + 1e-9

    assert clocks.look() == outcome


def test_a_laptop_that_sleeps_is_no_step():
    """The clock that counts on while it does is the one that is compared with."""
    assert WallClock()._steady_s() > 0


def looks(*, over_s=5.0, sender=7, times=3, width_s=0.5, at_s=0.0, delays=None):
    """Messages that were older than their place in the log can be, one a second."""
    delays = delays or SenderDelays()
    for at in range(times):
        delays.look(at_s + at, sender, over_s + width_s, (0.0, width_s))
    return delays


@below_at_above("detectors.sender_delay.MIN_LOOKS", 3, None, (5.0, 7), (5.0, 7))
def test_what_a_sender_adds(size, outcome):
    """Three times, or it is chance."""
    assert looks(times=size).delay(10.0, 4.0) == outcome


@below_at_above("seconds against half of the threshold", 2.0, None, None, (2.01, 7), step=0.01)
def test_what_is_much_against_a_threshold(size, outcome):
    """Half of it."""
    assert looks(over_s=size).delay(10.0, 4.0) == outcome


@below_at_above("detectors.sender_delay.AT_LEAST_S", 0.25, None, None, (0.26, 7), step=0.01)
def test_what_is_much_at_all(size, outcome):
    """Below it no clock of a normal machine is worth a word."""
    found = looks(over_s=size, width_s=0.0).delay(10.0, 0.1)

    assert (None if found is None else (round(found[0], 2), found[1])) == outcome


@below_at_above("detectors.sender_delay.WIDEST_S", 1.0, True, True, False, step=0.01)
def test_an_interval_that_proves_something(size, outcome):
    """Where it is wide, nobody knows when the message was written."""
    assert (looks(width_s=size).delay(10.0, 4.0) is not None) == outcome


@below_at_above("detectors.sender_delay.WINDOW_S", 300, True, True, False)
def test_what_was_is_forgotten(size, outcome):
    """After five minutes."""
    assert (looks(times=3, at_s=-2.0).delay(size - 2.0, 4.0) is not None) == outcome


def test_a_sender_that_is_in_time_clears_all():
    """Nothing is excused as long as one sender of the partition is right."""
    delays = looks(sender=7)

    assert looks(sender=8, over_s=0.0, delays=delays).delay(10.0, 4.0) is None
    assert delays.settled
