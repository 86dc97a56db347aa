"""One flow: the partitions that are watched now, and the sums of those that no longer are."""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline.detectors.measures import MAX_VALUES
from otel_pipeline.detectors.pace import PartitionPace
from otel_pipeline.detectors.partition_order import Unordered
from otel_pipeline.detectors.producer_window import MAX_PLACES
from otel_pipeline.engine.measures import Label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.detectors.flow_pace import FlowPace, Pace
    from otel_pipeline.detectors.measures import Detector
    from otel_pipeline.detectors.objectives import ObjectiveCounts
    from otel_pipeline.detectors.partition import PartitionWatch
    from otel_pipeline.detectors.producer_window import Between
    from otel_pipeline.detectors.sender_delay import Delay
    from otel_pipeline.detectors.settings import DestinationSettings
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.measures import Measure
    from otel_pipeline.engine.totals import Attributes, CounterCell, Histogram, HistogramCell

_FOLD_AT = 64
_SETTLED_S = 10.0
MAX_NUMBERS = 10_000
"""The most producers that are remembered of partitions that are no longer watched."""


class FlowKey(NamedTuple):
    """One flow of messages: where the lights are judged."""

    cluster: str | None
    destination: str
    group: str | None
    """None where this process only sends."""


class Watched(NamedTuple):
    """A watch with the parts of all its detectors, and what tells whether it is still in use."""

    consumer: ref[Consumer]
    partition: int
    watch: PartitionWatch
    since_s: float
    """When it began, monotonic."""
    parts: tuple[tuple[Detector, Place, Any], ...]
    """Each with the place where its failures are counted."""

    def in_use(self, destination: str) -> bool:
        """Tell whether its consumer still observes with it."""
        consumer = self.consumer()
        if consumer is None:
            return False
        state = consumer.partitions.get((destination, self.partition))
        return state is not None and state.observer is self.watch


