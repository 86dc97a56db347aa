"""Situations: what happens to a process, and what its lights say, second by second; each just below and just above."""

from __future__ import annotations

import math

import pytest

from tests.verdict.simulation import Simulation

QUICK = 0.01


def constant(work_s):
    """Every message takes as long."""
    return lambda _message: work_s


def hanging(at, work_s=QUICK, hang_s=10_000.0):
    """The message at this offset takes very long."""
    return lambda message: hang_s if message[2] == at else work_s


def healthy():
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5))
    found.spawn(found.iterator(constant(QUICK)))
    return found.run(300)


def backlog(work_s=0.002):
    """15,000 messages wait on 6 partitions when a healthy consumer begins."""
    found = Simulation(partitions=6, threshold_s=600.0).backlog(15_000)
    found.spawn(found.iterator(constant(work_s)))
    return found.run(120)


def slow_and_even():
    """Each message takes 14 s, one comes every 20 s: it keeps pace."""
    found = Simulation(threshold_s=60.0)
    found.spawn(found.producer(0.05))
    found.spawn(found.iterator(constant(14.0)))
    return found.run(400)


def slow_at_first():
    """The first call loads a model, 100 s."""
    found = Simulation()
    found.spawn(found.producer(5))
    found.spawn(found.iterator(hanging(0, hang_s=100.0)))
    return found.run(200)


def rarely_slow(hang_s):
    """One of 400 messages takes as long; it has done so before."""
    found = Simulation()
    found.spawn(found.producer(2))
    found.spawn(found.iterator(lambda message: hang_s if message[2] % 400 == 150 else QUICK))
    return found.run(1_500)


def hangs_in_the_iterator():
    found = Simulation()
    found.spawn(found.producer(20))
    found.spawn(found.iterator(hanging(200)))
    return found.run(100)


def hangs_in_the_pool():
    """The only worker of a pool hangs at 10 s; the loop goes on polling."""
    found = Simulation()
    found.spawn(found.producer(150, until_s=50))
    found.spawn(found.pool(hanging(1_500, 0.004), 1))
    return found.run(60)


def pool_is_too_small():
    """Two workers do half of what comes."""
    found = Simulation()
    found.spawn(found.producer(40))
    found.spawn(found.pool(constant(0.1), 2))
    return found.run(120)


def pool_passes_over_most():
    """Only one message of three is processed: the others wait for nobody."""
    found = Simulation()
    found.spawn(found.producer(10))

    def application():
        while True:
            for message in (yield from found.poll(timeout_s=0.2)):
                if message[2] % 3 == 0:
                    state = found.consumer.partition("orders", message[1])
                    found.consumer.explicit = True
                    state.observer.began(message[2], message)
                    yield QUICK
                    found._processed(state, message[2], message[3], found.now_ns)
            yield 0.001

    found.spawn(application())
    return found.run(120)


def sleeps(seconds):
    """A loop polls, handles, and sleeps so long."""
    found = Simulation()
    found.spawn(found.producer(20))
    found.spawn(found.poller(constant(0.001), sleep_s=seconds))
    return found.run(400)


def batch_job():
    """No member of a group: it drains every 40 s and does not poll in between."""
    found = Simulation(member=False, threshold_s=7_200.0)
    found.spawn(found.producer(1))

    def job():
        while True:
            while (yield from found.poll(timeout_s=1.5)):
                pass
            yield 30.0

    found.spawn(job())
    return found.run(300)


def paused(seconds):
    """The application pauses its only partition for so long, and polls on."""
    found = Simulation()
    found.spawn(found.producer(10))
    found.spawn(found.poller(constant(0.001)))
    found.run(60)
    found.partitions[0].paused = True
    found.run(seconds)
    found.partitions[0].paused = False
    return found.run(60)


def transaction(seconds):
    """A transaction is open for so long."""
    found = Simulation()
    found.spawn(found.producer(5))
    found.spawn(found.iterator(constant(QUICK)))
    found.run(60)
    found.partitions[0].open_from = found.partitions[0].end
    found.run(seconds)
    found.partitions[0].open_from = None
    return found.run(120)


def broker_away(seconds):
    """No broker answers for so long, then it is back."""
    found = Simulation()
    found.spawn(found.producer(5))
    found.spawn(found.iterator(constant(QUICK)))
    found.run(60)
    found.broker_up = False
    found.run(seconds)
    found.broker_up = True
    return found.run(120)


