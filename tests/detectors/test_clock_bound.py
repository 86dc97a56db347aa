"""The bound of the clock's offset, against simulated clocks whose true offset is known."""

from __future__ import annotations

import math
import random
import threading
from statistics import median

import pytest

from otel_pipeline.detectors import clock, kernel_clock
from otel_pipeline.detectors.clock_bound import SLOT_S, WINDOW_S, ClockBound
from otel_pipeline.engine.totals import Totals
from otel_pipeline.verdict.report import Health, Process


class World:
    """True time goes on; the clock here and the Collector's are off by so much, and may drift and be set."""

    def __init__(self, seed=1, offset=0.0, drift=0.0, **options):
        self.random = random.Random(seed)
        self.true = 1_700_000_000 + self.random.random()
        self.began = self.true
        self.offset = offset
        self.drift = drift
        self.collector_step = 0.0
        self.bound = ClockBound(wall_s=lambda: self.here, monotonic_s=lambda: self.true - self.began + 5000, **options)

    @property
    def here(self):
        """Our own clock is the right one until it is set; what drifts is the Collector's."""
        return self.true + self.offset

    @property
    def theta(self):
        return self.offset - self.collector_step + self.drift * (self.true - self.began)

    def answer(self, delay=0.003, jitter=0.004):
        """One export; the Collector's own time is somewhere within the round trip."""
        sent = self.here
        self.true += delay + self.random.expovariate(1 / jitter)
        date = math.floor(self.here - self.theta)
        self.true += delay + self.random.expovariate(1 / jitter)
        self.bound.add(sent, self.here, date)

    def answers(self, count, every):
        for _ in range(count):
            self.true += every if not callable(every) else every()
            self.answer()

    def contains(self):
        found = self.bound.interval()
        return found is None or found.lower <= self.theta <= found.upper


def test_no_evidence_is_no_bound():
    world = World()
    assert (world.bound.interval(), world.bound.bound()) == (None, None)


def test_one_answer_by_hand():
    """Sent at 10.2 and here at 10.4 by our clock; the Collector wrote 12: it is ahead by 1.6 to 2.8 s."""
    world = World()
    world.true = world.began = 10.4
    bound = ClockBound(wall_s=lambda: 10.4, monotonic_s=lambda: 0.0)
    bound.add(10.2, 10.4, 12)

    found = bound.interval()

    assert found.lower == pytest.approx(10.2 - 13, abs=0.002)
    assert found.upper == pytest.approx(10.4 - 12, abs=0.002)
    assert found.bound == -found.lower


@pytest.mark.parametrize("offset", [0.0, 0.3, -0.3, 1.0, -7.7, 86_400.5, -3e8])
@pytest.mark.parametrize("drift", [0.0, 90e-6, -90e-6])
def test_the_truth_is_always_inside(offset, drift):
    """Whatever the offset, at every moment of an hour of irregular exports."""
    for seed in range(5):
        world = World(seed, offset, drift)
        for _ in range(300):
            world.true += world.random.expovariate(1 / 12)
            assert world.contains()
            world.answer()
            assert world.contains()
        assert world.bound.interval() is not None


def test_slow_answers_widen_and_do_not_mislead():
    """Round trips of up to seconds."""
    world = World(3, 0.2, 80e-6)
    for _ in range(400):
        world.true += world.random.uniform(0, 10)
        world.answer(delay=world.random.choice([0.001, 0.3, 2.5]), jitter=0.5)
        assert world.contains()


@pytest.mark.parametrize(("answers", "milliseconds"), [(1, 1023), (6, 285), (60, 54), (360, 20)])
def test_the_widths_without_drift(answers, milliseconds):
    """Medians over many runs, at random fractions of a second, without drift: as docs/design/ages.md has them."""
    widths = []
    for seed in range(60):
        world = World(seed, drift=0.0)
        world.bound = ClockBound(wall_s=lambda w=world: w.here, monotonic_s=lambda w=world: w.true - w.began, drift=0.0)
        mean = (WINDOW_S - SLOT_S) / answers
        world.answers(answers, lambda w=world, m=mean: w.random.uniform(0.2, 1.8) * m)
        found = world.bound.interval()
        widths.append(found.upper - found.lower)
    assert median(widths) * 1000 == pytest.approx(milliseconds, rel=0.25)


@pytest.mark.parametrize(("answers", "most_milliseconds"), [(6, 420), (60, 110), (360, 60)])
def test_the_widths_with_drift_allowed_for(answers, most_milliseconds):
    """What has to be added so that clocks without discipline are inside too."""
    widths = []
    for seed in range(60):
        world = World(seed)
        mean = (WINDOW_S - SLOT_S) / answers
        world.answers(answers, lambda w=world, m=mean: w.random.uniform(0.2, 1.8) * m)
        found = world.bound.interval()
        widths.append(found.upper - found.lower)
    assert median(widths) * 1000 < most_milliseconds


