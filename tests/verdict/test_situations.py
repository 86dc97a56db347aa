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


def stands(seconds, *, asleep=False):
    """The process is stopped (SIGSTOP) for so long, or its machine sleeps; others write on."""
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5))
    found.spawn(found.iterator(constant(QUICK)))
    found.run(300)
    found.stands(seconds, 5, asleep=asleep)
    return found.run(400)


SITUATIONS = {
    # name: (what happens, the light, colours allowed)
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


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_is_wrong(name):
    """No colour that would have somebody get up."""
    act, light, allowed = SITUATIONS[name]
    found = act()

    assert found.colours(light) <= set(allowed.split()), [each for each in found.seen if each[1] == light]


OVER = {
    "no broker for 80 s": (lambda: broker_away(80.0), "pace"),
    "a transaction of 400 s": (lambda: transaction(400.0), "pace"),
    "a message that fails for 90 s": (lambda: round_and_round(90.0), "pace"),
    "stopped for 20 s": (lambda: stands(20.0), "pace"),
    "stopped for 20 s, and its data": (lambda: stands(20.0), "fresh"),
    "stopped for 10 min": (lambda: stands(600.0), "pace"),
    "asleep for 10 min": (lambda: stands(600.0, asleep=True), "pace"),
    "asleep for 10 min, and its data": (lambda: stands(600.0, asleep=True), "fresh"),
}


@pytest.mark.parametrize("name", OVER)
def test_no_red_stays_once_the_harm_is_over(name):
    """Thirty seconds after it, and data that was late for five minutes."""
    act, light = OVER[name]

    assert act().of(light)[-1][1] == "green"


def test_the_first_second_after_a_stop_is_no_alarm():
    """What stood still was the process, and not the broker, and not the handler."""
    assert [each for each in stands(20.0).of("pace") if each[0] > 2] == []


def test_a_clock_that_was_wrong_is_the_reason_until_its_cases_are_few():
    """Not the line about `origin: message`, which would help nothing."""
    found = clock_is_set(60.0, 60.0)

    assert [each[1:] for each in found.of("fresh") if each[0] > 100] == [("grey", "clock here")]
    (said,) = [each[4] for each in found.seen if each[3] == "clock here"]
    assert said.startswith("this machine's clock was set forward by 60")
    assert found.words("fresh").startswith("this machine's clock was wrong until ")


def test_only_history_was_read():
    """Nobody is told that there were no messages."""
    found = Simulation(threshold_s=4.0).backlog(200)
    found.run(30)
    found.spawn(found.iterator(constant(QUICK)))
    found.run(60)

    assert found.words("fresh") == (
        "200 messages of before were read, and none of now: their ages do not count (fresh: 99 % under 4 s)"
    )
