"""What can go wrong, each just below and just above what its row asks for; and how soon it is seen.

`python -m tests.verdict.harms` prints the table "How soon" of docs/health.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from otel_pipeline.verdict.lights import TITLES
from tests.verdict import harms_to_data as data
from tests.verdict import harms_to_pace as pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.verdict.simulation import Simulation

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


HARMS = [
    Harm("an iterator's handler hangs", "pace", pace.handler_hangs, (STUCK, 10, 13), (STUCK, 30, 33)),
    Harm("a thread hangs in `process()`", "pace", pace.worker_hangs, (STUCK, 10, 13), (STUCK, 30, 33)),
    Harm("a loop of `poll()` hangs, or sleeps", "pace", pace.poll_loop_hangs, (STUCK, 10, 13), (LEFT, 299, 303)),
    Harm("the threads behind a queue are gone", "pace", pace.workers_are_gone, (QUEUED, 10, 13), (QUEUED, 30, 33)),
    Harm(
        "a pool of threads does half of what comes", "pace", pace.pool_is_too_small, ("behind in the process", 19, 40)
    ),
    Harm("a message fails again and again", "pace", pace.goes_round, (ROUND, 10, 14), (ROUND, 29, 34)),
    Harm(
        "a member of a group asks for nothing",
        "pace",
        pace.asks_for_nothing,
        ("not polling", 149, 153),
        (LEFT, 299, 303),
    ),
    Harm("messages wait, and nobody asks (no group)", "pace", pace.does_not_ask, (SILENT, 10, 13), (SILENT, 150, 153)),
    Harm("no broker answers", "pace", pace.broker_is_away, ("no answer", 10, 13), ("no answer", 60, 63)),
    Harm("the broker answers, and hands out nothing", "pace", pace.is_not_served, (SERVED, 10, 13), (SERVED, 30, 33)),
    Harm("a transaction stays open, the first", "pace", pace.transaction_stays_open, (HELD, 10, 13), (HELD, 300, 303)),
    Harm("a transaction stays open, after one of 20 s", "pace", pace.second_transaction, None, (HELD, 60, 63)),
    Harm("the application pauses its partitions", "pace", pace.is_paused, ("paused", 10, 13)),
    Harm("a burst that takes 15 s to handle", "pace", pace.has_a_burst, ("catching up", 4_000, 7_500)),
    Harm("10 % more comes than is handled", "pace", pace.falls_behind, ("falling behind", 9.5, 11)),
    Harm("90 % of the time it works, and something waits", "pace", pace.works_all_the_time, ("busy", 0.035, 0.045)),
    Harm("a message waits (threshold 4 s)", "fresh", data.waits, None, ("waiting too long", 13, 17)),
    Harm("one of ten is late, after a good minute", "fresh", data.some_are_late, ("missed", 0.005, 0.1)),
    Harm(
        "half of them are late, after a good minute",
        "fresh",
        data.some_are_late,
        ("missed", 0.005, 0.5),
        ("missed", 0.1, 0.5),
    ),
    Harm("one of five sends fails", "delivered", data.sends_fail, ("fails sometimes", 0.0, 0.2), ("fails", 0.0, 0.2)),
    Harm(
        "sends are not answered (they are given up after 120 s)",
        "delivered",
        data.nothing_is_answered,
        ("slow to answer", 11, 13),
        ("no answer", 60, 63),
    ),
    Harm("`drop` of one (`lost_after` 150 s)", "order", data.are_lost, ("gap", 0, 1), ("missing", 0, 1)),
    Harm("`duplicate` of one", "order", data.come_twice, (AGAIN, 0, 1)),
    Harm(
        "`duplicate` of three, `ordered: true`", "order", data.come_twice_though_ordered, None, ("out of order", 2, 3)
    ),
    Harm("`reorder` of one", "order", data.come_late, (AGAIN, 0, 1)),
    Harm("`reorder` of three, `ordered: true`", "order", data.come_late_though_ordered, None, ("out of order", 2, 3)),
    Harm("`delay` of all by 5 s (threshold 4 s)", "fresh", data.all_are_delayed, ("before the broker", 2.2, 5)),
    Harm("`delay` of a half by 20 s", "fresh", data.some_are_late, ("missed", 0.005, 0.5), ("missed", 0.1, 0.5)),
    Harm("`freeze`, with `expect_every: 30s`", "fresh", data.nothing_comes, ("silent", 30, 33)),
    Harm("`freeze` for 40 s: at its end", "fresh", data.is_frozen, None, ("missed", 4, 40)),
    *(
        Harm("`change_field` of one, learned contract", "contract", data.learned(each), (BROKEN, 0, 1))
        for each in data.CHANGED
    ),
    *(
        Harm("`change_field` of one, contract in a file", "contract", data.from_file(each), None, (BROKEN, 0, 1))
        for each in data.CHANGED
    ),
    Harm("`foreign_environment` of one, `flag`", "environment", data.from_elsewhere, ("flagged", 0, 1)),
    Harm(
        "`foreign_environment` of one, `reject`", "environment", data.from_elsewhere_rejected, None, ("rejected", 0, 1)
    ),
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
