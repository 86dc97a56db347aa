"""The rows that are no harm, each just below and just above what it asks for."""

from __future__ import annotations

import pytest

from tests.verdict.harms import BEFORE_S, QUICK
from tests.verdict.simulation import Simulation
from tests.verdict.test_situations import clock_is_set


def stops_looking(seconds):
    """It polls no more, and nothing waited when it did."""
    found = Simulation(member=False)
    found.write(200)

    def application():
        while found.at_s < BEFORE_S:
            yield from found.poll()
            yield QUICK
        found.fetching = False
        yield seconds
        found.fetching = True
        while True:
            yield from found.poll()

    found.spawn(application())
    return found.run(BEFORE_S + seconds + 10)


def with_an_objective(threshold_s):
    found = Simulation(threshold_s=threshold_s)
    found.spawn(found.producer(5, evenly=True))
    found.spawn(found.iterator(lambda _message: QUICK))
    return found.run(20)


def has_handled(count):
    found = Simulation(threshold_s=4.0)
    found.spawn(found.iterator(lambda _message: QUICK))
    found.run(1)
    for _ in range(count):
        found.write(1)
        found.run(0.2)
    return found.run(10)


def is_set_back(count):
    """To messages that it has processed."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5, evenly=True))
    found.spawn(found.iterator(lambda _message: 0.1))
    found.run(BEFORE_S)
    found.leave()
    found.seek(0, found.partitions[0].position - count)
    return found.run(30)


def come_from_the_future(share):
    """By a clock that is ahead: their ages are negative."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(10 * (1 - share), evenly=True))
    found.spawn(found.producer(10 * share, evenly=True, age_s=-20.0, producer=8))
    found.spawn(found.iterator(lambda _message: QUICK))
    return found.run(120)


def works_off(count):
    """So many wait, and 20 a second are handled; half of them may be late."""
    found = Simulation(threshold_s=10.0, objective=0.05)
    found.spawn(found.producer(5, evenly=True))
    found.spawn(found.iterator(lambda _message: 0.05))
    found.run(BEFORE_S)
    found.write(count)
    return found.run(120)


ROWS = [
    # The light, colour, row, what happens, how much of it: just below, just above.
    ("pace", "grey", "idle", stops_looking, 58, 63),
    ("fresh", "grey", "not set up", lambda no: with_an_objective(None if no else 4.0), 0, 1),
    ("fresh", "grey", "clock here", clock_is_set, 0.9, 1.1),
    ("fresh", "green", "met", has_handled, 29, 30),
    ("fresh", "amber", "replaying", is_set_back, 0, 100),
    # The colour is still that of what was waiting too long.
    ("fresh", "red", "catching up", works_off, 100, 1_500),
    ("fresh", "grey", "at least", come_from_the_future, 0.08, 0.15),
]


@pytest.mark.once
@pytest.mark.parametrize(("light", "colour", "row", "act", "below", "above"), ROWS, ids=lambda each: str(each)[:20])
def test_just_below_and_just_above(light, colour, row, act, below, above):
    """It holds above, and not below."""
    found = [act(below), act(above)]

    assert [each.first(light, colour, row=row) is not None for each in found] == [False, True], [
        each.of(light) for each in found
    ]
