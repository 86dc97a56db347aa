"""The pace of one flow: all partitions that this process reads of a destination for a group.

Looked at once a second for rates and for what stands still. What is read between, by an exporter for example, is
computed from positions and fetches then, so that ages grow while a handler sleeps.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline.detectors.pace import Rates
from otel_pipeline.verdict.evidence import Pace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.detectors.pace import PartitionPace
    from otel_pipeline.engine.clients import Consumer

STATES = ("ok", "lagging", "stalled", "stopped", "rewound", "unknown")
_GROWING_S = 60
_REWOUND_S = 60.0


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
        """One more partition; the caller holds the lock of the flows."""
        left = [each for each in self._paced if self._in_use(each)]
        self._paced = [*left, _Paced(ref(consumer), partition, pace)]

    def _in_use(self, paced: _Paced) -> bool:
        consumer = paced.consumer()
        return consumer is not None and consumer.fetches.get((self._destination, paced.partition)) is paced.pace

    def live(self) -> Iterator[_Live]:
        """The partitions that are assigned now, with their positions."""
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
        """To be called once a second: `now_s` monotonic, `now_ns` by the clock of the engine's durations."""
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
        """What is known now."""
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
    """Whether the lag has only grown for a minute: each quarter of it lies above the one before."""
    if len(lags) < _GROWING_S:
        return False
    values = list(lags)
    quarter = len(values) // 4
    means = [sum(values[at : at + quarter]) / quarter for at in range(0, 4 * quarter, quarter)]
    return all(later > earlier for earlier, later in pairwise(means))
