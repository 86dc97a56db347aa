"""Measures how old messages are when they arrive and when they have been processed.

Ages are signed until they are counted: a clock that runs ahead shows as negative ages, which are counted by themselves
and never clamped away (docs/design/ages.md, "Negative ages").
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.detectors import objectives
from otel_pipeline.detectors.measures import Detector, where_known
from otel_pipeline.detectors.sender_delay import SenderDelays
from otel_pipeline.detectors.wall_clock import WallClock
from otel_pipeline.engine.measures import FLOW, Attribute, Measure
from otel_pipeline.engine.origin import DAY_MS, DOUBTED_HERE, MAX_AGE_MS, is_doubted, without_doubt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import SpanContext

    from otel_pipeline.detectors.objectives import ObjectiveCounts
    from otel_pipeline.detectors.sender_delay import Delay
    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.totals import HistogramCell, ThreadCells

TOLERANCE_MS = 5
"""Readings of one machine's clock can differ by this much: an age between minus this and 0 is 0."""

AGED = (semconv.MESSAGING_SYSTEM_NAME, *FLOW)
"""The attributes that the ages of messages carry."""
DELIVERY_AGE = Measure(
    "otel_pipeline.delivery.age",
    "histogram",
    "s",
    "From sending to delivery to the application: freshness of one hop.",
    AGED,
)
DATA_AGE = Measure(
    "otel_pipeline.data.age",
    "histogram",
    "s",
    "From the oldest origin to the end of processing: freshness end to end, over any number of hops and environments.",
    AGED,
)
STALENESS = Measure(
    "otel_pipeline.data.staleness",
    "gauge",
    "s",
    "Time since the newest origin that was processed; grows when nothing flows.",
    FLOW,
)
IMPOSSIBLE_AGES = Measure(
    "otel_pipeline.clock.impossible_ages",
    "counter",
    "{message}",
    "Messages with an age of more than ten years, which is unknown: a time is in another unit, or a clock is wrong.",
    (semconv.MESSAGING_DESTINATION_NAME, Attribute("otel_pipeline.age", "Which age of a message.")),
)
NEGATIVE_AGES = Measure(
    "otel_pipeline.clock.negative_ages",
    "counter",
    "{message}",
    "Messages that came before they were sent: a clock is wrong.",
    (semconv.MESSAGING_DESTINATION_NAME,),
).label()

DOUBTED_ORIGINS = Measure(
    "doubted origins",
    None,
    "{message}",
    "Messages whose header says that the clock is wrong by which their data began.",
).label()


def _watch(at: WatchedPartition) -> PartitionFreshness:
    return PartitionFreshness(
        at.cell(DELIVERY_AGE),
        at.cells(DATA_AGE),
        tuple(each for each in at.objectives if each.objective.age == "delivery"),
        tuple(each for each in at.objectives if each.objective.age == "data"),
        at.clock,
    )


DETECTOR = Detector(
    "freshness",
    watch=_watch,
    counts={
        NEGATIVE_AGES: attrgetter("negative_ages"),
        DOUBTED_ORIGINS: attrgetter("doubted"),
        IMPOSSIBLE_AGES.label("delivery"): attrgetter("impossible_delivery"),
        IMPOSSIBLE_AGES.label("data"): attrgetter("impossible_data"),
    },
    flow_gauges={STALENESS: where_known(attrgetter("staleness_s"))},
    recorded=(DELIVERY_AGE, DATA_AGE, *objectives.MEASURES),
)


