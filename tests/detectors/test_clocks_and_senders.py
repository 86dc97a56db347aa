"""Clocks that are set, and senders whose data is old before the broker has it."""

from __future__ import annotations

from math import inf

import pytest

from otel_pipeline.detectors.decisions import Decisions
from otel_pipeline.detectors.freshness import DOUBTED_ORIGINS
from otel_pipeline.detectors.objectives import Objectives
from otel_pipeline.detectors.sender_delay import SenderDelays
from otel_pipeline.detectors.settings import Objective
from otel_pipeline.detectors.wall_clock import WallClock
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.origin import DOUBTED
from otel_pipeline.engine.totals import Totals
from tests.detectors.conftest import NOW_MS, Watching
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


# Origins whose clock is known to be wrong: flag C


WRONG = "a service before has found the clock wrong by which 30 messages began"
OBJECTIVES = (
    Objective("data", destination="orders", age="data", threshold_s=1.0, objective=0.99),
    Objective("delivery", destination="orders", age="delivery", threshold_s=1.0, objective=0.99),
)


def cases(watching):
    """(met, missed, unknown) of each objective."""
    evidence = watching.evidence()
    return {each.name: (each.met, each.missed, each.unknown) for each in evidence.freshness.objectives}


def doubted(number, *, flags=pipeline_header.DOUBTED, hops=1, origin_ms=NOW_MS - 100):
    return pipeline_header.encode(
        flags=pipeline_header.PER_PARTITION | flags,
        hops=hops,
        environment="production",
        origin_ms=origin_ms,
        newest_ms=0,
        path=1,
        producer_id=7,
        sequence=number,
        tag=pipeline_header.tag_of("orders", 0),
    )


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize(
    ("flags", "hops", "data", "delivery"),
    [
        (0, 1, (1, 1, 0), (2, 0, 0)),
        (pipeline_header.DOUBTED, 1, (0, 0, 2), (0, 0, 2)),
        (pipeline_header.DOUBTED, 2, (0, 0, 2), (2, 0, 0)),
    ],
)
def test_ages_from_a_clock_that_is_known_to_be_wrong(in_batches, flags, hops, data, delivery):
    """No objective takes one, met or missed; the message's own time is that of the last sender. Order is as ever."""
    watching = Watching(objectives=OBJECTIVES)
    headers = [doubted(1, flags=flags, hops=hops), doubted(2, flags=flags, hops=hops, origin_ms=NOW_MS - 2_000)]
    messages = [watching.message(at, header=header) for at, header in enumerate(headers)]
    if in_batches:
        observer = watching.consumer.partition("orders", 0).observer
        origins_ms = observer.batch(messages, headers, watching.now_ms)
        observer.processed_batch(1, origins_ms, watching.now_ms)
    else:
        observer = watching.deliver(*messages)
    evidence = watching.evidence()

    assert cases(watching) == {"data": data, "delivery": delivery}
    assert (evidence.counts[DOUBTED_ORIGINS], observer.order.numbers()) == (2 if flags else 0, {7: 2})
    assert observer.freshness.newest_origin_ms == NOW_MS - 100, "shown, as all ages are"
    assert observer.freshness.data_age.cell.sum == pytest.approx(2.1)


def test_the_light_says_that_a_service_before_knows_its_clock_to_be_wrong():
    """Nothing is met, and nothing missed: grey."""
    watching = Watching(objectives=OBJECTIVES[:1])
    watching.deliver(*(watching.message(at, header=doubted(at + 1)) for at in range(30)))
    light = watching.lights()["fresh"]

    assert (light.state, light.row, light.why) == (
        "grey",
        "at least",
        f"the age of 30 of 30 messages is not known: {WRONG} (data: 99 % under 1 s)",
    )


@pytest.mark.parametrize(
    ("origin_ms", "off", "case"), [(0, False, "true"), (DOUBTED, False, "unknown"), (0, True, "unknown")]
)
def test_a_decision_on_it(clocks, origin_ms, off, case):
    """Is of unknown age as well; so are all while the clock here is off."""
    totals = Totals()
    objective = Objective("fresh", model="churn", threshold_s=1.0, objective=0.99)
    clocks.clock.off = off
    decisions = Decisions(totals, Objectives((objective,), totals), str, clocks.clock)
    decisions.of("churn", None).decided(None, (origin_ms | NOW_MS - 100,), NOW_MS * 1_000_000)
    (counts,) = decisions._by_model["churn"]
    found = counts.evidence()

    assert {"true": found.met, "false": found.missed, "unknown": found.unknown} == {
        **dict.fromkeys(("true", "false", "unknown"), 0),
        case: 1,
    }


def test_a_sender_whose_clock_is_behind_is_doubted():
    """As long as it is proven: what is sent on from its messages says so."""
    watching = Watching(objectives=OBJECTIVES)
    pace = watching.flows.pace(watching.consumer, "orders", 0)
    observer, said = watching.deliver(*watching.numbered(1)), []
    for number in range(2, 6):
        watching.now_s += 1
        pace.fetched(watching.now_s - 0.1, watching.now_s - 0.05, number - 1, number - 1)
        pace.fetched(watching.now_s - 0.05, watching.now_s, number - 1, number)
        watching.deliver(watching.message(number - 1, age_ms=5_000, header=watching.header(number)))
        watching.flows.look()
        said.append(observer.doubts)
    watching.now_s += 301
    watching.flows.look()

    assert (said, observer.doubts) == ([False, False, True, True], False)
