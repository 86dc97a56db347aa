"""What was counted within the last minutes, hours, day: from sums that only grow, looked at now and then."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

WINDOWS_S = (300.0, 3600.0, 86400.0)
"""Each light looks at the shortest that holds enough cases."""
_STEPS_S = (5.0, 60.0, 1800.0)
EVENT_RED_S = 300.0
EVENT_AMBER_S = 3600.0


class Outcomes(NamedTuple):
    """Cases of a freshness objective."""

    met: int = 0
    missed: int = 0
    unknown: int = 0


class Counts(NamedTuple):
    """What a flow has counted since it began."""

    messages: int = 0
    headers_ok: int = 0
    headers_other: int = 0
    reordered: int = 0
    duplicate: int = 0
    redelivered: int = 0
    regressed: int = 0
    concurrent_key: int = 0
    offset_reset: int = 0
    missing: int = 0
    not_allowed: int = 0
    unlabelled: int = 0
    checked: int = 0
    broken: int = 0
    changed: int = 0
    objectives: tuple[Outcomes, ...] = ()

    def since(self, before: Counts) -> Counts:
        """What was counted after `before`; an objective that is newer counts in full."""
        plain = [mine - theirs for mine, theirs in zip(self[:-1], before[:-1], strict=True)]
        then = before.objectives
        objectives = tuple(
            Outcomes(*(mine - theirs for mine, theirs in zip(now, then[at], strict=True))) if at < len(then) else now
            for at, now in enumerate(self.objectives)
        )
        return Counts._make((*plain, objectives))


class History:
    """The counts of one flow over a day, in some 170 snapshots. Used by one thread."""

    def __init__(self) -> None:
        self._levels: list[deque[tuple[float, Counts]]] = [
            deque(maxlen=int(window / step) + 1) for window, step in zip(WINDOWS_S, _STEPS_S, strict=True)
        ]
        self._began = Counts()

    def add(self, now_s: float, counts: Counts) -> None:
        """Remember the counts of now; `now_s` never falls."""
        for level, step_s in zip(self._levels, _STEPS_S, strict=True):
            if not level or now_s - level[-1][0] >= step_s:
                level.append((now_s, counts))

    def within(self, now_s: float, counts: Counts, window_s: float) -> Counts:
        """What was counted within one of `WINDOWS_S`, and up to one step more."""
        before = self._began
        for at_s, known in self._levels[WINDOWS_S.index(window_s)]:
            if at_s > now_s - window_s:
                break
            before = known
        return counts.since(before)


class Event:
    """Something that must not happen at all: red for 5 min after it did, then amber for an hour, with its time."""

    __slots__ = ("_count", "at_s")

    def __init__(self) -> None:
        self._count = 0
        self.at_s = -inf

    def look(self, now_s: float, count: int) -> None:
        """The sum as it is now."""
        if count > self._count:
            self.at_s = now_s
        self._count = count

    def state(self, now_s: float) -> str | None:
        """red, amber, or None when it is long ago."""
        ago_s = now_s - self.at_s
        if ago_s < EVENT_RED_S:
            return "red"
        return "amber" if ago_s < EVENT_RED_S + EVENT_AMBER_S else None
