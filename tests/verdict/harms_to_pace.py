"""What keeps a consumer from keeping pace, as long or as much as is asked for."""

from __future__ import annotations

from tests.verdict.simulation import Simulation

BEFORE_S = 60
"""All is well for so long."""
QUICK = 0.01


def beginning(rate=5.0, *, until_s=float("inf"), **configured):
    """A simulation with a producer that writes evenly."""
    found = Simulation(**configured)
    found.spawn(found.producer(rate, evenly=True, until_s=until_s))
    return found


def reading(found, work_s=QUICK):
    """And a consumer that keeps up with it, for a minute."""
    found.spawn(found.iterator(lambda _message: work_s))
    found.run(BEFORE_S)
    found.harms()
    return found


def slow_once(found, seconds):
    """The first message after a minute takes so long."""

    def work(_message):
        if found.at_s < BEFORE_S or found.harm_s is not None:
            return QUICK
        found.harms()
        return seconds

    return work


def handler_hangs(seconds, **configured):
    found = beginning(**configured)
    found.spawn(found.iterator(slow_once(found, seconds)))
    return found.run(BEFORE_S + seconds + 5)


def poll_loop_hangs(seconds):
    found = beginning()
    found.spawn(found.poller(slow_once(found, seconds)))
    return found.run(BEFORE_S + seconds + 5)


def worker_hangs(seconds):
    found = beginning()
    found.spawn(found.pool(slow_once(found, seconds), 1))
    return found.run(BEFORE_S + seconds + 5)


def workers_are_gone(seconds):
    """Nobody takes anything out of the queue; what was begun has ended."""
    found = beginning()
    found.spawn(found.pool(lambda _message: QUICK, 1))
    found.run(BEFORE_S)
    found.harms()
    found.pool_works = False
    found.run(seconds)
    found.pool_works = True
    return found.run(5)


def pool_is_too_small(rate):
    found = beginning(lambda at_s: rate if at_s >= BEFORE_S else 5.0)
    found.spawn(found.pool(lambda _message: 0.1, 2))
    found.run(BEFORE_S)
    found.harms()
    return found.run(180)


def transaction_stays_open(seconds, *, before_s=None):
    found = reading(beginning())
    partition = found.partitions[0]
    for lasts_s in [seconds] if before_s is None else [before_s, seconds]:
        found.harm_s = found.at_s
        partition.open_from = partition.end
        found.run(lasts_s)
        partition.open_from = None
        found.run(40)
    return found


def second_transaction(seconds):
    return transaction_stays_open(seconds, before_s=20)


def broker_is_away(seconds):
    found = reading(beginning())
    found.broker_up = False
    found.run(seconds)
    found.broker_up = True
    return found.run(60)


def is_paused(seconds):
    found = beginning()
    found.spawn(found.poller(lambda _message: QUICK))
    found.run(BEFORE_S)
    found.harms()
    found.partitions[0].paused = True
    found.run(seconds)
    found.partitions[0].paused = False
    return found.run(40)


def is_not_served(seconds):
    found = reading(beginning())
    found.serving = False
    found.run(seconds)
    found.serving = True
    return found.run(60)


def goes_round(seconds):
    """A message fails, and the application seeks back to it, once a second."""
    found = beginning()

    def application():
        while True:
            message = yield from found.next()
            yield QUICK
            if message[2] == 300 and (found.harm_s is None or found.at_s < found.harm_s + seconds):
                found.harms()
                found.leave()
                found.seek(0, 300)
                yield 1.0

    found.spawn(application())
    return found.run(BEFORE_S + seconds + 60)


def does_not_ask(seconds):
    """No member of a group: it polled and had nothing; then it stops, and messages come."""
    found = Simulation(member=False)
    found.write(200)

    def application():
        while found.at_s < BEFORE_S:
            yield from found.poll()
            yield QUICK
        found.harms()
        found.write(10)
        yield seconds
        while True:
            yield from found.poll()
            yield QUICK

    found.spawn(application())
    return found.run(BEFORE_S + seconds + 60)


def asks_for_nothing(seconds):
    """A member of a group stops polling while nothing waits."""
    found = Simulation()
    found.write(200)

    def application():
        while found.at_s < BEFORE_S:
            yield from found.poll()
            yield QUICK
        found.harms()
        yield seconds
        while True:
            yield from found.poll()
            yield QUICK

    found.spawn(application())
    return found.run(BEFORE_S + seconds + 40)


def works_all_the_time(work_s):
    """20 messages a second, each of which takes as long, in bursts of 20; some wait whenever it is looked at."""
    found = Simulation()

    def producer():
        yield 0.5
        while True:
            found.write(20)
            yield 1.0

    found.spawn(producer())
    found.spawn(found.iterator(lambda _message: work_s))
    found.harms()
    return found.run(450)


def falls_behind(rate):
    """It handles 10 a second."""
    found = beginning(lambda at_s: rate if at_s >= BEFORE_S else 5.0)
    return reading(found, 0.1).run(240)


def has_a_burst(count):
    """So many are written at once, each takes 2 ms."""
    found = reading(beginning(), 0.002)
    found.write(count)
    return found.run(60)
