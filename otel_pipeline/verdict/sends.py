"""What became of the messages that this process sends, by cluster and destination."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from otel_pipeline import semconv
from otel_pipeline.detectors.shares import quantile
from otel_pipeline.engine.engine import OTHER
from otel_pipeline.engine.measures import Attribute, Measure, Sums
from otel_pipeline.engine.send import ABORTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.engine.clients import Destination, Producer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.open_sends import OpenBatch
    from otel_pipeline.engine.totals import Attributes

SENT = Measure("sent", None, "{message}", "Messages whose outcome is known.").label()
FAILED = Measure("failed", None, "{message}", "Of these, those that failed.", (Attribute(semconv.ERROR_TYPE),))
LONG_S = 10.0
"""How long answers take is looked up where one takes as long."""
_ABORTED = frozenset(
    {
        ABORTED,
        "kafka.errors.TransactionAbortedError",
        "confluent_kafka.KafkaError._PURGE_QUEUE",
        "confluent_kafka.KafkaError._PURGE_INFLIGHT",
    }
)
"""Error types of what the application itself has taken back: neither sent nor failed."""


class ProducerKey(NamedTuple):
    """Where messages are sent."""

    cluster: str | None
    destination: str

    @property
    def group(self) -> None:
        """None: readers have groups."""
        return


@dataclass(slots=True)
class Sends:
    """What was sent to one destination."""

    counts: Sums = field(default_factory=Sums)
    open: int = 0
    """Messages that nobody has answered yet."""
    oldest_s: float = 0.0
    """For how long at least the oldest of them has been open."""
    linger_s: float = 0.0
    """For how long producers wait for more messages."""
    answered_p95_s: float = 0.0
    """95th percentile of the time to an answer; looked up only where something has been open for long."""
    timeout_s: float | None = None
    """The shortest time after which a producer gives a message up."""
    confirmed: bool = True
    """Whether every producer asks the brokers for an answer."""
    ended: bool = False
    """Whether the process is at its end, and nothing of it will be answered any more."""

    @property
    def errors(self) -> Mapping[str, int]:
        """Failed sends by error type."""
        return {error: count for (error,), count in self.counts.of(FAILED).items()}


class ProducersNow:
    """Looks at what this process sends. Safe in any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen_s: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        """When a batch was first seen. Clients read clocks of their own for it."""
        self._still: dict[str, tuple[int, float]] = {}
        """By destination, of clients whose batches nobody can read: how many outcomes there were, and since when."""

    def look(self, now_s: float) -> dict[ProducerKey, Sends]:
        """Return what was sent since the start, and what is open.

        Args:
            now_s: monotonic; what is open is as old as the first look that saw it.
        """
        found: dict[ProducerKey, Sends] = {}
        for attributes, count in self._engine.sent.points():
            error = attributes.get(semconv.ERROR_TYPE)
            if error in _ABORTED:
                continue
            counts = found.setdefault(_key(attributes), Sends()).counts
            counts[SENT] += int(count)
            if error is not None:
                counts[FAILED.label(str(error))] += int(count)
        place = self._engine.guard.place("producers")
        for read in () if place.off else self._engine.producers:
            try:
                for producer, batches in read():
                    self._add(found, producer, batches, now_s)
            except Exception:
                place.failed()
        self._add_queued(found, now_s)
        for key, sends in found.items():
            if sends.oldest_s >= LONG_S:
                sends.answered_p95_s = self._answered_p95_s(key)
        return found

    def _add(self, found: dict[ProducerKey, Sends], producer: Producer, batches: list[OpenBatch], now_s: float) -> None:
        keys = {name: self._where(producer, name, to) for name, to in list(producer.destinations.items()) if to}
        for key in keys.values():
            if key in found:
                _take_patience(found[key], producer)
        for batch, name, count in batches:
            if name not in keys:
                continue  # Sent while nothing was to be recorded.
            sends = found.get(keys[name])
            if sends is None:
                sends = found[keys[name]] = Sends()
                _take_patience(sends, producer)
            sends.open += count
            sends.oldest_s = max(sends.oldest_s, now_s - self._seen_s.setdefault(batch, now_s))

    def _add_queued(self, found: dict[ProducerKey, Sends], now_s: float) -> None:
        """Add what clients count without telling since when: at least since the last answer to anything."""
        queued: Counter[str] = Counter()
        for tell in self._engine.queued:
            queued.update(tell())
        for name in self._still.keys() - queued.keys():
            del self._still[name]
        for name, count in queued.items():
            named = next((key for key in found if key.destination == name), ProducerKey(None, name))
            sends = found.setdefault(named, Sends())
            known = self._still.get(name)
            if known is None or known[0] != sends.counts[SENT]:
                known = self._still[name] = sends.counts[SENT], now_s
            sends.open += count
            sends.oldest_s = max(sends.oldest_s, now_s - known[1])

    def _where(self, producer: Producer, name: str, to: Destination) -> ProducerKey:
        if to.bound:
            return _key(to.metric_attributes)
        return ProducerKey(producer.cluster_id(), self._engine.metric_destination(name))

    def _answered_p95_s(self, key: ProducerKey) -> float:
        every = self._engine.operation_duration
        cells = [
            every.total(attributes)
            for attributes, _ in every.points()
            if attributes.get(semconv.MESSAGING_OPERATION_TYPE) == "send" and _key(attributes) == key
        ]
        return max((quantile(cell, 0.95) or 0.0 for cell in cells), default=0.0)


def _key(attributes: Attributes) -> ProducerKey:
    cluster = attributes.get(semconv.KAFKA_CLUSTER_ID)
    return ProducerKey(
        None if cluster is None else str(cluster), str(attributes.get(semconv.MESSAGING_DESTINATION_NAME, OTHER))
    )


def _take_patience(sends: Sends, producer: Producer) -> None:
    patience = producer.patience
    sends.linger_s = max(sends.linger_s, patience.linger_s)
    sends.confirmed = sends.confirmed and patience.confirmed
    if patience.timeout_s is not None:
        sends.timeout_s = patience.timeout_s if sends.timeout_s is None else min(sends.timeout_s, patience.timeout_s)
