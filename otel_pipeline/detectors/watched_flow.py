"""One flow: the partitions that are watched now, and the sums of those that no longer are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline.detectors.order import CAUSES, VIOLATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.detectors.flow_pace import FlowPace
    from otel_pipeline.detectors.freshness import ObjectiveCounts
    from otel_pipeline.detectors.instruments import Instruments
    from otel_pipeline.detectors.partition import PartitionWatch
    from otel_pipeline.detectors.settings import DestinationSettings
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.totals import Attributes, CounterCell, HistogramCell
    from otel_pipeline.verdict.evidence import FlowKey

HEADER_STATES = ("ok", "missing", "unreadable", "relayed")


class Watched(NamedTuple):
    """A watch, and what tells whether it is still in use."""

    consumer: ref[Consumer]
    partition: int
    watch: PartitionWatch

    def in_use(self, destination: str) -> bool:
        """Whether its consumer still observes with it."""
        consumer = self.consumer()
        if consumer is None:
            return False
        state = consumer.partitions.get((destination, self.partition))
        return state is not None and state.observer is self.watch


Label = tuple[str, str]
"""Metric, and the value of its one own attribute."""


class WatchedFlow:
    """One flow: its settings, the partitions that are watched, and the sums of those that no longer are."""

    def __init__(
        self,
        key: FlowKey,
        attributes: Attributes,
        settings: DestinationSettings,
        objectives: tuple[ObjectiveCounts, ...],
        pace: FlowPace,
        foreign: tuple[str, ...] = (),
    ) -> None:
        self.key = key
        self.attributes = dict(attributes)
        """System, destination and group, as metrics have them."""
        self.settings = settings
        self.objectives = objectives
        self.decisions: dict[ObjectiveCounts, None] = {}
        """Objectives of models that decided on messages of this flow, in the order of their first decisions."""
        self.pace = pace
        self._born_at_zero: tuple[Label, ...] = (*_BORN_AT_ZERO, *(("foreign", name) for name in foreign))
        self.process_attributes: Attributes = {}
        """Of the process spans' durations, where there are some."""
        self.watched: list[Watched] = []
        self.gone: dict[Label, int] = {}
        self.newest_gone: dict[tuple[int, int], int] = {}
        """Newest number by (partition, producer), of what is no longer watched."""
        self.newest_origin_ms = 0
        self.last_ms = 0
        self.cells: dict[Label, CounterCell] = {}
        self._delivery_ages: WeakKeyDictionary[Consumer, HistogramCell] = WeakKeyDictionary()

    def delivery_age_of(self, consumer: Consumer, instruments: Instruments) -> HistogramCell:
        """The consumer's own cell: its thread alone records."""
        cell = self._delivery_ages.get(consumer)
        if cell is None:
            cell = self._delivery_ages[consumer] = instruments.delivery_age.cell(self.attributes, owner=consumer)
        return cell

    def watches(self) -> list[PartitionWatch]:
        """Those in use."""
        return [each.watch for each in self.watched]

    def fold(self) -> None:
        """Keep what was counted by watches that are no longer used, but not them."""
        left = []
        for each in self.watched:
            self.last_ms = max(self.last_ms, each.watch.last_ms)
            self.newest_origin_ms = max(self.newest_origin_ms, each.watch.freshness.newest_origin_ms)
            if each.in_use(self.key.destination):
                left.append(each)
                continue
            for label, count in self._counts_of(each.watch):
                self.gone[label] = self.gone.get(label, 0) + count
            for producer, number in each.watch.order.numbers().items():
                if len(self.newest_gone) < 10_000:  # noqa: PLR2004 - producers come and go: bounded
                    self.newest_gone[each.partition, producer] = number
        self.watched = left

    def counts(self) -> dict[Label, int]:
        """All sums, those of the past included."""
        total = dict.fromkeys(self._born_at_zero, 0)
        for label, count in self.gone.items():
            total[label] = total.get(label, 0) + count
        for watch in self.watches():
            for label, count in self._counts_of(watch):
                total[label] = total.get(label, 0) + count
        return total

    def numbers(self) -> dict[tuple[int, int], int]:
        """The newest number of each (partition, producer): what was given beyond it has not come."""
        newest = dict(self.newest_gone)
        for each in self.watched:
            for producer, number in each.watch.order.numbers().items():
                newest[each.partition, producer] = number
        return newest

    def at_risk(self) -> int:
        """Offsets that are committed and still in hand: lost when the process dies now."""
        return sum(sum(list(watch.in_flight.values())) for watch in self.watches())

    def processed_offsets(self) -> dict[int, int]:
        """The newest processed offset of each partition that is watched."""
        offsets: dict[int, int] = {}
        for each in self.watched:
            if each.watch.processed_offset >= 0:
                offsets[each.partition] = max(each.watch.processed_offset, offsets.get(each.partition, -1))
        return offsets

    def _counts_of(self, watch: PartitionWatch) -> Iterator[tuple[Label, int]]:
        order = watch.order
        yield ("messages", ""), watch.messages
        yield ("open", ""), order.open
        yield ("by_destination", ""), order.by_destination
        yield ("unnumbered", ""), order.unnumbered
        yield ("violation", "reordered"), order.reordered
        yield ("violation", "duplicate"), order.duplicate
        yield ("violation", "redelivered"), order.redelivered
        yield ("violation", "rewound"), order.rewound
        yield ("violation", "event_time_regression"), watch.regressions
        yield ("violation", "concurrent_key"), 0 if watch.keys is None else watch.keys.concurrent
        yield ("cause", "before_broker"), order.missing_before_broker
        yield ("cause", "skipped"), order.missing_skipped
        yield ("cause", "expired"), order.missing_expired
        yield ("cause", "offset_reset"), order.missing_offset_reset
        yield ("commit_ahead", ""), watch.ahead
        yield ("header", "ok"), watch.readable - order.relayed
        yield ("header", "relayed"), order.relayed
        yield ("header", "missing"), watch.without_header
        yield ("header", "unreadable"), watch.unreadable
        yield ("negative_ages", ""), watch.freshness.negative_ages
        yield ("unlabelled", ""), watch.environments.unlabelled
        for origin, count in list(watch.environments.visitors.items()):
            yield ("foreign", origin), count


_BORN_AT_ZERO: tuple[Label, ...] = (
    *(("violation", name) for name in VIOLATIONS),
    *(("cause", name) for name in CAUSES),
    *(("header", name) for name in HEADER_STATES),
    ("commit_ahead", ""),
    ("negative_ages", ""),
    ("messages", ""),
    ("open", ""),
    ("by_destination", ""),
    ("unnumbered", ""),
    ("unlabelled", ""),
)