def round_and_round(seconds):
    """A message fails, and the application seeks back to it, for so long."""
    found = Simulation()
    found.spawn(found.producer(5))

    def application():
        while True:
            message = yield from found.next()
            yield QUICK
            if message[2] == 300 and found.at_s < 60 + seconds:
                found.leave()
                found.seek(0, 300)
                yield 1.0

    found.spawn(application())
    return found.run(60 + seconds + 120)


def asks_for_nothing(seconds, max_poll_interval_s=300.0):
    """A member with nothing to do stops polling."""
    found = Simulation(max_poll_interval_s=max_poll_interval_s)
    found.write(200)

    def application():
        while True:
            yield from found.poll()
            yield QUICK if found.at_s < 60 else seconds

    found.spawn(application())
    return found.run(61 + seconds)


def quiet(seconds):
    """Nothing is written any more; the consumer polls on."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5, until_s=60))
    found.spawn(found.iterator(constant(QUICK)))
    return found.run(60 + seconds)


def bursts():
    """500 messages every 10 minutes."""
    found = Simulation(threshold_s=60.0)
    found.spawn(found.iterator(constant(QUICK)))
    for _ in range(3):
        found.write(500)
        found.run(600)
    return found


def day_and_night():
    """An hour of a rate that goes up and down, with handling that takes what it takes."""
    found = Simulation(partitions=3, threshold_s=30.0)
    found.spawn(found.producer(lambda at_s: 3 + 2.9 * math.sin(at_s / 600)))
    found.spawn(found.iterator(lambda _message: found.dice.lognormvariate(-4, 1.0)))
    return found.run(3_600)


def fresh(threshold_s=4.0, seconds=300, **how):
    """A healthy consumer of a producer that is not."""
    found = Simulation(threshold_s=threshold_s)
    found.spawn(found.producer(5, **how))
    found.spawn(found.iterator(constant(QUICK)))
    return found.run(seconds)


def late_at_times(share):
    """So many of the messages are held back for 20 s by something before their producer stamps them."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(10 * (1 - share)))
    found.spawn(found.producer(10 * share, age_s=20.0, producer=8))
    found.spawn(found.iterator(constant(QUICK)))
    return found.run(300)


def read_again():
    """An operator sets the group back by 500 messages, all of them old by now."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5))
    found.spawn(found.iterator(constant(QUICK)))
    found.run(200)
    found.leave()
    found.seek(0, max(0, found.partitions[0].position - 500))
    return found.run(200)


def first_start():
    """A new group begins with a history of 20 minutes."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5))
    found.fetching = False
    found.run(1_200)
    found.fetching = True
    found.spawn(found.iterator(constant(0.000_1)))
    return found.run(200)


