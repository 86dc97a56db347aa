"""Tells whether a consumer keeps up, from fetches alone: no broker is asked, and no other machine's clock is believed.

Each fetch tells where the log ended at some time between its request and its answer. So the message at the consumer's
position was written between the last fetch that ended at or before it and the first that ended after it: its age, the
time lag, is known as an interval that contains the truth (docs/design/pace.md, "Lag as an interval").
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.detectors.read_log import ReadLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.detectors.partition_order import PartitionOrder
    from otel_pipeline.engine.observer import Resumed

MAX_POINTS = 64


class _Point(NamedTuple):
    """The log ended at `end`, according to fetches that were answered from `first_s` on and sent until `last_s`."""

    end: int
    first_s: float
    last_s: float


class TimeLag(NamedTuple):
    """How long ago the message at a position was written, s; `upper` is infinite where no fetch saw its absence."""

    lower: float
    upper: float


class PartitionPace:
    """What fetches told of the end of one partition's log. Written by one thread, read by any; times monotonic, s."""

    __slots__ = (
        "_ended",
        "_is_new",
        "_log",
        "_out_of_range",
        "_points",
        "_skipped",
        "_start",
        "answered_s",
        "away_since_s",
        "began_at_end",
        "longest_stand_s",
        "order",
        "since_s",
        "stands_since_s",
        "still_since_s",
        "unstable",
        "was_at",
    )

    def __init__(self, now_s: float) -> None:
        self.since_s = now_s
        # A new tuple each time: readers keep the one that they have.
        self._points: tuple[_Point, ...] = ()
        self._log = ReadLog()
        self._start = -1
        """Where the log begins; -1 where that is not known."""
        self._is_new = False
        """Whether the log is another one than was read, and its first position is not known yet."""
        self._skipped = 0
        """Messages that were left out before the first one came."""
        self._out_of_range: tuple[int, Resumed] | None = None
        self.order: PartitionOrder | None = None
        self._ended: int | None = None
        """The log's end at the last look: every offset below it had come."""
        self.was_at: int | None = None
        """The position at the last look."""
        self.still_since_s = now_s
        """Since when the position has not moved."""
        self.away_since_s: float | None = None
        """Since when the partition has not been assigned here, as far as that is of interest."""
        self.began_at_end: int | None = None
        """Where the log ended when its consumer began at its first message; None where it began elsewhere."""
        self.answered_s: float | None = None
        """When the latest fetch was answered; None before the first."""
        self.unstable = 0
        """Messages of open transactions, and behind them, which a consumer of committed ones may not read yet."""
        self.stands_since_s = now_s
        """Since when what may be read has ended where it ends, while there are such."""
        self.longest_stand_s: float | None = None
        """The longest time that it did, of those that are over; None where none is."""

    def watched_by(self, order: PartitionOrder) -> None:
        """Tell `order`, at the first message, what is already known of the log and the position."""
        self.order = order
        order.log = self._log
        order.missing_skipped += self._skipped
        if self._out_of_range is not None:
            order.out_of_range(*self._out_of_range)

    def fetched(
        self, sent_s: float, arrived_s: float, position: int, end: int | None, written: int = -1, start: int = -1
    ) -> None:
        """Do as `FetchObserver` says."""
        if self.answered_s is None and end is not None and position == start:
            self.began_at_end = end
        self.answered_s = arrived_s
        if end is not None:
            self._stand(arrived_s, end, max(0, written - end))
        if start >= 0:
            self._start = start
        known = self.end if end is None else max(end, written)
        if known is not None:
            self._follow_log(position, known)
        if self._out_of_range is not None and self._out_of_range[0] == position:
            self._out_of_range = None
            if self.order is not None:
                self.order.in_range()
        self._add_point(sent_s, arrived_s, end)

    def _add_point(self, sent_s: float, arrived_s: float, end: int | None) -> None:
        points = self._points
        last = points[-1] if points else None
        if end is None:
            if last is not None:
                self._points = (*points[:-1], _Point(last.end, last.first_s, sent_s))
        elif last is None or end < last.end:
            # Shorter than it was: another log, or one that lost its end.
            self._points = (_Point(end, arrived_s, sent_s),)
        elif end == last.end:
            self._points = (*points[:-1], _Point(end, last.first_s, sent_s))
        else:
            if len(points) >= MAX_POINTS:
                # Leaving out whole points widens intervals, and never makes one wrong.
                half = MAX_POINTS // 2
                points = (*points[:half:2], *points[half:])
            self._points = (*points, _Point(end, arrived_s, sent_s))

    def skipped(self, count: int) -> None:
        """Do as `FetchObserver` says."""
        if self.order is None:
            self._skipped += count
        else:
            self.order.missing_skipped += count

    def markers(self, offsets: Sequence[int]) -> None:
        """Do as `FetchObserver` says."""
        self._log.add_markers(offsets)

    def of_log(self, log: object) -> None:
        """Do as `FetchObserver` says."""
        if self._log.told(log):
            self._points = self._points[-1:]
            self._is_new = self.order is not None

    def _follow_log(self, position: int, end: int) -> None:
        order = self.order
        if order is None:
            return
        self._log.ends_at(end, order.newest)
        if self._is_new and position <= end and self._start >= 0:
            # A client that finds its log shorter than it was goes on at the end, also where it is another one.
            self._is_new = False
            if not order.is_sought:
                self.skipped(max(0, self._log.first(position) - self._start))

    def _stand(self, now_s: float, end: int, unstable: int) -> None:
        """Follow how long what may be read stands still below what is written."""
        before, self.unstable = self.unstable, unstable
        if not before:
            self.stands_since_s = now_s
        elif not unstable or end != self.end:
            self.longest_stand_s = max(now_s - self.stands_since_s, self.longest_stand_s or 0.0)
            self.stands_since_s = now_s

    def out_of_range(self, offset: int, resumed: Resumed) -> None:
        """Do as `FetchObserver` says."""
        self._out_of_range = (offset, resumed)
        if self.order is not None:
            self.order.out_of_range(offset, resumed)

    @property
    def end(self) -> int | None:
        """Where the log ended when it was last looked at."""
        points = self._points
        return points[-1].end if points else None

    def lag(self, position: int) -> int | None:
        """Return how many messages the position is behind; None before the first fetch."""
        end = self.end
        return None if end is None else max(0, end - position)

    def time_lag(self, position: int, now_s: float) -> TimeLag | None:
        """Return how old the message at the position is, or could be by now if it did not exist yet; None: no fetch."""
        points = self._points
        if not points:
            return None
        last = points[-1]
        if last.end <= position:
            return TimeLag(0.0, now_s - last.last_s)
        upper = inf
        for end, first_s, last_s in points:
            if end > position:
                return TimeLag(now_s - first_s, upper)
            upper = now_s - last_s
        return TimeLag(0.0, upper)

    def caught_up_age(self, position: int, now_s: float) -> float:
        """Return how long ago the consumer was provably caught up, s; since it began where it never was."""
        lag = self.time_lag(position, now_s)
        return now_s - self.since_s if lag is None or lag.upper == inf else lag.upper

    def read_to_the_end_at(self, position: int) -> float | None:
        """Return when the last fetch was sent that found nothing at or after the position; None if there was none."""
        return next((last_s for end, _, last_s in reversed(self._points) if end <= position), None)

    def look(self, position: int, now_s: float, lost_after_s: float) -> Moved:
        """Look once a second, and return how far log and consumer have moved since the last look.

        Gaps in the order are given up here, where the log ended at or below the position of the last look: so what
        has been handed out has also been counted, and a consumer that never rests is judged, too.
        """
        was_at, self.was_at = self.was_at, position
        ended, end = self._ended, self.end
        self._ended = end
        if was_at != position:
            self.still_since_s = now_s
        order = self.order
        if order is not None:
            self._log.look(now_s, None if end is None else end + self.unstable, order.newest)
        if order is not None and order.gapped and was_at is not None:
            end_s = self.read_to_the_end_at(min(was_at, position))
            if end_s is not None:
                order.ended(end_s, lost_after_s)
        return Moved(
            0 if end is None or ended is None else max(0, end - ended),
            0 if was_at is None else position - was_at,
        )


