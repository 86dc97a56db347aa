"""How a consumer's time is spent: waiting for messages, or working on them."""

from __future__ import annotations

from collections import deque
from statistics import median

RECENT = 33


class Polling:
    """What the calls of one consumer's poll told. Written by its thread, read by any. Times in ns, monotonic."""

    __slots__ = ("began_ns", "recent_ns", "since_ns", "waited_ns")

    def __init__(self, now_ns: int) -> None:
        self.since_ns = now_ns
        """When the latest call began or ended."""
        self.began_ns = 0
        """When the call began that has not returned yet; 0 without one."""
        self.waited_ns = 0
        """Spent in calls that have returned."""
        self.recent_ns: deque[int] = deque(maxlen=RECENT)
        """Spent between calls, lately."""

    def begin(self, now_ns: int, *, by_iterator: bool) -> None:
        """The application asks for messages; an iterator has handed out a whole pull one by one since."""
        if not by_iterator:
            self.recent_ns.append(now_ns - self.since_ns)
        self.since_ns = self.began_ns = now_ns

    def end(self, now_ns: int) -> None:
        """The call returns."""
        self.waited_ns += now_ns - self.began_ns
        self.since_ns = now_ns
        self.began_ns = 0

    def waited_until(self, now_ns: int) -> int:
        """All time spent waiting, that of a call which has not returned included."""
        began_ns = self.began_ns
        return self.waited_ns + (max(0, now_ns - began_ns) if began_ns else 0)

    def working_median_s(self) -> float | None:
        """The median time between two calls, lately; None before there were some."""
        recent = list(self.recent_ns)
        return median(recent) / 1e9 if recent else None
