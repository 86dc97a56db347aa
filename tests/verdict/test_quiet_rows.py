"""The rows that are no harm, each just below and just above what it asks for."""

from __future__ import annotations

import pytest

from tests.verdict.harms_to_pace import BEFORE_S, QUICK, beginning, handler_hangs, reading
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


def has_no_partitions(seconds):
    """The group gives them to others for so long."""
    found = reading(beginning())
    found.assigned = False
    found.run(seconds)
    found.assigned = True
    return found.run(10)


def begins_without_a_broker(seconds):
    """None has answered since the beginning; the first one that does is the end of that."""
    found = beginning()
    found.broker_up = False
    found.consumer.fetch_observer("orders", 0)
    found.spawn(found.iterator(lambda _message: QUICK))
    found.run(seconds)
    found.broker_up = True
    return found.run(5)


ROWS = [
    # The light, colour, row, what happens, how much of it: just below, just above.
    ("pace", "grey", "no evidence", has_no_partitions, 1, 3),
    ("pace", "amber", "no answer", begins_without_a_broker, 10, 12),
    ("pace", "grey", "idle", stops_looking, 58, 63),
    ("fresh", "grey", "not set up", lambda no: with_an_objective(None if no else 4.0), 0, 1),
    ("fresh", "grey", "clock here", clock_is_set, 0.9, 1.1),
    # What comes after a minute is there, and is not handled; that it waits too long is proven 10 s later.
    ("fresh", "grey", "nothing judged", lambda hangs_s: handler_hangs(hangs_s, threshold_s=60.0), 60, 63),
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


def test_until_a_fetch_is_answered_there_is_no_evidence():
    """For ten seconds; then that there is no answer is one."""
    answered, not_answered = (begins_without_a_broker(seconds) for seconds in (10, 12))

    assert [each[1] for each in answered.of("pace")] == ["grey", "grey", "green"]
    assert {each[4] for each in answered.seen if each[1:3] == ("pace", "grey")} == {
        "not seen yet: no fetch has been answered"
    }
    assert not_answered.of("pace")[-2:] == [(12, "amber", "no answer"), (13, "amber", "caught up")]
