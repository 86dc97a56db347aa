"""A partition's watch where more times are wanted: of the event, of the wait for processing, of order by time.

Which of them is decided when the partition is set up (`Wanted`); where it is none, the plain watch does its work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline import semconv
from otel_pipeline.detectors import event_time
from otel_pipeline.detectors.freshness import TOLERANCE_MS
from otel_pipeline.detectors.partition import MAX_IN_FLIGHT, PartitionWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.detectors.freshness import ObjectiveCounts
    from otel_pipeline.detectors.instruments import Instruments
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.detectors.watched_flow import WatchedFlow
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.pipeline_header import Fields
    from otel_pipeline.engine.totals import HistogramCell, ThreadCells

AHEAD_MS = 60_000
"""Clocks are not that wrong: a time further ahead of now would make all that follow late, for as long."""


class Wanted(NamedTuple):
    """What is measured beside what always is."""

    event_ms: Callable[[Message], int] | None
    """When a message's event happened, ms since the epoch; 0 is unknown."""
    age: ThreadCells[HistogramCell] | None
    by_event: tuple[ObjectiveCounts, ...]
    """The objectives that look at the event age."""
    wait: ThreadCells[HistogramCell] | None
    lateness: ThreadCells[HistogramCell] | None
    work_ns: Callable[[], int]


def wanted(
    consumer: Consumer,
    flow: WatchedFlow,
    instruments: Instruments,
    settings: HealthSettings,
    work_ns: Callable[[], int],
) -> Wanted | None:
    """What the configuration asks for at this consumer's destination; None for nothing.

    An objective by the event's age is a request for it. A model's objective reads what its destination measures.
    """
    said, options = settings.event_time, flow.settings
    by_event = tuple(each for each in flow.objectives if each.objective.age == "event")
    aged = said is not None or options.event_age or bool(by_event)
    if not (aged or options.ordered or options.process_wait):
        return None
    header = options.event_age or options.ordered or bool(by_event)
    guard = consumer.engine.guard
    without_system = {name: value for name, value in flow.attributes.items() if name != semconv.MESSAGING_SYSTEM_NAME}
    return Wanted(
        event_time.reader(consumer.fields, said, guard, header=header) if aged or options.ordered else None,
        instruments.event_age.local(flow.attributes) if aged else None,
        by_event,
        instruments.process_wait.local(flow.attributes) if options.process_wait else None,
        instruments.lateness.local(without_system) if options.ordered else None,
        work_ns,
    )


class TimedWatch(PartitionWatch):
    """The same observer, which also keeps when each message that is in hand was delivered, and its event's time."""

    __slots__ = ("_highest", "_in_batch", "_keeps", "_newest_event_ms", "_newest_sent_ms", "_pending", "_wanted")

    def __init__(self, fields: MessageFields, wanted: Wanted, **others: Any) -> None:
        super().__init__(fields, **others)
        self._wanted = wanted
        self._keeps = wanted.age is not None or wanted.wait is not None
        self._pending: dict[int, tuple[int, int]] = {}
        """By offset: when it was delivered, ns of the work clock or 0, and when its event happened, or 0."""
        self._in_batch = False
        self._highest = -1
        self._newest_event_ms = 0
        self._newest_sent_ms = 0

    def one(
        self, message: Message, offset: int, timestamp_ms: int, header: Any, fields: Fields | None, now_ms: int
    ) -> int:
        """As the plain watch."""
        origin_ms = super().one(message, offset, timestamp_ms, header, fields, now_ms)
        if not self._in_batch:
            self._time(message, offset, timestamp_ms, now_ms, self._wanted.work_ns())
        return origin_ms

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """As the plain watch, which goes through `one` where something is remarkable."""
        delivered_ns = self._wanted.work_ns()
        self._in_batch = True
        try:
            origins_ms = super().batch(messages, headers, now_ms)
        finally:
            self._in_batch = False
        for message in messages:
            self._time(message, self._offset(message), self._timestamp_ms(message), now_ms, delivered_ns)
        return origins_ms

    def began(self, offset: int, message: Message) -> None:
        """As the plain watch; how long the message has waited for it counts once."""
        super().began(offset, message)
        wanted, held = self._wanted, self._pending.get(offset)
        if held is None:
            # Handed out by a consumer that is not known, or processed for the second time.
            if wanted.age is not None and wanted.event_ms is not None:
                self._keep(offset, 0, wanted.event_ms(message))
        elif held[0] and wanted.wait is not None:
            wanted.wait.cell.record((wanted.work_ns() - held[0]) / 1e9)
            self._pending[offset] = 0, held[1]

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """As the plain watch."""
        super().processed(offset, origin_ms, now_ms)
        self._done(offset, now_ms)

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """As the plain watch."""
        super().processed_batch(offset, origins_ms, now_ms)
        for held in list(self._pending):
            if held <= offset:
                self._done(held, now_ms)

    def event_ms(self, offset: int | None) -> int:
        """As the plain watch."""
        held = None if offset is None else self._pending.get(offset)
        return 0 if held is None else held[1]

    def _time(self, message: Message, offset: int, timestamp_ms: int, now_ms: int, delivered_ns: int) -> None:
        wanted = self._wanted
        event_ms = 0 if wanted.event_ms is None else wanted.event_ms(message)
        if self._keeps:
            self._keep(offset, delivered_ns, event_ms)
        # What came before was judged then: redelivered, or read again after a seek.
        if wanted.lateness is not None and offset > self._highest:
            self._highest = offset
            if event_ms > 0:
                self._newest_event_ms = self._newer(event_ms, self._newest_event_ms, now_ms, wanted.lateness)
            elif isinstance(timestamp_ms, int) and timestamp_ms > 0:
                # Apart: an event is always older than the moment that it was sent.
                self._newest_sent_ms = self._newer(timestamp_ms, self._newest_sent_ms, now_ms, wanted.lateness)

    def _newer(self, time_ms: int, newest_ms: int, now_ms: int, lateness: ThreadCells[HistogramCell]) -> int:
        """Judge a message's time against the newest of before; returns the newest from now on."""
        if time_ms >= newest_ms:
            return time_ms if time_ms <= now_ms + AHEAD_MS else newest_ms
        self.regressions += 1
        lateness.cell.record((newest_ms - time_ms) / 1000)
        return newest_ms

    def _keep(self, offset: int, delivered_ns: int, event_ms: int) -> None:
        pending = self._pending
        if len(pending) >= MAX_IN_FLIGHT:
            # Nobody says of these that they are processed. Many at once: to find the oldest costs a copy.
            for oldest in list(pending)[: MAX_IN_FLIGHT // 10]:
                pending.pop(oldest, None)
        pending[offset] = delivered_ns, event_ms

    def _done(self, offset: int, now_ms: int) -> None:
        held = self._pending.pop(offset, None)
        wanted = self._wanted
        if wanted.age is None:
            return
        age_ms: int | None = None
        if held is not None and held[1] > 0:
            age_ms = now_ms - held[1]
            if age_ms >= -TOLERANCE_MS:
                age_ms = max(age_ms, 0)
                wanted.age.cell.record(age_ms / 1000)
            else:
                age_ms = None  # A clock is wrong, or the event is still to come.
        for objective in wanted.by_event:
            objective.count(age_ms)
