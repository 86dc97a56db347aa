"""What was counted within the last minutes, hours, day: from sums that only grow, looked at now and then."""

from __future__ import annotations

from collections import deque
from math import inf
from operator import sub
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_pipeline.engine.measures import Label, Measure, Sums

WINDOWS_S = (300.0, 3600.0, 86400.0)
"""Each light looks at the shortest that holds enough cases."""
_STEPS_S = (5.0, 60.0, 1800.0)
EVENT_RED_S = 300.0
EVENT_AMBER_S = 3600.0


class Counts:
    """What a flow has counted, since it began or within a time; 0 for a label that it has not counted (`Window`)."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: _Places, values: tuple[int, ...]) -> None:
        self._places = places
        self._values = values

    def __getitem__(self, label: Label) -> int:
        at = self._places.at.get(label, len(self._values))
        return self._values[at] if at < len(self._values) else 0

    def of(self, measure: Measure) -> dict[tuple[str, ...], int]:
        """Return the counts of a measure by the values of its own attributes."""
        known = self._values
        return {values: known[at] for values, at in self._places.of.get(measure, ()) if at < len(known)}

    def since(self, before: Counts) -> Counts:
        """Subtract `before` from these counts; a label that is newer counts in full."""
        newer = len(self._values) - len(before._values)
        return Counts(self._places, tuple(map(sub, self._values, before._values + (0,) * newer)))


class _Places:
    """Where the value of each label stands: one for all counts of a flow; it grows at its end alone."""

    __slots__ = ("at", "of")

    def __init__(self) -> None:
        self.at: dict[Label, int] = {}
        self.of: dict[Measure, list[tuple[tuple[str, ...], int]]] = {}
        """By measure its labels' values, and their places."""

    def add(self, label: Label) -> None:
        """Give a label a place, where it has none."""
        if label not in self.at:
            self.of.setdefault(label.measure, []).append((label.values, len(self.at)))
            self.at[label] = len(self.at)


class History:
    """The counts of one flow over a day, in some 170 snapshots. Used by one thread."""

    def __init__(self) -> None:
        self._places = _Places()
        self._levels: list[deque[tuple[float, Counts]]] = [
            deque(maxlen=int(window / step) + 1) for window, step in zip(WINDOWS_S, _STEPS_S, strict=True)
        ]
        self._began = Counts(self._places, ())

    def counts(self, counted: Sums) -> Counts:
        """Return what a flow has counted since it began; labels are added, and never taken away."""
        places = self._places
        if len(places.at) < len(counted):
            for label in counted:
                places.add(label)
        return Counts(places, tuple(map(counted.__getitem__, places.at)))

    def add(self, now_s: float, counts: Counts) -> None:
        """Remember the current counts; `now_s` never falls."""
        for level, step_s in zip(self._levels, _STEPS_S, strict=True):
            if not level or now_s - level[-1][0] >= step_s:
                level.append((now_s, counts))

    def within(self, now_s: float, counts: Counts, window_s: float) -> Counts:
        """Return what was counted within one of `WINDOWS_S`, and up to one step more."""
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
        """Compare the current sum with the last one; the time of its growth is kept."""
        if count > self._count:
            self.at_s = now_s
        self._count = count

    def state(self, now_s: float) -> str | None:
        """Return red, amber, or None when it happened long ago."""
        ago_s = now_s - self.at_s
        if ago_s < EVENT_RED_S:
            return "red"
        return "amber" if ago_s < EVENT_RED_S + EVENT_AMBER_S else None
