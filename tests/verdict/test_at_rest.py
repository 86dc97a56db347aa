"""A consumer of which nothing moves is looked at quickly, and what is known of it is the same."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors.consumer_pace import ConsumerLooks
from tests.verdict.simulation import Simulation

REST_S = 120


def reading(work_s=0.1, *, until_s=60.0):
    found = Simulation()
    found.spawn(found.producer(5, evenly=True, until_s=until_s))
    found.spawn(found.iterator(lambda _message: work_s))
    return found


def pace(found):
    (consumer,) = found.evidence().pace.consumers
    return consumer


@pytest.fixture
def whole(monkeypatch):
    """Has every look be a whole one."""
    rest = ConsumerLooks._rest
    taken = []

    def set_up(*, at_rest):
        if not at_rest:
            monkeypatch.setattr("otel_pipeline.detectors.consumer_pace.mark_of", lambda _live: object())
        monkeypatch.setattr(ConsumerLooks, "_rest", lambda self, *a, **k: taken.append(1) or rest(self, *a, **k))
        return taken

    return set_up


def test_what_is_known_is_the_same(whole):
    """While it rests, when something begins to wait, and when that is handled."""
    seen = []
    for at_rest in (True, False):
        taken = whole(at_rest=at_rest)
        before = len(taken)
        found = reading(until_s=60.0).run(60 + REST_S)
        at = [pace(found)]
        found.serving = False
        found.write(3)
        for _ in range(12):
            found.run(1)
            at.append(pace(found))
        found.serving = True
        at.append(pace(found.run(10)))
        seen.append((at, found.seen, len(taken) - before > REST_S / 2))

    assert [rested for _, _, rested in seen] == [True, False]
    assert seen[0][:2] == seen[1][:2]
    assert (seen[0][0][12].still_s, seen[0][0][12].waiting) == (pytest.approx(12, abs=1.1), 3)


def test_rates_fall_while_it_rests():
    """Nobody is told that messages come which do not come any more."""
    found = reading(until_s=60.0).run(60)
    busy = found.evidence().pace
    rests = found.run(REST_S).evidence().pace

    assert (busy.in_rate > 3.0, busy.utilization > 0.3) == (True, True)
    assert (rests.in_rate < busy.in_rate / 10, rests.utilization < busy.utilization / 10) == (True, True)


def test_a_message_that_is_handed_out_without_a_move_of_the_position_ends_the_rest():
    """As by a client whose position is behind what it still hands out: what hangs then is seen."""
    found = reading(until_s=60.0).run(60 + REST_S)
    state = found.consumer.partition("orders", 0)
    message = found.partitions[0].messages[-1]
    state.observer.began(message[2], message)
    found.run(15)

    assert (pace(found).in_hand, found.of("pace")[-1][1:]) == (1, ("amber", "stuck in the handler"))