def clock_is_set(step_s, back_after_s=None):
    """Somebody sets the clock of the consumer's machine."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5))
    found.spawn(found.iterator(constant(QUICK)))
    found.run(100)
    found.skew_s += step_s
    found.run(back_after_s or 200)
    if back_after_s:
        found.skew_s -= step_s
        found.run(100)
    return found


def cannot_keep_up():
    """It handles half of what comes; data gets old while it waits."""
    found = Simulation(threshold_s=10.0)
    found.spawn(found.producer(20))
    found.spawn(found.iterator(constant(0.1)))
    return found.run(120)


NEVER = math.inf
SITUATIONS = {
    # name: (what happens, the light, colours allowed, first amber or red between, first red between)
    "healthy": (healthy, "pace", "green"),
    "a backlog is worked off": (backlog, "pace", "amber green"),
    "slow, and keeping pace": (slow_and_even, "pace", "green amber"),
    "slow at the first message": (slow_at_first, "pace", "green amber"),
    "rarely slow, 20 s": (lambda: rarely_slow(20.0), "pace", "green amber"),
    "a pool that passes over most": (pool_passes_over_most, "pace", "green"),
    "a loop that sleeps 5 s": (lambda: sleeps(5.0), "pace", "green"),
    "a loop that sleeps 60 s": (lambda: sleeps(60.0), "pace", "green amber"),
    "a batch job": (batch_job, "pace", "green amber grey"),
    "paused for 8 s": (lambda: paused(8.0), "pace", "green"),
    "a transaction of 8 s": (lambda: transaction(8.0), "pace", "green"),
    "a transaction of 50 s": (lambda: transaction(50.0), "pace", "green amber"),
    "no broker for 8 s": (lambda: broker_away(8.0), "pace", "green"),
    "no broker for 50 s": (lambda: broker_away(50.0), "pace", "green amber"),
    "a message that fails for 8 s": (lambda: round_and_round(8.0), "pace", "green"),
    "asks for nothing for 140 s": (lambda: asks_for_nothing(140.0), "pace", "green grey"),
    "fresh data": (fresh, "fresh", "grey green"),
    "a history that is read at first": (first_start, "fresh", "grey amber green"),
    "read again": (read_again, "fresh", "grey amber green"),
    "a producer's clock that is 5 s behind": (lambda: fresh(age_s=5.0), "fresh", "grey amber"),
    "a clock that is set by 0.9 s": (lambda: clock_is_set(0.9), "fresh", "grey green"),
    "a clock that is set by an hour": (lambda: clock_is_set(3_600.0), "fresh", "grey green"),
    "a clock that is set back by an hour": (lambda: clock_is_set(-3_600.0), "fresh", "grey green"),
    "a clock that is wrong for a minute": (lambda: clock_is_set(60.0, 60.0), "fresh", "grey green"),
    "quiet for 9 min": (lambda: quiet(540.0), "fresh", "grey green"),
    "bursts": (bursts, "pace", "green amber"),
    "day and night": (day_and_night, "pace", "green amber"),
}
HARMS = {
    # name: (what happens, the light, row, first worse than green between, red between)
    "the iterator's handler hangs": (hangs_in_the_iterator, "pace", "stuck in the handler", (20, 26), (40, 46)),
    "the pool's worker hangs": (hangs_in_the_pool, "pace", "stuck in the handler", (20, 25), (40, 46)),
    "the pool is too small": (pool_is_too_small, "pace", "behind in the process", (20, 26), NEVER),
    "paused for 25 s": (lambda: paused(25.0), "pace", "paused", (70, 73), NEVER),
    "an open transaction, 400 s": (lambda: transaction(400.0), "pace", "held back", (70, 73), (360, 364)),
    "no broker for 80 s": (lambda: broker_away(80.0), "pace", "no answer", (70, 73), (120, 124)),
    "a message that always fails": (lambda: round_and_round(90.0), "pace", "going round", (68, 76), (88, 96)),
    "asks for nothing": (lambda: asks_for_nothing(400.0), "pace", "not polling", (208, 214), (358, 364)),
    "one of ten is late": (lambda: late_at_times(0.1), "fresh", "missed", (5, 12), NEVER),
    "half of them are late": (lambda: late_at_times(0.5), "fresh", "missed", (2, 9), (2, 9)),
    "it cannot keep up, and data gets old": (cannot_keep_up, "fresh", "waiting too long", (28, 40), (20, 40)),
    "the clock behind a producer": (lambda: fresh(age_s=5.0), "fresh", "before the broker", (1, 12), NEVER),
    "a rarely slow message hangs for good": (
        lambda: rarely_slow(400.0),
        "pace",
        "stuck in the handler",
        (80, 100),
        (100, 130),
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_is_wrong(name):
    """No colour that would have somebody get up."""
    act, light, allowed = SITUATIONS[name]
    found = act()

    assert found.colours(light) <= set(allowed.split()), [each for each in found.seen if each[1] == light]


@pytest.mark.parametrize("name", HARMS)
def test_harm_is_shown(name):
    """In time, by the row that says what it is; and red only where that is due."""
    act, light, row, amber_s, red_s = HARMS[name]
    found = act()
    changes = [each for each in found.seen if each[1] == light]
    first_s, first_red_s = found.first(light, "amber", "red", row=row), found.first(light, "red")

    assert _is_within(first_s, amber_s), changes
    assert _is_within(first_red_s, red_s), changes


def _is_within(found_s, wanted_s):
    if wanted_s is NEVER:
        return found_s is None
    return found_s is not None and wanted_s[0] <= found_s <= wanted_s[1]


@pytest.mark.parametrize("act", [lambda: broker_away(80.0), lambda: transaction(400.0), lambda: round_and_round(90.0)])
def test_no_red_stays_once_the_harm_is_over(act):
    """Thirty seconds after it."""
    assert act().of("pace")[-1][1] == "green"
