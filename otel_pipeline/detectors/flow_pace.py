"""The pace of one flow: all partitions of a destination that this process reads for a group.

Looked at once a second for rates and for what stands still. What is read in between, by an exporter for example, is
computed from positions and fetches then, so that ages grow while a handler sleeps.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline import semconv
from otel_pipeline.detectors.measures import BOUND, FLOW, Detector, where_known
from otel_pipeline.detectors.pace import Rates
from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.detectors.pace import PartitionPace
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.totals import Attributes

STATES = ("ok", "lagging", "stalled", "stopped", "rewound", "unknown")
_GROWING_S = 60
_REWOUND_S = 60.0


@dataclass(slots=True)
class Pace:
    """Whether the consumer keeps up. `lag` and ages are those of the partition that is furthest behind."""

    assigned: int = 0
    lag: int | None = None
    """Messages behind, over all partitions; None without a fetch."""
    caught_up_age_s: float | None = None
    time_lag_s: tuple[float, float] | None = None
    utilization: float | None = None
    in_rate: float | None = None
    """Messages written per second."""
    out_rate: float | None = None
    """Messages read per second."""
    growing: bool = False
    """Whether the lag has been growing for a minute."""
    rewound: bool = False
    """Whether a position has moved back within the last minute."""
    drain_time_s: float | None = None
    status: str = STATES[-1]
    position_still_s: float | None = None
    """How long the position has not moved while there was lag; None without lag."""
    unpolled_s: float | None = None
    """Since the application last called poll or asked for a message; None before the first."""
    processing_median_s: float | None = None


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
STATUS = _gauge(
    "otel_pipeline.consumer.status",
    "{state}",
    "1 for the state that the consumer is in.",
    Attribute("otel_pipeline.state", "Which state a consumer is in.", STATES),
)
IN_RATE = _gauge(
    "otel_pipeline.consumer.in_rate", "{message}/s", "Messages appended to the partitions that this consumer reads."
)
OUT_RATE = _gauge("otel_pipeline.consumer.out_rate", "{message}/s", "Messages that this consumer processes.")


def _time_lag(now: Any) -> Iterator[tuple[Attributes, float]]:
    for bound, value in zip(BOUND.values, now.pace.time_lag_s or (), strict=False):
        if isfinite(value):
            yield TIME_LAG.label(bound).attributes, value


def _status(now: Any) -> Iterator[tuple[Attributes, float]]:
    pace = now.pace
    for state in STATES if pace.assigned else ():
        yield STATUS.label(state).attributes, float(pace.status == state)


DETECTOR = Detector(
    "pace",
    flow_gauges={
        LAG: where_known(attrgetter("pace.lag")),
        CAUGHT_UP_AGE: where_known(attrgetter("pace.caught_up_age_s")),
        TIME_LAG: _time_lag,
        DRAIN_TIME: where_known(attrgetter("pace.drain_time_s")),
        UTILIZATION: where_known(attrgetter("pace.utilization")),
        STATUS: _status,
        IN_RATE: where_known(attrgetter("pace.in_rate")),
        OUT_RATE: where_known(attrgetter("pace.out_rate")),
    },
)


class _Paced(NamedTuple):
    consumer: ref[Consumer]
    partition: int
    pace: PartitionPace


class _Live(NamedTuple):
    """A partition that is assigned now."""

    consumer: Consumer
    partition: int
    pace: PartitionPace
    position: int | None


class FlowPace:
    """Partitions are added by clients' threads; read by any.

    Args:
        stuck_after_s: how long a position may stand still while there is lag, s.
        lost_after_s: how long a gap may stay open before its messages count as missing, s.
    """

    def __init__(self, destination: str, *, stuck_after_s: float, lost_after_s: float) -> None:
        self._destination = destination
        self._stuck_after_s = stuck_after_s
        self._lost_after_s = lost_after_s
        self._paced: list[_Paced] = []
        self._rates = Rates()
        self._waited_ns: WeakKeyDictionary[Consumer, int] = WeakKeyDictionary()
        self._looked_s: float | None = None
        self._rewound_s = -inf
        self._lags: deque[int] = deque(maxlen=_GROWING_S)

    def add(self, consumer: Consumer, partition: int, pace: PartitionPace) -> None:
        """Add one more partition; the caller holds the lock of the flows."""
        left = [each for each in self._paced if self._in_use(each)]
        self._paced = [*left, _Paced(ref(consumer), partition, pace)]

    def _in_use(self, paced: _Paced) -> bool:
        consumer = paced.consumer()
        return consumer is not None and consumer.fetches.get((self._destination, paced.partition)) is paced.pace

    def live(self) -> Iterator[_Live]:
        """Yield the partitions that are assigned now, with their positions."""
        positions: dict[Consumer, dict[tuple[str, int], int | None]] = {}
        for consumer_ref, partition, pace in self._paced:
            consumer = consumer_ref()
            if consumer is None:
                continue
            known = positions.get(consumer)
            if known is None:
                known = positions[consumer] = dict(consumer.positions())
            key = (self._destination, partition)
            if key in known and consumer.fetches.get(key) is pace:
                yield _Live(consumer, partition, pace, known[key])

    def look(self, now_s: float, now_ns: int) -> None:
        """Update rates and standstills once a second: `now_s` monotonic, `now_ns` by the engine's work clock."""
        before_s, self._looked_s = self._looked_s, now_s
        written = read = lag = 0
        consumers = set()
        for consumer, _, pace, position in self.live():
            consumers.add(consumer)
            if position is None:
                continue
            moved = pace.look(position, now_s, self._lost_after_s)
            lag += pace.lag(position) or 0
            written += moved.written
            read += max(0, moved.read)
            if moved.read < 0:
                self._rewound_s = now_s
        waited = [ns for each in consumers if (ns := self._waited_since(each, now_ns)) is not None]
        if not consumers:
            self._lags.clear()
        elif before_s is not None and now_s > before_s:
            self._lags.append(lag)
            elapsed_s = now_s - before_s
            worked = 1 - sum(waited) / 1e9 / (elapsed_s * len(waited)) if waited else None
            self._rates.count(written, read, worked, elapsed_s)

    def _waited_since(self, consumer: Consumer, now_ns: int) -> int | None:
        before = self._waited_ns.get(consumer)
        now = self._waited_ns[consumer] = consumer.polling.waited_until(now_ns)
        return None if before is None else now - before

    def read(self, now_s: float, now_ns: int) -> Pace:
        """Return what is known now."""
        found = Pace()
        lags: list[int] = []
        ages: list[float] = []
        bounds: list[tuple[float, float]] = []
        still: list[float] = []
        unasked: dict[Consumer, float] = {}
        for consumer, _, pace, position in self.live():
            found.assigned += 1
            polling = consumer.polling
            polled_s = 0.0 if polling.began_ns else max(0.0, (now_ns - polling.since_ns) / 1e9)
            # An iterator hands out a whole batch before it polls again: then the position moves.
            unasked[consumer] = min(unasked.get(consumer, polled_s), now_s - pace.still_since_s)
            if position is None or (lag := pace.lag(position)) is None:
                continue
            lags.append(lag)
            ages.append(pace.caught_up_age(position, now_s))
            if (time_lag := pace.time_lag(position, now_s)) is not None:
                bounds.append(time_lag)
            if lag and pace.was_at == position:
                still.append(now_s - pace.still_since_s)
            if (working := polling.working_median_s()) is not None:
                found.processing_median_s = max(working, found.processing_median_s or 0.0)
        found.unpolled_s = max(unasked.values(), default=None)
        if not lags:
            return found
        rates = self._rates
        found.lag = sum(lags)
        found.caught_up_age_s = max(ages)
        found.time_lag_s = max(bounds, key=lambda interval: interval[::-1]) if bounds else None
        found.position_still_s = max(still, default=None)
        found.utilization = rates.utilization
        found.in_rate, found.out_rate = rates.incoming, rates.outgoing
        found.drain_time_s = rates.drain_time_s(found.lag)
        found.growing = _grows(self._lags)
        found.rewound = now_s - self._rewound_s < _REWOUND_S
        found.status = self._status(found)
        return found

    def _status(self, pace: Pace) -> str:
        still_s = max(self._stuck_after_s, 3 * (pace.processing_median_s or 0.0))
        if (pace.unpolled_s or 0.0) > still_s:
            return "stopped"
        if (pace.position_still_s or 0.0) > still_s:
            return "stalled"
        if pace.rewound:
            return "rewound"
        if len(self._lags) >= 10 and min(self._lags) > 0 and pace.drain_time_s is None:  # noqa: PLR2004 - looks
            return "lagging"
        return "ok"


def _grows(lags: deque[int]) -> bool:
    """Tell whether the lag has only grown for a minute: each quarter of it lies above the one before."""
    if len(lags) < _GROWING_S:
        return False
    values = list(lags)
    quarter = len(values) // 4
    means = [sum(values[at : at + quarter]) / quarter for at in range(0, 4 * quarter, quarter)]
    return all(later > earlier for earlier, later in pairwise(means))
