"""What can go wrong, each just below and just above what its row asks for; and how soon it is seen.

`python -m tests.verdict.harms` prints the table "How soon" of docs/health.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.verdict.report import TITLES
from tests.verdict.sending import Sending
from tests.verdict.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable

BEFORE_S = 60
"""All is well for so long."""
QUICK = 0.01
GOOD = b'{"id": 1, "amount": 1.5}'
FIELDS = {"$": Field(("object",), True), "id": Field(("int",), True), "amount": Field(("float",), True)}
ORDERS = Contract("orders", FIELDS)
CHANGED = (b'{"id": 1, "amount": null}', b'{"id": 1, "amount": "1.5"}', b'{"id": 1}', b'{"id": 1, "total": 1.5}')
"""What `change_field` makes of a value: null, another type, removed, renamed."""
STUCK, QUEUED, ROUND, LEFT = "stuck in the handler", "stuck in the process", "going round", "left the group"
SILENT, SERVED, HELD, AGAIN, BROKEN = "does not ask", "not served", "held back", "reordered or sent again", "broken"


@dataclass(frozen=True)
class Harm:
    """A row of a light, or two: one that is amber, and one that is red."""

    what: str
    """For docs/health.md."""
    light: str
    act: Callable[[float], Simulation]
    """Lets it happen, as long or as much."""
    amber: tuple[str, float, float] | None = None
    """The row, and how long or how much it takes: just below, just above."""
    red: tuple[str, float, float] | None = None

    @property
    def worst(self) -> float:
        """How much brings the worst of its colours."""
        return max(limits[2] for limits in (self.amber, self.red) if limits is not None)

    def seen_after_s(self, found: Simulation) -> dict[str, int | None]:
        """After how many seconds each colour is shown; rounded up, amber before red."""
        times = {}
        for colour, limits in (("amber", self.amber), ("red", self.red)):
            if limits is not None:
                at_s = found.first(self.light, colour, row=limits[0])
                times[colour] = None if at_s is None else round(at_s - found.harm_s)
        return times


def _beginning(rate=5.0, *, until_s=float("inf"), **configured):
    """A simulation with a producer that writes evenly."""
    found = Simulation(**configured)
    found.spawn(found.producer(rate, evenly=True, until_s=until_s))
    return found


def _reading(found, work_s=QUICK):
    """And a consumer that keeps up with it, for a minute."""
    found.spawn(found.iterator(lambda _message: work_s))
    found.run(BEFORE_S)
    found.harms()
    return found


def _slow_once(found, seconds):
    """The first message after a minute takes so long."""

    def work(_message):
        if found.at_s < BEFORE_S or found.harm_s is not None:
            return QUICK
        found.harms()
        return seconds

    return work


# Keeping pace


def handler_hangs(seconds, **configured):
    found = _beginning(**configured)
    found.spawn(found.iterator(_slow_once(found, seconds)))
    return found.run(BEFORE_S + seconds + 5)


def poll_loop_hangs(seconds):
    found = _beginning()
    found.spawn(found.poller(_slow_once(found, seconds)))
    return found.run(BEFORE_S + seconds + 5)


def worker_hangs(seconds):
    found = _beginning()
    found.spawn(found.pool(_slow_once(found, seconds), 1))
    return found.run(BEFORE_S + seconds + 5)


def workers_are_gone(seconds):
    """Nobody takes anything out of the queue; what was begun has ended."""
    found = _beginning()
    found.spawn(found.pool(lambda _message: QUICK, 1))
    found.run(BEFORE_S)
    found.harms()
    found.pool_works = False
    found.run(seconds)
    found.pool_works = True
    return found.run(5)


def pool_is_too_small(rate):
    found = _beginning(lambda at_s: rate if at_s >= BEFORE_S else 5.0)
    found.spawn(found.pool(lambda _message: 0.1, 2))
    found.run(BEFORE_S)
    found.harms()
    return found.run(180)


def transaction_stays_open(seconds, *, before_s=None):
    found = _reading(_beginning())
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
    found = _reading(_beginning())
    found.broker_up = False
    found.run(seconds)
    found.broker_up = True
    return found.run(60)


def is_paused(seconds):
    found = _beginning()
    found.spawn(found.poller(lambda _message: QUICK))
    found.run(BEFORE_S)
    found.harms()
    found.partitions[0].paused = True
    found.run(seconds)
    found.partitions[0].paused = False
    return found.run(40)


def is_not_served(seconds):
    found = _reading(_beginning())
    found.serving = False
    found.run(seconds)
    found.serving = True
    return found.run(60)


def goes_round(seconds):
    """A message fails, and the application seeks back to it, once a second."""
    found = _beginning()

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
    found = _beginning(lambda at_s: rate if at_s >= BEFORE_S else 5.0)
    return _reading(found, 0.1).run(240)


def has_a_burst(count):
    """So many are written at once, each takes 2 ms."""
    found = _reading(_beginning(), 0.002)
    found.write(count)
    return found.run(60)


# Fresh


def waits(seconds):
    return handler_hangs(seconds, threshold_s=4.0)


def some_are_late(share):
    """Of ten messages a second."""
    found = _reading(_beginning(10.0, threshold_s=4.0))
    found.spawn(found.producer(10 * share, age_s=20.0, producer=8, evenly=True))
    return found.run(300)


def all_are_delayed(age_s):
    found = Simulation(threshold_s=4.0)
    found.spawn(found.producer(5, age_s=age_s, evenly=True))
    found.spawn(found.iterator(lambda _message: QUICK))
    found.run(1)
    found.harms()
    return found.run(60)


def nothing_comes(seconds, expect_every_s=30.0):
    found = _reading(_beginning(threshold_s=4.0, expect_every_s=expect_every_s, until_s=BEFORE_S))
    found.run(seconds)
    found.write(1)
    return found.run(10)


def is_frozen(seconds):
    """Nothing is relayed, then all of it at once."""
    found = _reading(_beginning(threshold_s=4.0, until_s=BEFORE_S))
    found.run(seconds)
    for count in range(int(seconds * 5)):
        found.write(1, age_s=seconds - count / 5)
    found.spawn(found.producer(5, evenly=True))
    return found.run(60)


# What faults do to order, contract and environment


def are_lost(count):
    found = _reading(_beginning())
    found.lose(int(count))
    return found.run(200)


def come_twice(count, **configured):
    found = _reading(_beginning(**configured))
    for _ in range(int(count)):
        found.write(1, again=-1)
    return found.run(60)


def come_twice_though_ordered(count):
    return come_twice(count, ordered=True)


def come_late(count, **configured):
    """Each behind one that was sent after it."""
    found = _reading(_beginning(**configured))
    for _ in range(int(count)):
        found.write(1, again=1)
        found.write(1)
        found.lose(1)
    return found.run(60)


def come_late_though_ordered(count):
    return come_late(count, ordered=True)


def values_change(count, value, **configured):
    found = Simulation(**configured)
    found.spawn(found.producer(20, evenly=True, value=GOOD))
    _reading(found)
    found.write(int(count), value=value)
    return found.run(30)


def from_elsewhere(count, **configured):
    found = _reading(_beginning(**configured))
    found.write(int(count), environment="local")
    return found.run(60)


def from_elsewhere_rejected(count):
    return from_elsewhere(count, foreign={"*": "reject"})


# Delivered


def sends_fail(share):
    return Sending().run(BEFORE_S).run(20, fails=share)


def nothing_is_answered(seconds):
    return Sending().run(BEFORE_S).run(seconds, answered=False).run(40)


def _learned(value):
    return lambda count: values_change(count, value)


def _from_file(value):
    return lambda count: values_change(count, value, contract="file", load=lambda _destination: ORDERS)


HARMS = [
    Harm("an iterator's handler hangs", "pace", handler_hangs, (STUCK, 10, 13), (STUCK, 30, 33)),
    Harm("a thread hangs in `process()`", "pace", worker_hangs, (STUCK, 10, 13), (STUCK, 30, 33)),
    Harm("a loop of `poll()` hangs, or sleeps", "pace", poll_loop_hangs, (STUCK, 10, 13), (LEFT, 299, 303)),
    Harm("the threads behind a queue are gone", "pace", workers_are_gone, (QUEUED, 10, 13), (QUEUED, 30, 33)),
    Harm("a pool of threads does half of what comes", "pace", pool_is_too_small, ("behind in the process", 19, 40)),
    Harm("a message fails again and again", "pace", goes_round, (ROUND, 10, 14), (ROUND, 29, 34)),
    Harm("a member of a group asks for nothing", "pace", asks_for_nothing, ("not polling", 149, 153), (LEFT, 299, 303)),
    Harm("messages wait, and nobody asks (no group)", "pace", does_not_ask, (SILENT, 10, 13), (SILENT, 150, 153)),
    Harm("no broker answers", "pace", broker_is_away, ("no answer", 10, 13), ("no answer", 60, 63)),
    Harm("the broker answers, and hands out nothing", "pace", is_not_served, (SERVED, 10, 13), (SERVED, 30, 33)),
    Harm("a transaction stays open, the first", "pace", transaction_stays_open, (HELD, 10, 13), (HELD, 300, 303)),
    Harm("a transaction stays open, after one of 20 s", "pace", second_transaction, None, (HELD, 60, 63)),
    Harm("the application pauses its partitions", "pace", is_paused, ("paused", 10, 13)),
    Harm("a burst that takes 15 s to handle", "pace", has_a_burst, ("catching up", 4_000, 7_500)),
    Harm("10 % more comes than is handled", "pace", falls_behind, ("falling behind", 9.5, 11)),
    Harm("90 % of the time it works, and something waits", "pace", works_all_the_time, ("busy", 0.035, 0.045)),
    Harm("a message waits (threshold 4 s)", "fresh", waits, None, ("waiting too long", 13, 17)),
    Harm("one of ten is late, after a good minute", "fresh", some_are_late, ("missed", 0.005, 0.1)),
    Harm(
        "half of them are late, after a good minute",
        "fresh",
        some_are_late,
        ("missed", 0.005, 0.5),
        ("missed", 0.1, 0.5),
    ),
    Harm("one of five sends fails", "delivered", sends_fail, ("fails sometimes", 0.0, 0.2), ("fails", 0.0, 0.2)),
    Harm(
        "sends are not answered (they are given up after 120 s)",
        "delivered",
        nothing_is_answered,
        ("slow to answer", 11, 13),
        ("no answer", 60, 63),
    ),
    Harm("`drop` of one (`lost_after` 150 s)", "order", are_lost, ("gap", 0, 1), ("missing", 0, 1)),
    Harm("`duplicate` of one", "order", come_twice, (AGAIN, 0, 1)),
    Harm("`duplicate` of three, `ordered: true`", "order", come_twice_though_ordered, None, ("out of order", 2, 3)),
    Harm("`reorder` of one", "order", come_late, (AGAIN, 0, 1)),
    Harm("`reorder` of three, `ordered: true`", "order", come_late_though_ordered, None, ("out of order", 2, 3)),
    Harm("`delay` of all by 5 s (threshold 4 s)", "fresh", all_are_delayed, ("before the broker", 2.2, 5)),
    Harm("`delay` of a half by 20 s", "fresh", some_are_late, ("missed", 0.005, 0.5), ("missed", 0.1, 0.5)),
    Harm("`freeze`, with `expect_every: 30s`", "fresh", nothing_comes, ("silent", 30, 33)),
    Harm("`freeze` for 40 s: at its end", "fresh", is_frozen, None, ("missed", 4, 40)),
    *(Harm("`change_field` of one, learned contract", "contract", _learned(each), (BROKEN, 0, 1)) for each in CHANGED),
    *(
        Harm("`change_field` of one, contract in a file", "contract", _from_file(each), None, (BROKEN, 0, 1))
        for each in CHANGED
    ),
    Harm("`foreign_environment` of one, `flag`", "environment", from_elsewhere, ("flagged", 0, 1)),
    Harm("`foreign_environment` of one, `reject`", "environment", from_elsewhere_rejected, None, ("rejected", 0, 1)),
]


@cache
def seen(harm: Harm, size: float) -> tuple[Simulation, dict[str, int | None]]:
    """Let it happen once, however often it is asked for."""
    found = harm.act(size)
    return found, harm.seen_after_s(found)


def table() -> str:
    """Return the table of docs/health.md."""
    rows = {}
    for harm in HARMS:
        times = seen(harm, harm.worst)[1]
        told = tuple(f"{times[colour]} s" if colour in times else "" for colour in ("amber", "red"))
        row = f"| {harm.what} | {TITLES[harm.light]} | {' | '.join(told)} |"
        if rows.setdefault(harm.what, row) != row:
            raise ValueError(f"{rows[harm.what]} and {row}")
    return "\n".join(["| what happens | light | amber after | red after |", "|---|---|--:|--:|", *rows.values()])


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
