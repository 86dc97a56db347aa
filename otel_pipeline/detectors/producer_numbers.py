"""Compares the numbers that producers gave their messages, in one partition at one consumer.

A producer is followed from its first message on, as long as it speaks. Where there are too many, newcomers are counted
and not followed: whoever made room by forgetting one that speaks would in the end compare nothing.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from otel_pipeline.detectors.producer_window import Counts, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.detectors.producer_window import Between

MAX_PRODUCERS = 4096
"""Followed in one partition."""
MAX_ALL_PRODUCERS = 65_536
"""Followed in a process, in all partitions."""
MAX_ALL_GAPPED = 4096
"""With gaps, or numbers that did not come, within their windows, in a process: these take most of the memory."""
SILENT_S = 600.0
"""Whoever has said nothing for so long makes room; time in which nobody spoke does not count."""
_WAIT_S = 0.1
"""How long to wait for the lock. Nobody holds it longer, except in a forked child a thread that only the parent has."""


class Room:
    """How many producers are followed in all partitions of a process. Any thread.

    Two threads that take a place at the same moment may count as one, until it is counted anew, once a second.
    """

    __slots__ = ("gapped", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.gapped = 0
        """Producers of whom numbers have not come."""

    def take(self) -> bool:
        """Take the place of one more producer; False where there is none left."""
        if self.taken >= MAX_ALL_PRODUCERS:
            return False
        self.taken += 1
        return True

    def give_back(self, count: int) -> None:
        """Let others have the places of so many."""
        self.taken = max(0, self.taken - count)


class Silence:
    """Tells which producers of a partition are silent, from its newest offset once a second: no message costs anything.

    Whoever has spoken since has a newer offset.
    """

    __slots__ = ("_marks", "_newest", "_silent", "_spoken_s", "_then_s")

    def __init__(self) -> None:
        self._newest, self._silent = -1, -1
        self._then_s = self._spoken_s = 0.0
        self._marks: list[tuple[float, int]] = []
        """What the newest offset was, after so many seconds in which messages came."""

    def look(self, now_s: float, newest: int) -> int:
        """Return the offset that was the newest `SILENT_S` ago, or up to a tenth of that longer; -1 before then."""
        if newest < self._newest:  # Another log.
            self._marks, self._silent = [], -1
        elif newest > self._newest >= 0:
            # A process that was stopped, or a machine that slept, makes nobody silent.
            self._spoken_s += min(now_s - self._then_s, SILENT_S / 10)
        self._newest, self._then_s = newest, now_s
        marks, spoken_s = self._marks, self._spoken_s
        if not marks or spoken_s - marks[-1][0] >= SILENT_S / 10:
            marks.append((spoken_s, newest))
        while spoken_s - marks[0][0] >= SILENT_S:
            self._silent = marks.pop(0)[1]
        return self._silent


NONE = Window(-1, -1, -1, 0)
"""Stands for a window that no message follows."""


class ProducerNumbers(Counts):
    """The windows of a partition's producers. Used by the consumer's thread; its counts are read by any.

    `ended`, `close`, `leave` and `drop_silent` may be called from any thread. They touch only windows with gaps, and
    those of the silent, which the fast path leaves to `_out_of_line`: there is the lock.

    Args:
        monotonic_s: clock for `lost_after`, s.
        room: what all partitions of the process share; one of its own where none is given.
    """

    __slots__ = ("_gapped", "_holed", "_lock", "_monotonic_s", "_room", "_windows", "latest", "turned_away")

    def __init__(self, monotonic_s: Callable[[], float], room: Room | None = None) -> None:
        super().__init__()
        self._monotonic_s = monotonic_s
        self._room = room or Room()
        self._lock = Lock()
        self._windows: dict[int, Window] = {}
        self._gapped: set[Window] = set()
        """Those with gaps, and some that had any."""
        self._holed = 0
        """Windows of which not every number has come."""
        self.latest = NONE
        """The window of the last message, which is mostly that of the next one, too."""
        self.turned_away = 0
        """Messages of producers that are not followed."""

    @property
    def gapped(self) -> bool:
        """Whether a window has gaps, so that the end of the log is of interest."""
        return bool(self._gapped)

    @property
    def followed(self) -> int:
        """How many producers are followed."""
        return len(self._windows)

    @property
    def holed(self) -> int:
        """How many producers' windows have numbers that have not come."""
        return self._holed

    def follows_gaps(self) -> bool:
        """Tell whether there is room for the gaps of one more producer."""
        return self._room.gapped < MAX_ALL_GAPPED

    def ended(self, now_s: float, lost_after_s: float) -> None:
        """Give up gaps older than `lost_after_s`: the log was read to its end (rule 7)."""
        self._settle(now_s - lost_after_s, missing=True)

    def close(self) -> None:
        """Give up every gap: the caller knows that nothing comes any more."""
        self.ended(float("inf"), 0.0)

    def leave(self) -> None:
        """Count what is open as left so: nobody reads the partition here any more, and somebody else may."""
        self._settle(float("inf"), missing=False)

    def drop_silent(self, highest: int) -> None:
        """Forget the producers of whom nothing has come behind this offset, which was the newest some time ago."""
        windows = self._windows
        for producer, window in list(windows.items()):
            if window.offset > highest:
                continue
            held = self._lock.acquire(timeout=_WAIT_S)
            if windows is self._windows:  # The consumer's thread may have begun anew just now.
                window.settle(window.gaps or (), self, missing=False)
                self._gapped.discard(window)
                windows.pop(producer, None)
                self._room.give_back(1)
                self._count_holed(-(window.gaps is not None))
            if held:
                self._lock.release()

    def numbers(self) -> dict[int, int]:
        """Return the newest number of each producer, to compare with what was given: a lost tail leaves no gap."""
        return {producer: window.newest for producer, window in list(self._windows.items())}

    def open_places(self) -> list[Between]:
        """Return where messages are open, the oldest gap first."""
        gaps = [gap for window in list(self._gapped) for gap in window.gaps or ()]
        return [gap.place for gap in sorted(gaps, key=lambda gap: gap.seen_s)]

    def _settle(self, seen_until_s: float, *, missing: bool) -> None:
        held = self._lock.acquire(timeout=_WAIT_S)
        try:
            for window in list(self._gapped):
                due = [gap for gap in window.gaps or () if gap.seen_s <= seen_until_s]
                window.settle(due, self, missing=missing)
                if not window.gaps:
                    self._gapped.discard(window)
        finally:
            if held:
                self._lock.release()

    def _begin_anew(self) -> None:
        held = self._lock.acquire(timeout=_WAIT_S)
        self._room.give_back(len(self._windows))
        self._count_holed(-self._holed)
        self._windows = {}
        self._gapped.clear()
        self.latest = NONE
        self.open = 0
        if held:
            self._lock.release()

    def _add(self, producer: int, number: int, offset: int) -> None:
        windows = self._windows
        if len(windows) >= MAX_PRODUCERS or not self._room.take():
            self.turned_away += 1
            return
        self.firsts += 1
        windows[producer] = self.latest = Window(producer, number, offset, self.skipped)

    def _out_of_line(self, window: Window, number: int, offset: int) -> None:
        held = self._lock.acquire(timeout=_WAIT_S)
        try:
            before = window.gaps is not None
            window.compare(number, offset, self._monotonic_s, self)
            self._count_holed((window.gaps is not None) - before)
            if window.gaps:
                self._gapped.add(window)
        finally:
            if held:
                self._lock.release()

    def _count_holed(self, more: int) -> None:
        self._holed += more
        self._room.gapped += more
