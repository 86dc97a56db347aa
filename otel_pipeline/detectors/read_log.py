"""Tells whether the log of a partition is still the one that was read: whether it was made anew, or was cut.

A topic that is deleted and made again keeps its name, and begins with offset 0. A log that was cut, because a leader
failed that the others had not followed, keeps its topic's id and ends below what was read. A replica that lags does the
same for a moment (docs/design/order.md, "Another log").
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.engine.observer import Resumed

CERTAIN_AFTER_S = 10.0
"""So long a replica may lag, and metadata be older than the topic."""
MAX_MARKERS = 10_000
"""Of what was fetched and not handed out yet; older ones excuse a number each, as offsets without a message do."""


class ReadLog:
    """What is known of the log that one consumer reads of one partition. Any thread.

    `newest` is always the highest offset that was read, below 0 before the first.
    """

    __slots__ = (
        "_another",
        "_begun_at",
        "_gone",
        "_identity",
        "_late_until",
        "_short_end",
        "_since_s",
        "cut",
        "markers",
    )

    def __init__(self) -> None:
        self.cut = 0
        """Messages that were read, and then cut off the log."""
        self.markers: deque[int] = deque(maxlen=MAX_MARKERS)
        """Offsets that are no messages, in the order in which they were fetched."""
        self._identity: object = None
        self._another = False
        """Whether an offset that was read is another message by now."""
        self._short_end = -1
        """The lowest end that was seen below what was read; -1 while there is none."""
        self._begun_at = -1
        """The first offset of what may be another log."""
        self._gone = 0
        """Messages that were read and are in the log no more, unless this is another log."""
        self._late_until = 0.0
        """Nothing was gone if the log comes to end above this: only the replica was late."""
        self._since_s: float | None = None
        """Since when something has spoken for another log, or for one that was cut."""

    def told(self, identity: object) -> bool:
        """Take in the id of the topic, None where it is not known; tells whether it is another one than before."""
        if identity is None or identity == self._identity:
            return False
        before, self._identity = self._identity, identity
        if before is None:
            return False
        self._another, self._gone, self._short_end = True, 0, -1
        return True

    def first(self, position: int) -> int:
        """Return the first offset that is read of a log whose id has just been told, given the position now."""
        return position if self._begun_at < 0 else self._begun_at

    def ends_at(self, end: int, newest: int) -> None:
        """Take in where the log ends, according to a fetch."""
        if self._gone and end > self._late_until:
            self._gone = 0
        if end > newest:
            self._short_end = -1
        elif self._short_end < 0 or end < self._short_end:
            self._short_end = end

    def look(self, now_s: float, end: int | None, newest: int) -> None:
        """Decide, once a second, about what has been so for long enough."""
        short = end is not None and end <= newest and not self._another
        if not short and not self._gone:
            self._since_s, self._begun_at = None, -1
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= CERTAIN_AFTER_S:
            if not self._gone and end is not None:
                self._gone, self._another = newest + 1 - end, True
            if self._identity is not None:
                self.cut += self._gone
            self._gone, self._since_s, self._begun_at = 0, None, -1

    def add_markers(self, offsets: Sequence[int]) -> None:
        """Remember offsets that are no messages, before those behind them are handed out."""
        if self.markers and offsets[0] <= self.markers[-1]:
            self.markers.clear()  # The position was set back, or this is another log.
        self.markers.extend(offsets)

    def markers_between(self, after: int, before: int) -> int:
        """Return how many markers lie between the offsets of two messages in a row, and forget those before them."""
        markers, found = self.markers, 0
        while markers and markers[0] < before:
            marker = markers.popleft()
            if marker > after:
                found += 1
        return found

    def is_other(
        self, offset: int, newest: int, reset: tuple[int, Resumed] | None, *, sought: bool, moved: bool
    ) -> bool:
        """Tell whether a message at an offset that was read is none of those that were read.

        So it is where the log is another one, where it ended below, and where the client's own position was beyond it.

        Args:
            offset: of the message.
            newest: the highest that was read.
            reset: a position that was out of range, and how the client went on.
            sought: whether the application has chosen a position.
            moved: whether nobody but the client can have moved it.
        """
        beyond = reset is not None and not sought and reset[0] > offset
        if not (self._another or self._short_end >= 0 or beyond):
            return False
        if not self._another:
            self._begun_at = offset
            at_end = beyond and reset is not None and reset[1] == "latest"
            ends = [self._short_end] * (self._short_end >= 0) + [offset] * (moved or at_end)
            self._gone = newest + 1 - min(ends, default=newest + 1)
            # A position beyond the log is certain.
            self._late_until = inf if beyond else newest
        self._another, self._short_end = False, -1
        return True
