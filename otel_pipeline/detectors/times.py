"""Measures more times of a partition's messages, on request: age of the event, wait for processing, order by time."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.detectors import event_time
from otel_pipeline.detectors.freshness import AGED, IMPOSSIBLE_AGES, TOLERANCE_MS
from otel_pipeline.detectors.measures import Detector
from otel_pipeline.detectors.order import VIOLATIONS
from otel_pipeline.engine.measures import FLOW, Measure
from otel_pipeline.engine.origin import MAX_AGE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.detectors.objectives import ObjectiveCounts
    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.totals import HistogramCell, ThreadCells

AHEAD_MS = 60_000
"""Clocks are not that wrong; a time further ahead of now would make all that follow late until then."""
MAX_PENDING = 10_000

EVENT_AGE = Measure(
    "otel_pipeline.event.age", "histogram", "s", "From the event to the end of processing, on request.", AGED
)
PROCESS_WAIT = Measure(
    "otel_pipeline.process.wait", "histogram", "s", "From delivery to the beginning of processing, on request.", AGED
)
LATENESS = Measure(
    "otel_pipeline.order.lateness",
    "histogram",
    "s",
    "How far behind the newest time a message's time is, for destinations declared `ordered`.",
    FLOW,
)
EVENT_TIME_REGRESSION = VIOLATIONS.label("event_time_regression")


class Wanted(NamedTuple):
    """What is asked for at one destination."""

    event_ms: Callable[[Message], int] | None
    """When a message's event happened, ms since the epoch; 0 is unknown."""
    age: ThreadCells[HistogramCell] | None
    by_event: tuple[ObjectiveCounts, ...]
    """The objectives that look at the event age."""
    wait: ThreadCells[HistogramCell] | None
    lateness: ThreadCells[HistogramCell] | None
    work_ns: Callable[[], int]


def _watch(at: WatchedPartition) -> PartitionTimes | None:
    """Make what is asked for: an objective by the event's age asks, a model's reads what its destination measures."""
    said, options = at.settings.event_time, at.destination_settings
    by_event = tuple(each for each in at.objectives if each.objective.age == "event")
    aged = said is not None or options.event_age or bool(by_event)
    if not (aged or options.ordered or options.process_wait):
        return None
    header = options.event_age or options.ordered or bool(by_event)
    wanted = Wanted(
        event_time.reader(at.fields, said, at.guard, header=header) if aged or options.ordered else None,
        at.cells(EVENT_AGE) if aged else None,
        by_event,
        at.cells(PROCESS_WAIT) if options.process_wait else None,
        at.cells(LATENESS) if options.ordered else None,
        at.work_ns,
    )
    return PartitionTimes(at.fields, wanted)


DETECTOR = Detector(
    "times",
    watch=_watch,
    counts={
        EVENT_TIME_REGRESSION: attrgetter("regressions"),
        IMPOSSIBLE_AGES.label("event"): attrgetter("impossible"),
    },
    recorded=(EVENT_AGE, PROCESS_WAIT, LATENESS),
)


class PartitionTimes:
    """Remembers when each message in hand was delivered, and its event's time."""

    __slots__ = (
        "_highest",
        "_keeps",
        "_newest_event_ms",
        "_newest_sent_ms",
        "_offset",
        "_pending",
        "_timestamp_ms",
        "_wanted",
        "impossible",
        "regressions",
    )

    def __init__(self, fields: MessageFields, wanted: Wanted) -> None:
        self._offset, self._timestamp_ms = fields.offset, fields.timestamp_ms
        self._wanted = wanted
        self._keeps = wanted.age is not None or wanted.wait is not None
        self._pending: dict[int, tuple[int, int]] = {}
        """By offset: when it was delivered, ns of the work clock or 0, and when its event happened, or 0."""
        self._highest = -1
        self._newest_event_ms = 0
        self._newest_sent_ms = 0
        self.impossible = 0
        """Messages whose event is more than ten years ago."""
        self.regressions = 0
        """Messages whose time is below the newest one."""

    def delivered(self, messages: Sequence[Message], now_ms: int) -> None:
        """Take in messages that were handed to the application."""
        event_ms_of, lateness = self._wanted.event_ms, self._wanted.lateness
        delivered_ns, earliest_ms = self._wanted.work_ns(), max(0, now_ms - MAX_AGE_MS - 1)
        for message in messages:
            offset = self._offset(message)
            event_ms = 0 if event_ms_of is None else event_ms_of(message)
            if self._keeps:
                self._keep(offset, delivered_ns, event_ms)
            # What came before was judged then: redelivered, or read again after a seek.
            if lateness is None or offset <= self._highest:
                continue
            self._highest = offset
            if event_ms > earliest_ms:
                self._newest_event_ms = self._newer(event_ms, self._newest_event_ms, now_ms, lateness)
            elif isinstance(timestamp_ms := self._timestamp_ms(message), int) and timestamp_ms > earliest_ms:
                # Apart: an event is always older than the moment that it was sent.
                self._newest_sent_ms = self._newer(timestamp_ms, self._newest_sent_ms, now_ms, lateness)

    def began(self, offset: int, message: Message) -> None:
        """Record how long a message has waited for its processing, which begins now; it counts once."""
        wanted, held = self._wanted, self._pending.get(offset)
        if held is None:
            # Handed out by a consumer that is not known, or processed for the second time.
            if wanted.age is not None and wanted.event_ms is not None:
                self._keep(offset, 0, wanted.event_ms(message))
        elif held[0] and wanted.wait is not None:
            wanted.wait.cell.record((wanted.work_ns() - held[0]) / 1e9)
            self._pending[offset] = 0, held[1]

    def processed(self, offset: int, now_ms: int) -> None:
        """Record the event's age of a message that has been processed."""
        held = self._pending.pop(offset, None)
        wanted = self._wanted
        if wanted.age is None:
            return
        age_ms: int | None = None
        if held is not None and held[1] > 0:
            age_ms = now_ms - held[1]
            if -TOLERANCE_MS <= age_ms <= MAX_AGE_MS:
                age_ms = max(age_ms, 0)
                wanted.age.cell.record(age_ms / 1000)
            else:
                self.impossible += age_ms > MAX_AGE_MS
                age_ms = None  # A clock is wrong, or the event is still to come.
        for objective in wanted.by_event:
            objective.count(age_ms)

    def processed_to(self, offset: int, now_ms: int) -> None:
        """Record the event's age of each message of a processed batch that ended with this offset."""
        for held in list(self._pending):
            if held <= offset:
                self.processed(held, now_ms)

    def event_ms(self, offset: int) -> int:
        """Return when the event of a message in hand happened, ms since the epoch; 0 is unknown."""
        held = self._pending.get(offset)
        return 0 if held is None else held[1]

    def _newer(self, time_ms: int, newest_ms: int, now_ms: int, lateness: ThreadCells[HistogramCell]) -> int:
        """Judge a message's time against the newest so far; returns the newest from now on."""
        if time_ms >= newest_ms:
            return time_ms if time_ms <= now_ms + AHEAD_MS else newest_ms
        self.regressions += 1
        lateness.cell.record((newest_ms - time_ms) / 1000)
        return newest_ms

    def _keep(self, offset: int, delivered_ns: int, event_ms: int) -> None:
        pending = self._pending
        if len(pending) >= MAX_PENDING:
            # Nobody says of these that they are processed. Many at once: to find the oldest costs a copy.
            for oldest in list(pending)[: MAX_PENDING // 10]:
                pending.pop(oldest, None)
        pending[offset] = delivered_ns, event_ms
