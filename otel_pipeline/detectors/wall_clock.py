"""Whether this machine's wall clock was set while the process ran: ages that it measures are unknown then.

Compared with a clock that goes on while the machine sleeps: one that does not would take a laptop's sleep for a step.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_S = 1.0
OFF_S = 300.0
"""Afterwards the clock is believed again, whatever it says: nobody here can tell more."""
READ_WITHIN_S = 0.01
AGES = 30
_BEFORE = 60


def _steady() -> Callable[[], float]:
    """Find a clock that nobody sets and that counts while the machine sleeps."""
    name = "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    clock = getattr(time, name, None)
    if clock is None:
        return time.monotonic
    return lambda: time.clock_gettime(clock)


class WallClock:
    """Looked at once a second by one thread; `off` is read by any.

    Args:
        wall_s: the clock that may be set, s since the epoch.
        steady_s: the clock that is not.
    """

    def __init__(self, wall_s: Callable[[], float] = time.time, steady_s: Callable[[], float] | None = None) -> None:
        self._wall_s = wall_s
        self._steady_s = steady_s or _steady()
        self._offset_s: float | None = None
        """Wall minus steady clock before the step."""
        self._since_s = -inf
        self._ages_s: deque[float] = deque(maxlen=_BEFORE)
        """Of the newest messages, at the latest looks before the step."""
        self._ages_after_s: list[float] = []
        self.off = False
        """Whether it was set, and it is not known yet that it is right."""
        self.step_s = 0.0
        """By how much it was set, s."""
        self._righted_s = -inf

    def look(self, newest_age_s: float = inf) -> None:
        """Compare the clocks.

        Args:
            newest_age_s: of the newest message of a consumer that is caught up; infinite where there is none.
        """
        before_s = self._steady_s()
        wall_s = self._wall_s()
        after_s = self._steady_s()
        if after_s - before_s >= READ_WITHIN_S:
            return  # The machine was busy between the reads.
        offset_s = wall_s - after_s
        known_s = self._offset_s
        if known_s is None or abs(offset_s - known_s) <= STEP_S:
            # A clock that is slewed moves by at most 0.5 ms a second: followed.
            self._trust(offset_s)
            if newest_age_s < inf:
                self._ages_s.append(newest_age_s)
            return
        if not self.off:
            self.off, self.step_s, self._since_s = True, offset_s - known_s, after_s
        if newest_age_s < inf:
            self._ages_after_s.append(newest_age_s)
        if after_s - self._since_s > OFF_S or self._ages_are_as_before():
            self._trust(offset_s)

    def is_off(self) -> bool:
        """Tell whether it was set, also since the last look. Cheap enough for each case that an objective misses."""
        known_s = self._offset_s
        if not self.off and known_s is not None and abs(self._wall_s() - self._steady_s() - known_s) > STEP_S:
            self.look()
        return self.off

    def right_for_s(self) -> float:
        """Return for how long it has been right again; infinite where it was never set."""
        return self._steady_s() - self._righted_s

    def _trust(self, offset_s: float) -> None:
        self._offset_s = offset_s
        if self.off:
            self.off, self._righted_s = False, self._steady_s()
            self._ages_after_s.clear()

    def _ages_are_as_before(self) -> bool:
        after_s = self._ages_after_s
        if len(after_s) < AGES or not self._ages_s:
            return False
        return abs(min(after_s) - min(self._ages_s)) <= STEP_S