@pytest.mark.parametrize("step", [0.005, -0.005, 0.4, -0.4, 3600, -3600])
def test_a_step_of_our_own_clock_is_seen_at_once(step):
    """Before any answer: what was known of the old time is worth nothing."""
    for seed in range(20):
        world = World(seed)
        world.answers(60, 7.3)
        world.offset += step
        assert world.bound.bound() is None
        world.answers(60, 7.3)
        assert world.contains()
        assert world.bound.interval().upper - world.bound.interval().lower < 1.1


@pytest.mark.parametrize("step", [0.5, -0.5, 40, -40])
def test_a_step_of_the_collectors_clock_is_seen_when_an_answer_contradicts(step):
    """Nothing else can tell; from the contradiction on the truth is inside again."""
    for seed in range(20):
        world = World(seed)
        world.answers(60, 7.3)
        world.collector_step = step
        world.answers(60, 7.3)
        assert world.contains()


def test_a_set_clock_in_the_middle_of_a_request():
    """The answer says nothing of either time."""
    world = World()
    world.answers(10, 7.3)
    sent = world.here
    world.true += 0.5
    world.offset -= 0.3
    world.bound.add(sent, world.here, math.floor(world.true))
    assert world.bound.interval() is None

    world.answers(30, 7.3)
    assert world.contains()


def test_a_drift_beyond_what_is_allowed_for_begins_anew():
    """1000 ppm: the window never says that it is empty."""
    world = World(2, drift=1e-3)
    for _ in range(400):
        world.answers(1, 5.3)
        found = world.bound.interval()
        assert found.lower <= found.upper


def test_what_is_old_is_forgotten():
    world = World()
    world.answers(60, 7.3)
    world.true += WINDOW_S + SLOT_S
    assert world.bound.interval() is None


def test_room_is_bounded():
    world = World()
    world.answers(20_000, 0.05)
    assert len(world.bound._slots) <= WINDOW_S / SLOT_S + 1


def test_threads_and_real_clocks():
    """Written and read at once; on one machine 0 is inside."""
    import time

    bound = ClockBound()

    def write():
        for _ in range(300):
            sent = time.time()
            bound.add(sent, time.time(), math.floor(time.time()))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = bound.interval()
        assert found is None or found.lower <= 0 <= found.upper
    assert bound.bound() < 1.1


def test_a_preempted_look_is_no_step():
    """Two seconds pass between the reading of the two clocks."""
    ticks = iter(range(0, 100, 2))
    bound = ClockBound(wall_s=lambda: 1000 + next(ticks), monotonic_s=lambda: next(ticks))
    for _ in range(3):
        bound.add(1000.0, 1000.1, 1000)
    assert bound.bound() is not None


def test_the_gauge_has_both_ends_of_each_reference(monkeypatch):
    monkeypatch.setattr(kernel_clock, "error_s", lambda: 0.25)
    totals, world = Totals(), World()
    clock.define(totals, world.bound)
    gauge = totals.gauges[0]
    ends = {"otel_pipeline.reference": "kernel", "otel_pipeline.bound": "lower"}

    assert gauge.points() == [(ends, -0.25), ({**ends, "otel_pipeline.bound": "upper"}, 0.25)]
    world.answer()
    assert [attributes["otel_pipeline.reference"] for attributes, _ in gauge.points()] == [
        *["collector"] * 2,
        *["kernel"] * 2,
    ]


def test_the_kernel_is_believed_only_when_it_says_that_it_is_synchronised(monkeypatch):
    def kernel(result, maxerror, status):
        def adjtimex(reference):
            found = reference._obj
            assert found.modes == 0  # Anything else would set the clock.
            found.maxerror, found.status = maxerror, status
            return result

        return lambda: adjtimex

    for result, status, expected in ((0, 0x2001, 0.012), (5, 0x40, None), (-1, 0, None)):
        monkeypatch.setattr(kernel_clock, "_adjtimex", kernel(result, 12_000, status))
        assert kernel_clock.error_s() == expected
    monkeypatch.setattr(kernel_clock, "_adjtimex", lambda: None)
    assert kernel_clock.error_s() is None


def test_this_kernel_answers():
    found = kernel_clock.error_s()
    assert found is None or 0 <= found < 100


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (None, ""),
        (0.0531, ", clock within 54 ms of the Collector's"),
        (0.9991, ", clock within 1000 ms of the Collector's"),
        (1.02, ", clock within 1.1 s of the Collector's"),
        (86_400.0, ", clock within 86400.0 s of the Collector's"),
    ],
)
def test_health_says_it_beside_the_process(bound, said):
    """Rounded up: it is a bound."""
    process = Process(7, 0.0, "scorer", "i", "production")
    health = Health(process, 0.0, 1.0, clock_bound_s=bound)

    assert str(health).splitlines()[0] == f"scorer in production (pid 7){said}"
    assert health.to_dict()["clock_bound_s"] == bound