class WatchedFlow:
    """One flow: its settings, the partitions that are watched, and the sums of those that no longer are.

    Args:
        attributes: all that is known of the flow; each measure has some of them.
        born: the counts that exist from the beginning, at 0.
    """

    def __init__(
        self,
        key: FlowKey,
        attributes: Attributes,
        settings: DestinationSettings,
        objectives: tuple[ObjectiveCounts, ...],
        pace: FlowPace,
        born: Iterable[Label],
    ) -> None:
        self.key = key
        self.attributes = dict(attributes)
        self.settings = settings
        self.objectives = objectives
        self.decisions: dict[str, ObjectiveCounts] = {}
        """Objectives of models that decided on messages of this flow, by name, the first decided on first."""
        self.pace = pace
        self._born = dict.fromkeys(born, 0)
        self.latest: dict[Label, int] = self._born
        """The counts as they were last read."""
        self.process_attributes: Attributes = {}
        """Attributes of the process spans' durations, where there are any."""
        self.watched: list[Watched] = []
        self._fold_at = _FOLD_AT
        self.gone: dict[Label, int] = {}
        self.newest_gone: dict[tuple[int, int], int] = {}
        """Newest number by (partition, producer) of what is no longer watched."""
        self._newest_origin_gone_ms = 0
        self._last_gone_ms = 0
        self._missing_gone: list[tuple[int, Between]] = []
        self.series: dict[Label, CounterCell] = {}
        """The cells of the counts that are metrics."""
        self._own_cells: WeakKeyDictionary[object, dict[Measure, HistogramCell]] = WeakKeyDictionary()

    def own_cell(self, consumer: ref[Consumer], histogram: Histogram, measure: Measure) -> HistogramCell:
        """Return the consumer's own cell, for all its partitions: its thread alone records."""
        owner = consumer() or self
        cells = self._own_cells.setdefault(owner, {})
        if measure not in cells:
            cells[measure] = histogram.cell(measure.among(self.attributes), owner=owner)
        return cells[measure]

    def watches(self) -> list[PartitionWatch]:
        """Return the watches in use."""
        return [each.watch for each in self.watched]

    @property
    def newest_origin_ms(self) -> int:
        """Newest origin of all that has been processed, ms since the epoch; 0 before the first."""
        return max(self._newest_origin_gone_ms, *(watch.freshness.newest_origin_ms for watch in self.watches()), 0)

    @property
    def last_ms(self) -> int:
        """When the last message came, ms since the epoch; 0 before the first."""
        return max(self._last_gone_ms, *(watch.last_ms for watch in self.watches()), 0)

    def mark(self) -> tuple[int, int, int]:
        """Return what changes with each message that comes or is done, each commit ahead, each look at which one waits.

        Cheap: what detectors have counted is not read.
        """
        moved = 0
        for each in self.watched:
            watch = each.watch
            moved += watch.readable + watch.unreadable + watch.without_header + watch.processed_offset + watch.ahead
        return moved, len(self.watched), self.pace.moves

    def add(self, watched: Watched) -> None:
        """Add a partition at a consumer; what is no longer used is folded whenever as many have come as there were."""
        self.watched.append(watched)
        if len(self.watched) >= self._fold_at:
            self.fold()

    def look(self, now_s: float, now_ms: int) -> float:
        """Follow, once a second, how late messages reach the broker, where an objective asks for it.

        Returns the age of the newest message of a partition that is read to its end, s; infinite where it is not known.
        """
        objectives = (*self.objectives, *list(self.decisions.values()))
        threshold_s = min((each.objective.threshold_s for each in objectives), default=None)
        newest_s = inf
        for each in self.watched if threshold_s is not None else ():
            consumer, watch, freshness = each.consumer(), each.watch, each.watch.freshness
            pace = None if consumer is None else consumer.fetches.get((self.key.destination, each.partition))
            sent_ms = watch.last_sent_ms
            if not freshness.settled:
                freshness.settled = freshness.delays.settled or now_s - each.since_s > _SETTLED_S
            if not isinstance(pace, PartitionPace) or not isinstance(sent_ms, int) or sent_ms <= 0:
                continue
            offset = watch.order.highest
            written = None if offset == freshness.looked_at else pace.time_lag(offset, now_s)
            if written is not None:
                freshness.looked_at, age_s = offset, (watch.last_ms - sent_ms) / 1000
                ago_s = (now_ms - watch.last_ms) / 1000
                interval_s = written.lower - ago_s, written.upper - ago_s
                freshness.delays.look(now_s, watch.order.latest.producer, age_s, interval_s)
                if pace.lag(offset + 1) == 0:
                    newest_s = min(age_s, newest_s)
            freshness.delay = freshness.delays.delay(now_s, threshold_s or 0.0)
        return newest_s

    @property
    def delay(self) -> Delay | None:
        """What a partition's senders add to the ages of its messages, the most of it; None where nothing is proven."""
        delays = [each.freshness.delay for each in self.watches() if each.freshness.delay is not None]
        return max(delays, default=None)

    @property
    def replaying(self) -> int:
        """How many messages are still to be read again, or are from before the consumer first began."""
        return sum(each.watch.replaying(self._position(each)) for each in self.watched)

    def _position(self, watched: Watched) -> int | None:
        consumer = watched.consumer()
        pace = None if consumer is None else consumer.fetches.get((self.key.destination, watched.partition))
        return pace.was_at if isinstance(pace, PartitionPace) else None

    def fold(self) -> None:
        """Keep what was counted by watches that are no longer used, but not the watches."""
        left = []
        for each in self.watched:
            if each.in_use(self.key.destination):
                left.append(each)
                continue
            self._last_gone_ms = max(self._last_gone_ms, each.watch.last_ms)
            self._newest_origin_gone_ms = max(self._newest_origin_gone_ms, each.watch.freshness.newest_origin_ms)
            each.watch.order.leave()
            missing = ((each.partition, place) for place in each.watch.order.missing_places)
            self._missing_gone = [*self._missing_gone, *missing][-MAX_PLACES:]
            for label, count in _read(each):
                self.gone[label] = self.gone.get(label, 0) + count
            for producer, number in each.watch.order.numbers().items():
                if len(self.newest_gone) < MAX_NUMBERS:
                    self.newest_gone[each.partition, producer] = number
        self.watched = left
        self._fold_at = max(_FOLD_AT, 2 * len(left))

    def counts(self) -> dict[Label, int]:
        """Return all sums, those of the past included."""
        total = dict(self._born)
        for label, count in self.gone.items():
            total[label] = total.get(label, 0) + count
        for each in self.watched:
            for label, count in _read(each):
                total[label] = total.get(label, 0) + count
        for label, count in self.latest.items():
            # A sum does not fall because its detector can no longer be read.
            if count > total.get(label, 0) and label.measure.instrument == "counter":
                total[label] = count
        self.latest = total
        return total

    def numbers(self) -> dict[tuple[int, int], int]:
        """Return the newest number of each (partition, producer): what was given beyond it has not come."""
        newest = dict(self.newest_gone)
        for each in self.watched:
            for producer, number in each.watch.order.numbers().items():
                newest[each.partition, producer] = number
        return newest

    def open_places(self) -> list[tuple[int, Between]]:
        """Return partition and offsets between which messages have not come yet."""
        found = [(each.partition, each.watch.order.open_places()) for each in self.watched if each.watch.order.gapped]
        return [(partition, place) for partition, places in found for place in places]

    def missing_places(self) -> list[tuple[int, Between]]:
        """Return partition and offsets between which the latest of the missing messages should have come."""
        found = ((each.partition, place) for each in self.watched for place in each.watch.order.missing_places)
        return [*self._missing_gone, *found][-MAX_PLACES:]

    def at_risk(self) -> int:
        """Count the offsets that are committed and still in hand: lost if the process dies now."""
        return sum(watch.at_risk for watch in self.watches())

    def processed_offsets(self) -> dict[int, int]:
        """Return the newest processed offset of each partition that is watched."""
        offsets: dict[int, int] = {}
        for each in self.watched:
            if isinstance(each.watch.order, Unordered):
                continue  # Others have what is below the newest.
            if each.watch.processed_offset >= 0 and each.partition >= 0:
                offsets[each.partition] = max(each.watch.processed_offset, offsets.get(each.partition, -1))
        return offsets