class Moved(NamedTuple):
    """Messages between two looks."""

    written: int
    read: int
    """Negative where the position moved back."""


class Rates:
    """How fast messages come and go, and which share of the time is work: exponentially weighted, half-life 30 s."""

    __slots__ = ("incoming", "outgoing", "utilization")

    HALF_LIFE_S = 30.0

    def __init__(self) -> None:
        self.incoming: float | None = None
        self.outgoing: float | None = None
        self.utilization: float | None = None

    def count(self, written: int, read: int, worked: float | None, elapsed_s: float) -> None:
        """Count what happened in `elapsed_s`; `worked` is the share of the time that was not spent waiting."""
        weight = 1 - 0.5 ** (elapsed_s / self.HALF_LIFE_S)
        self.incoming = _weighted(self.incoming, written / elapsed_s, weight)
        self.outgoing = _weighted(self.outgoing, read / elapsed_s, weight)
        if worked is not None:
            self.utilization = _weighted(self.utilization, min(1.0, max(0.0, worked)), weight)

    def drain_time_s(self, lag: int) -> float | None:
        """Return how long the lag lasts at these rates, s; None where it does not get smaller."""
        return drain_time_s(lag, self.incoming, self.outgoing)


def drain_time_s(lag: int, incoming: float | None, outgoing: float | None) -> float | None:
    """Return how long a lag lasts at rates in messages per second, s; None where it does not get smaller."""
    if lag == 0:
        return 0.0
    if incoming is None or outgoing is None or outgoing <= 1.05 * incoming:
        return None
    return lag / (outgoing - incoming)


def _weighted(known: float | None, found: float, weight: float) -> float:
    return found if known is None else known + weight * (found - known)
