"""The pace of one flow: all partitions of a destination that this process reads for a group.

Looked at once a second for rates and for what stands still. What is read in between, by an exporter for example, is
computed from positions and fetches then, so that ages grow while a handler sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline import semconv
from otel_pipeline.detectors.consumer_pace import UNKNOWN_AFTER_S, ConsumerLooks, ConsumerPace
from otel_pipeline.detectors.measures import BOUND, Detector, where_known
from otel_pipeline.detectors.pace import drain_time_s
from otel_pipeline.detectors.part_now import Live
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.engine.measures import FLOW, Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.detectors.pace import PartitionPace
    from otel_pipeline.engine.clients import Consumer, Position
    from otel_pipeline.engine.totals import Attributes


@dataclass(slots=True)
class Pace:
    """Whether the consumers of one flow in this process keep up; `lag` and ages are of all of them together."""

    consumers: tuple[ConsumerPace, ...] = ()
    assigned: int = 0
    lag: int | None = None
    """Messages behind, over all partitions; None where that cannot be known now."""
    caught_up_age_s: float | None = None
    time_lag_s: tuple[float, float] | None = None
    utilization: float | None = None
    in_rate: float | None = None
    """Messages written per second."""
    out_rate: float | None = None
    """Messages read per second."""
    drain_time_s: float | None = None
    unstable: int | None = None
    """Messages that open transactions hold back; None before the first fetch."""
    grown: int = 0
    """Messages that were written since the newest one came, and are not read."""


def _gauge(name: str, unit: str, brief: str, *own: Attribute) -> Measure:
    return Measure(name, "gauge", unit, brief, (*FLOW, semconv.KAFKA_CLUSTER_ID, *own))


LAG = _gauge("otel_pipeline.consumer.lag", "{message}", "Messages behind.")
CAUGHT_UP_AGE = _gauge(
    "otel_pipeline.consumer.caught_up_age",
    "s",
    "How long ago this consumer was provably caught up; needs no broker call.",
)
TIME_LAG = _gauge(
    "otel_pipeline.consumer.time_lag", "s", "Age of the next message, as an interval that contains it.", BOUND
)
DRAIN_TIME = _gauge(
    "otel_pipeline.consumer.drain_time",
    "s",
    "Time until the backlog is worked off at this pace; absent when it is not draining.",
)
UTILIZATION = _gauge("otel_pipeline.consumer.utilization", "1", "Share of time not spent waiting for messages.")
UNSTABLE = _gauge(
    "otel_pipeline.consumer.unstable",
    "{message}",
    "Written and not to be read yet: held back by open transactions.",
)
IN_RATE = _gauge(
    "otel_pipeline.consumer.in_rate", "{message}/s", "Messages appended to the partitions that this consumer reads."
)
OUT_RATE = _gauge("otel_pipeline.consumer.out_rate", "{message}/s", "Messages that this consumer processes.")


def _time_lag(now: Any) -> Iterator[tuple[Attributes, float]]:
    for bound, value in zip(BOUND.values, now.pace.time_lag_s or (), strict=False):
        if isfinite(value):
            yield TIME_LAG.label(bound).attributes, value


DETECTOR = Detector(
    "pace",
    flow_gauges={
        LAG: where_known(attrgetter("pace.lag")),
        CAUGHT_UP_AGE: where_known(attrgetter("pace.caught_up_age_s")),
        TIME_LAG: _time_lag,
        DRAIN_TIME: where_known(attrgetter("pace.drain_time_s")),
        UTILIZATION: where_known(attrgetter("pace.utilization")),
        UNSTABLE: where_known(attrgetter("pace.unstable")),
        IN_RATE: where_known(attrgetter("pace.in_rate")),
        OUT_RATE: where_known(attrgetter("pace.out_rate")),
    },
)


_CLEAR_AT = 64


class _Paced(NamedTuple):
    consumer: ref[Consumer]
    partition: int
    pace: PartitionPace


class FlowPace:
    """Partitions are added by clients' threads; read by any.

    Args:
        destination: whose messages are meant.
        lost_after_s: how long a gap may stay open before its messages count as missing, s.
    """

    def __init__(self, destination: str, *, lost_after_s: float) -> None:
        self._destination = destination
        self._lost_after_s = lost_after_s
        self._paced: list[_Paced] = []
        self._clear_at = _CLEAR_AT
        self._looks: WeakKeyDictionary[Consumer, ConsumerLooks] = WeakKeyDictionary()
        self.moves = 0
        """Grows with each look at which something was written, read, or waited."""
        self._last_ms = 0
        self._ends_then = 0

    def add(self, consumer: Consumer, partition: int, pace: PartitionPace) -> None:
        """Follow one more partition; the caller holds the lock of the flows."""
        self._paced.append(_Paced(ref(consumer), partition, pace))
        if len(self._paced) >= self._clear_at:
            # Whenever as many have come as there were: each time would be quadratic where thousands are assigned.
            self._paced = [each for each in self._paced if self._in_use(each)]
            self._clear_at = max(_CLEAR_AT, 2 * len(self._paced))

    def _in_use(self, paced: _Paced) -> bool:
        consumer = paced.consumer()
        return consumer is not None and consumer.fetches.get((self._destination, paced.partition)) is paced.pace

    def live(self) -> dict[Consumer, list[Live]]:
        """Return the consumers that are not closed, each with the partitions that it has been assigned now."""
        found: dict[Consumer, list[Live]] = {}
        positions: dict[Consumer, dict[tuple[str, int], Position]] = {}
        for consumer_ref, partition, pace in self._paced:
            consumer = consumer_ref()
            key = (self._destination, partition)
            if consumer is None or consumer.fetches.get(key) is not pace:
                continue
            if consumer not in positions:
                positions[consumer], found[consumer] = dict(consumer.positions()), []
            position = positions[consumer].get(key)
            if position is not None:
                state = consumer.partitions.get(key)
                watch = None if state is None else state.observer
                found[consumer].append(
                    Live(partition, pace, position, watch if isinstance(watch, PartitionWatch) else None)
                )
        return found

    def look(self, now_s: float, now_ns: int, last_ms: int = 0) -> None:
        """Follow all consumers to now; to be called once a second.

        Args:
            now_s: monotonic, s.
            now_ns: by the clock of the engine's durations.
            last_ms: when the last message came, ms since the epoch.
        """
        ends = 0
        living = self.live()
        self._leave_unassigned(living.values(), now_s)
        for consumer, live in living.items():
            written = read = 0
            for each in live:
                end = each.pace.end or 0
                ends += end
                if each.position.offset is not None:
                    moved = each.pace.look(each.position.offset, now_s, self._lost_after_s)
                    self.moves += bool(moved.written or moved.read or end > each.position.offset)
                    written += moved.written
                    read += max(0, moved.read)
            self._looks_of(consumer, now_s).look(consumer, live, now_s, now_ns, written, read)
        if last_ms != self._last_ms or ends < self._ends_then:
            self._last_ms, self._ends_then = last_ms, ends

    def _leave_unassigned(self, living: Iterable[list[Live]], now_s: float) -> None:
        """Leave the gaps of partitions that others read: no fetch here will tell whether their messages come."""
        assigned = {id(each.pace) for live in living for each in live}
        for each in self._paced:
            order = each.pace.order
            if order is None or not order.gapped or id(each.pace) in assigned:
                each.pace.away_since_s = None
            elif each.pace.away_since_s is None:
                each.pace.away_since_s = now_s
            elif now_s - each.pace.away_since_s >= self._lost_after_s:
                order.leave()

    def _looks_of(self, consumer: Consumer, now_s: float) -> ConsumerLooks:
        looks = self._looks.get(consumer)
        if looks is None:
            looks = self._looks[consumer] = ConsumerLooks(consumer, self._destination, now_s)
        return looks

    def read(self, now_s: float, now_ns: int) -> Pace:
        """Return what is known now."""
        found = Pace()
        every: list[Live] = []
        consumers = []
        for consumer, live in self.live().items():
            consumers.append(self._looks_of(consumer, now_s).read(consumer, live, now_s, now_ns))
            every += live
        found.consumers = tuple(consumers)
        found.assigned = len(every)
        known = [each for each in every if each.pace.end is not None and each.position.offset is not None]
        if not known:
            return found
        assigned = [each for each in consumers if each.assigned]
        found.caught_up_age_s = max(
            each.pace.caught_up_age(each.position.offset, now_s) for each in known if each.position.offset is not None
        )
        lags = [each.time_lag_s for each in assigned if each.time_lag_s is not None]
        found.time_lag_s = max(lags, key=lambda interval: interval[::-1], default=None)
        waiting = sum(each.waiting for each in assigned)
        looked_s = max(now_s - (each.pace.answered_s or now_s) for each in known)
        found.lag = waiting if looked_s <= UNKNOWN_AFTER_S else None
        found.grown = min(sum(each.pace.end or 0 for each in known) - self._ends_then, waiting)
        found.unstable = sum(each.pace.unstable for each in known)
        rates = [looks.rates for looks in list(self._looks.values())]
        found.in_rate, found.out_rate = (
            _sum(each.incoming for each in rates),
            _sum(each.outgoing for each in rates),
        )
        worked = [each.utilization for each in assigned if each.utilization is not None]
        found.utilization = sum(worked) / len(worked) if worked else None
        if found.lag is not None:
            found.drain_time_s = drain_time_s(found.lag, found.in_rate, found.out_rate)
        return found


def _sum(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None