def _read(watched: Watched) -> list[tuple[Label, int]]:
    found: list[tuple[Label, int]] = []
    for detector, place, part in watched.parts:
        if not place.off:
            try:
                found += _counts_of(detector, part)
            except Exception:
                place.failed()
    return found


def _counts_of(detector: Detector, part: Any) -> list[tuple[Label, int]]:
    found = [(label, read(part)) for label, read in detector.counts.items()]
    for measure, read_all in detector.open_counts.items():
        found += [(Label(measure, values), count) for values, count in islice(read_all(part).items(), MAX_VALUES)]
    return found


class FlowNow:
    """A flow as it is now, for gauges and the verdict.

    Args:
        flow: the flow.
        now_ms: wall clock, ms since the epoch.
        now_s: monotonic.
        work_ns: by the clock that the engine measures durations with.
    """

    __slots__ = ("_pace", "flow", "now_ms", "now_s", "work_ns")

    def __init__(self, flow: WatchedFlow, now_ms: int, now_s: float, work_ns: int) -> None:
        self.flow, self.now_ms, self.now_s, self.work_ns = flow, now_ms, now_s, work_ns
        self._pace: Pace | None = None

    @property
    def pace(self) -> Pace:
        """How it keeps up; read once."""
        pace = self._pace
        if pace is None:
            pace = self._pace = self.flow.pace.read(self.now_s, self.work_ns)
        return pace

    @property
    def staleness_s(self) -> float | None:
        """Seconds since the newest origin that was processed; None before the first."""
        newest_ms = self.flow.newest_origin_ms
        return (self.now_ms - newest_ms) / 1000 if newest_ms else None

    @property
    def quiet_s(self) -> float | None:
        """Seconds since the last message came; None before the first."""
        last_ms = self.flow.last_ms
        return max(0.0, (self.now_ms - last_ms) / 1000) if last_ms else None
