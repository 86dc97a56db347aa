"""Computes how far this machine's clock can be from the Collector's, from nothing but the `Date` of its answers.

Let theta = clock(here) - clock(Collector). A request is sent at t1 and its answer is here at t4, both by our clock. In
between, when our clock shows some h with t1 <= h <= t4, the Collector reads its own clock: S = h - theta. It writes S
as a whole second, rounded down: Date <= S < Date + 1 s. So theta = h - S lies

    above  t1 - (Date + 1 s)   the least h, and the greatest S
    up to  t4 - Date           the greatest h, and the least S

One answer leaves a second and its round trip. Answers at other fractions of a second leave other intervals, theta is in
all of them, and so in their intersection, which gets narrow. Old answers count for less: since then the two clocks may
have drifted apart, so the interval of an answer grows on both sides by `drift` times its age.

What this cannot see: a step of the *Collector's* clock that is smaller than the interval, until an answer contradicts;
and a proxy that answers with a `Date` it made long before.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_S = 600.0
"""Older answers are forgotten."""
SLOT_S = 10.0
"""The answers of this long are kept as one: an exporter that sends five times a second takes no more room."""
DRIFT = 100e-6
"""How far two clocks drift apart in one second at most, s: quartz crystals that nothing disciplines."""
STEP_S = 0.001
"""Steps of the clock here up to this are not detected, but allowed for."""


class Interval(NamedTuple):
    """Contains theta = clock(here) - clock(reference), s. Positive: the clock here is ahead."""

    lower: float
    upper: float

    @property
    def bound(self) -> float:
        """The largest distance that is possible, s."""
        return max(abs(self.lower), abs(self.upper))


class ClockBound:
    """The intersection of what the answers of the last ten minutes allow. Thread-safe; memory is bounded.

    An empty intersection means that a clock stepped, or drifts faster than `drift`: only the newest answer is kept.

    Args:
        wall_s: the clock that is judged, s since the epoch; the times that `add` is given are read from it.
        monotonic_s: a clock that is never set, s.
        drift: how fast the two clocks may come apart, s per s.
    """

    def __init__(
        self,
        *,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
        drift: float = DRIFT,
    ) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._drift = drift
        # By slot: the greatest lower and the least upper end, moved back along the drift to the monotonic time 0. All
        # lower ends fall at the same rate, so the greatest stays the greatest, and one of each is all there is to keep.
        self._slots: dict[int, Interval] = {}
        self._zero: tuple[float, Interval] | None = None
        self._new_lock()
        forks.add(self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()

    def add(self, sent_s: float, received_s: float, date_s: float) -> None:
        """Take in one answer: when its request was sent, when it was here, and its `Date`; s since the epoch."""
        with self._lock:
            now = self._look()
            # An answer during which the clock was set says nothing of the clock as it is now.
            if now is None or received_s < sent_s:
                self._slots.clear()
                return
            # It was given at some time since the request: the drift counts from there.
            then = now - (received_s - sent_s)
            lower, upper = sent_s - (date_s + 1.0) + self._drift * then, received_s - date_s - self._drift * then
            known = self._intersection()
            if known is not None and not _overlap(Interval(lower, upper), known, self._slack(now)):
                self._slots.clear()
            slot = int(now // SLOT_S)
            before = self._slots.get(slot, Interval(lower, upper))
            self._slots[slot] = Interval(max(before.lower, lower), min(before.upper, upper))

    def interval(self) -> Interval | None:
        """Return the interval that contains theta now; None without evidence."""
        with self._lock:
            now = self._look()
            if now is None:
                self._slots.clear()
                return None
            known = self._intersection()
            if known is None:
                return None
            slack = self._slack(now) / 2
            return Interval(known.lower - slack, known.upper + slack)

    def bound(self) -> float | None:
        """Return how far the clock here can be off, s; None without evidence."""
        interval = self.interval()
        return None if interval is None else interval.bound

    def _intersection(self) -> Interval | None:
        """Intersect all that is kept, at the monotonic time 0."""
        if not self._slots:
            return None
        slots = self._slots.values()
        return Interval(max(slot.lower for slot in slots), min(slot.upper for slot in slots))

    def _slack(self, now: float) -> float:
        """Return how much wider an interval at the monotonic time 0 is now, both sides together."""
        return 2 * (self._drift * now + STEP_S)

    def _look(self) -> float | None:
        """Forget what is old, and return the monotonic time; None when the clock here was set meanwhile.

        A clock was set if it moved against the monotonic clock, also while the machine slept. Both cannot be read at
        once: the difference is known as an interval, which is wide when something came between.
        """
        before = self._monotonic_s()
        wall = self._wall_s()
        after = self._monotonic_s()
        difference = Interval(wall - after, wall - before)
        if self._zero is not None:
            since, reference = self._zero
            allowed = STEP_S + self._drift * (after - since)
            if not _overlap(difference, reference, allowed):
                self._zero = after, difference
                return None
        if self._zero is None or after - before <= STEP_S:
            # Compared with the last good look: where the monotonic clock is not slewed, both come apart slowly.
            self._zero = after, difference
        oldest = (after - WINDOW_S) // SLOT_S
        for slot in [slot for slot in self._slots if slot <= oldest]:
            del self._slots[slot]
        return after


def _overlap(one: Interval, other: Interval, slack: float) -> bool:
    """Tell whether two intervals have anything in common, or are not further apart than `slack`."""
    return max(one.lower, other.lower) <= min(one.upper, other.upper) + slack