class PartitionFreshness:
    """The ages of one partition's messages at one consumer.

    Args:
        delivery_age: the cell of this consumer alone.
        data_age: one cell per thread, because processing ends in any thread.
        by_delivery: the objectives that look at the delivery age.
        by_data: those that look at the data age.
        clock: says whether this machine's clock can be believed.
    """

    __slots__ = (
        "_clock",
        "by_data",
        "by_delivery",
        "data_age",
        "delay",
        "delays",
        "delivery_age",
        "doubted",
        "impossible_data",
        "impossible_delivery",
        "looked_at",
        "negative_ages",
        "newest_origin_ms",
        "replay_until",
        "settled",
    )

    def __init__(
        self,
        delivery_age: HistogramCell,
        data_age: ThreadCells[HistogramCell],
        by_delivery: tuple[ObjectiveCounts, ...] = (),
        by_data: tuple[ObjectiveCounts, ...] = (),
        clock: WallClock | None = None,
    ) -> None:
        self._clock = clock or WallClock()
        self.delivery_age = delivery_age
        self.data_age = data_age
        self.by_delivery = by_delivery
        self.by_data = by_data
        self.negative_ages = 0
        """Messages that came before they were sent: their clock, or this one, is wrong."""
        self.impossible_delivery = self.impossible_data = 0
        """Messages that are, or whose data is, more than ten years old by their times."""
        self.doubted = 0
        """Messages whose data began by a clock that is known to be wrong."""
        self.newest_origin_ms = 0
        """Newest origin of what has been processed, ms since the epoch."""
        self.replay_until = -1
        """Messages at offsets below it are read again, or are from before the consumer first began."""
        self.settled = True
        """Whether what senders add was looked for: until then nobody knows whose fault a high age is."""
        self.looked_at = -1
        """The newest offset at the last look."""
        self.delays = SenderDelays()
        self.delay: Delay | None = None
        """By how much its senders' clocks are behind, or they hold messages back, as far as that is proven."""

    def delivered(self, timestamp_ms: int, now_ms: int, offset: int, origin_ms: int = 0) -> None:
        """Record the age of a message that arrived and was sent at `timestamp_ms`; 0 is unknown.

        Where its data began more than a day after that, by its header, that is not when it was sent.
        """
        age_ms: int | None
        doubted, origin_ms = is_doubted(origin_ms) and origin_ms >= DOUBTED_HERE, without_doubt(origin_ms)
        if 0 < timestamp_ms <= now_ms:
            age_ms = now_ms - timestamp_ms
            if age_ms > MAX_AGE_MS:
                age_ms = None
                self.impossible_delivery += 1
            elif _contradicted(timestamp_ms, now_ms, origin_ms):
                age_ms = None
            else:
                self.delivery_age.record(age_ms / 1000)
                if age_ms > DAY_MS:
                    self.delivery_age.forget_bucket()  # The next one is judged as well.
        elif timestamp_ms <= 0:
            age_ms = None
        elif timestamp_ms <= now_ms + TOLERANCE_MS:
            age_ms = 0
            self.delivery_age.record(0.0)
        else:
            age_ms = None
            self.negative_ages += 1
        if self.by_delivery:
            self._count(self.by_delivery, None if doubted else age_ms, offset)

    def _count(
        self, objectives: Sequence[ObjectiveCounts], age_ms: int | None, offset: int, *, at_least: bool = False
    ) -> None:
        """Count one case for each objective."""
        delay_ms = 0.0 if self.delay is None else self.delay.seconds * 1000
        for objective in objectives:
            if offset < self.replay_until:
                objective.count_replayed()
            elif (
                age_ms is None
                or self._clock.off
                or (age_ms > objective.threshold_ms and (not self.settled or self._clock.is_off()))
            ):
                objective.count(None)
            elif at_least or delay_ms:
                objective.count_at_least(age_ms - delay_ms)
            else:
                objective.count(age_ms)

    def delivered_many(self, timestamps_ms: Sequence[int], now_ms: int, offset: int, origins_ms: Sequence[int]) -> None:
        """Do the same for a batch, whose messages may have no time, and which ended with this offset."""
        try:
            if not self.by_delivery and _record_many(self.delivery_age, timestamps_ms, now_ms, DAY_MS):
                return
        except TypeError:
            pass
        for timestamp_ms, origin_ms in zip(timestamps_ms, origins_ms, strict=True):
            self.delivered(timestamp_ms if type(timestamp_ms) is int else 0, now_ms, offset, origin_ms)

    def processed(self, origin_ms: int, now_ms: int, offset: int) -> None:
        """Take in that a message has been processed whose oldest origin is this, as the engine tells it.

        0 is unknown, below 0 a bound; `origin.DOUBTED` is added where its clock is known to be wrong.
        """
        age_ms: int | None = None
        doubted, known_ms = is_doubted(origin_ms), abs(without_doubt(origin_ms))
        if 0 < known_ms <= now_ms + TOLERANCE_MS:
            age_ms = max(now_ms - known_ms, 0)
            if age_ms > MAX_AGE_MS:
                age_ms = None
                self.impossible_data += 1
            else:
                self.data_age.cell.record(age_ms / 1000)
                self.newest_origin_ms = max(self.newest_origin_ms, known_ms)
        if self.by_data:
            self._count(self.by_data, None if doubted else age_ms, offset, at_least=origin_ms < 0)

    def exemplify(self, span: SpanContext, origin_ms: int, now_ns: int, timestamp_ms: int, delivered_ms: int) -> None:
        """Keep a recorded span that shows how a message's ages came about, for those ages that were counted."""
        known_ms = abs(without_doubt(origin_ms))
        if (
            isinstance(timestamp_ms, int)
            and 0 < timestamp_ms <= delivered_ms <= timestamp_ms + MAX_AGE_MS
            and not _contradicted(timestamp_ms, delivered_ms, known_ms)
        ):
            self.delivery_age.exemplify((delivered_ms - timestamp_ms) / 1000, now_ns, span)
        age_ms = now_ns // 1_000_000 - known_ms
        if known_ms > 0 and 0 <= age_ms <= MAX_AGE_MS:
            self.data_age.cell.exemplify(age_ms / 1000, now_ns, span)

    def processed_many(self, origins_ms: Sequence[int], now_ms: int, offset: int) -> None:
        """Do the same for a batch that ended with this offset."""
        if not self.by_data and _record_many(self.data_age.cell, origins_ms, now_ms, MAX_AGE_MS):
            newest_ms = max(origins_ms)
            self.newest_origin_ms = max(self.newest_origin_ms, newest_ms)
            return
        for origin_ms in origins_ms:
            self.processed(origin_ms, now_ms, offset)


def _contradicted(timestamp_ms: int, now_ms: int, origin_ms: int) -> bool:
    """Tell whether the header says that the data of a message began more than a day after its own time."""
    return origin_ms - timestamp_ms > DAY_MS and abs(now_ms - origin_ms) <= MAX_AGE_MS


def _record_many(cell: HistogramCell, times_ms: Sequence[int], now_ms: int, most_ms: int) -> bool:
    """Record the ages of a batch at once, where all are known, of one bucket, and at most `most_ms`; else False."""
    oldest_ms, newest_ms, count = min(times_ms), max(times_ms), len(times_ms)
    if oldest_ms <= 0 or newest_ms > now_ms or now_ms - oldest_ms > most_ms:
        return False
    total_s = (count * now_ms - sum(times_ms)) / 1000
    return cell.record_alike(count, total_s, (now_ms - newest_ms) / 1000, (now_ms - oldest_ms) / 1000)
