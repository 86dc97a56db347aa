"""Runs all detectors over one partition at one consumer: what the engine tells goes to each of them."""

from __future__ import annotations

from collections import deque
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_pipeline import semconv
from otel_pipeline.detectors.measures import Detector
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.measures import FLOW, Attribute, Measure
from otel_pipeline.engine.origin import DOUBTED, DOUBTED_HERE, MAX_AGE_MS
from otel_pipeline.engine.pipeline_header import fields as fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import SpanContext

    from otel_pipeline.detectors.environments import PartitionEnvironments
    from otel_pipeline.detectors.freshness import PartitionFreshness
    from otel_pipeline.detectors.partition_order import PartitionOrder
    from otel_pipeline.detectors.watched_partition import ValueWatch
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.pipeline_header import Fields

MAX_IN_FLIGHT = 10_000
_SOUGHT = 64
_AGAIN = 3
_BEGUN = 0.9
"""Share of the offsets, up to the highest one begun, that shows that those above it wait for their turn."""
_PER_PARTITION, _DOUBTED = pipeline_header.PER_PARTITION, pipeline_header.DOUBTED
_VERSION = pipeline_header.VERSION
_NO_FIELDS = (-1, 0, 0, 0, 0, 0, 0, 0, 0)
_ALL_BUT_HOPS = 0xFFFF_00FF

COVERAGE = Measure(
    "otel_pipeline.header.coverage",
    "counter",
    "{message}",
    "Messages by what their data-flow header was like.",
    (
        semconv.MESSAGING_DESTINATION_NAME,
        Attribute("otel_pipeline.header_state", "What a message's data-flow header was like."),
    ),
)
HEADER_OK = COVERAGE.label("ok")
HEADER_MISSING = COVERAGE.label("missing")
HEADER_UNREADABLE = COVERAGE.label("unreadable")
HEADER_RELAYED = COVERAGE.label("relayed")
COMMIT_AHEAD = Measure(
    "otel_pipeline.commit.ahead", "counter", "{message}", "Offsets committed before their processing had ended.", FLOW
).label()
MESSAGES = Measure("messages", None, "{message}", "Messages that were delivered to the application.").label()

DETECTOR = Detector(
    "partition",
    counts={
        HEADER_OK: lambda watch: watch.readable - watch.order.relayed,
        HEADER_MISSING: attrgetter("without_header"),
        HEADER_UNREADABLE: attrgetter("unreadable"),
        HEADER_RELAYED: attrgetter("order.relayed"),
        COMMIT_AHEAD: attrgetter("ahead"),
        MESSAGES: attrgetter("messages"),
    },
)
"""Its part is the watch itself."""


Parts: TypeAlias = "Sequence[tuple[Place, Any]]"
"""The parts of detectors that are told of what comes, each with the place where its failures are counted."""


def told(parts: Parts, method: str) -> tuple[tuple[Place, Callable[..., Any]], ...]:
    """Return the methods of the parts that are to be told of something."""
    return tuple((place, getattr(part, method)) for place, part in parts if hasattr(part, method))


def _each(read: Callable[[Message], int], messages: Sequence[Message]) -> list[int]:
    return [*map(read, messages)]


class PartitionWatch:
    """The engine's observer of one partition (`PartitionObserver`). Its counts only grow; other threads read them.

    Order, freshness and environments are asked in place, because every message comes through here.

    Args:
        begins_here: whether data begins with a message that has no header of ours.
        values: looks at the shape of values, sometimes.
        parts: those of further detectors.
        flow: the one that the partition belongs to.
    """

    __slots__ = (
        "_began",
        "_bodies_bytes",
        "_body_bytes",
        "_data_age",
        "_delivery_age",
        "_ended",
        "_examine",
        "_looked",
        "_looks",
        "_offset",
        "_own_code",
        "_plain_data",
        "_plain_delivery",
        "_sampler",
        "_timestamp_ms",
        "_timestamps_ms",
        "_usual",
        "_value",
        "_values",
        "ahead",
        "begins_here",
        "begun",
        "committed_offset",
        "environments",
        "first_begun",
        "flow",
        "freshness",
        "highest_begun",
        "in_flight",
        "last_ms",
        "last_sent_ms",
        "order",
        "processed_offset",
        "readable",
        "rejects",
        "sought_to",
        "unreadable",
        "without_header",
    )

    def __init__(
        self,
        fields: MessageFields,
        *,
        order: PartitionOrder,
        freshness: PartitionFreshness,
        environments: PartitionEnvironments,
        values: ValueWatch | None = None,
        begins_here: bool = True,
        parts: Parts = (),
        flow: Any = None,
    ) -> None:
        self.flow = flow
        self._began, self._ended, self._looks = told(parts, "began"), told(parts, "ended"), told(parts, "look")
        self._timestamp_ms, self._offset = fields.timestamp_ms, fields.offset
        self._value = fields.value if values is None else values.reader(fields)
        self._body_bytes = fields.body_bytes
        self._timestamps_ms = fields.timestamps_ms or partial(_each, fields.timestamp_ms)
        self._bodies_bytes = fields.bodies_bytes or partial(_each, fields.body_bytes)
        self._values = values
        self._looked = self._look if self._looks else None
        self._sampler = None if values is None else values.sampler
        self._examine: Any = None if values is None else values.examine
        self._own_code = own = environments.own_code
        self._usual = -1 if own < 0 else (_VERSION << 24) | (_PER_PARTITION << 16) | own
        """How the headers of this environment's producers begin, hops aside."""
        self._delivery_age, self._data_age = freshness.delivery_age, freshness.data_age
        self._plain_delivery, self._plain_data = not freshness.by_delivery, not freshness.by_data
        self.order = order
        self.freshness = freshness
        self.environments = environments
        self.rejects = environments.raises
        self.begins_here = begins_here
        """Whether data begins with a message that has no header of ours."""
        self.readable = 0
        self.unreadable = 0
        self.without_header = 0
        self.last_ms = 0
        """When the last message came, ms since the epoch."""
        self.last_sent_ms: Any = 0
        """Its own time, where it has one."""
        self.processed_offset = -1
        self.in_flight: dict[int, bool] = {}
        """Offsets that `process()` has in hand; True once a commit went past the offset."""
        self.ahead = 0
        """Offsets that were committed before their processing had ended."""
        self.committed_offset = -1
        """The group's newest position, as far as the application has set it; -1 where it has not."""
        self.begun = 0
        """Messages that `process()` has had in hand."""
        self.first_begun = -1
        self.highest_begun = -1
        self.sought_to: deque[int | None] = deque(maxlen=_SOUGHT)
        """Where the application has set the position to, since somebody last took this away."""

    def one(
        self, message: Message, offset: int, timestamp_ms: int, header: Any, fields: Fields | None, now_ms: int
    ) -> int:
        """Judge a message that is handed to the application; returns its oldest origin, ms, 0 when unknown."""
        # Every message of every consumer comes through here: what can be read in place is not called.
        self.last_ms, self.last_sent_ms = now_ms, timestamp_ms
        head, high, low, _, _, _, producer, number, tag = fields or _NO_FIELDS
        if head & _ALL_BUT_HOPS == self._usual:
            self.readable += 1
            order = self.order
            window = order.latest
            follows = number == window.newest + 1 and offset == order.highest + 1 and producer == window.producer
            if follows and tag == order.tag and window.gaps is None:
                order.highest = window.offset = offset
                window.newest, window.skipped = number, order.skipped
            else:
                order.one(offset, producer, number, tag)
            origin_ms: int = high << 32 | low
        else:
            origin_ms = self._unusual(offset, timestamp_ms, header, fields, now_ms)
        if type(timestamp_ms) is int and timestamp_ms > 0:
            age_s = (now_ms - timestamp_ms) / 1000
            cell = self._delivery_age
            if cell.above < age_s <= cell.up_to and cell.min <= age_s <= cell.max and self._plain_delivery:
                cell.bucket_counts[cell.at] += 1
                cell.sum += age_s
            else:
                self.freshness.delivered(timestamp_ms, now_ms, offset, origin_ms)
        else:
            self.freshness.delivered(0, now_ms, offset)
        sampler = self._sampler
        if sampler is not None:
            size_bytes = self._body_bytes(message)
            sampler.left = left = sampler.left - 1
            if left <= 0 or not sampler.low <= size_bytes <= sampler.high:
                self._examine(self._value(message), size_bytes, self._looked, producer)
        return origin_ms

    def _unusual(self, offset: int, timestamp_ms: int, header: Any, fields: Fields | None, now_ms: int) -> int:
        """Judge a message whose header is missing, or not like most; returns its origin."""
        if fields is None:
            if header is None:
                self.without_header += 1
            else:
                self.unreadable += 1
            self.order.without_header(offset)
            if type(timestamp_ms) is not int or timestamp_ms <= 0 or abs(now_ms - timestamp_ms) > MAX_AGE_MS:
                return 0
            # Its data is as old at least; nobody can tell whether it began here, unless somebody says so.
            return self.origin_ms(None, timestamp_ms)
        self.readable += 1
        head, high, low, _, _, _, producer, number, tag = fields
        code, flags = head & 0xFF, head >> 16 & 0xFF
        if code != self._own_code:
            self.environments.other(code, header)
        if flags & _PER_PARTITION:
            self.order.one(offset, producer, number, tag)
        else:
            self.order.one_of_destination(offset, producer, number, tag)
        origin_ms: int = high << 32 | low
        if flags & _DOUBTED:
            self.freshness.doubted += 1
            origin_ms |= DOUBTED_HERE if head >> 8 & 0xFF <= 1 else DOUBTED
        return origin_ms

    @property
    def doubts(self) -> bool:
        """Do as `PartitionObserver` says."""
        return self.freshness.delay is not None

    @property
    def messages(self) -> int:
        """All that reached the application."""
        return self.readable + self.unreadable + self.without_header

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """Judge a batch that is handed over; returns the oldest origin of each message."""
        block = pipeline_header.HeaderBlock.read(headers)
        if block is None or any(flags & _DOUBTED for flags in set(block.flags)):
            return [
                self.one(message, self._offset(message), self._timestamp_ms(message), header, fields_of(header), now_ms)
                for message, header in zip(messages, headers, strict=True)
            ]
        count = len(messages)
        self.readable += count
        self.last_ms = now_ms
        self._order_of_batch(messages, block)
        codes, own = block.environments, self._own_code
        if own < 0 or codes.count(own) != count:
            for code, header in zip(codes, headers, strict=True):
                if code != own:
                    self.environments.other(code, header)
        times_ms, origins_ms = self._timestamps_ms(messages), block.origins_ms()
        self.last_sent_ms = times_ms[-1]
        self.freshness.delivered_many(times_ms, now_ms, self._offset(messages[-1]), origins_ms)
        if self._values is not None:
            self._values.check_many(messages, self._value, self._bodies_bytes(messages), self._looked, headers)
        return origins_ms

    def _order_of_batch(self, messages: Sequence[Message], block: pipeline_header.HeaderBlock) -> None:
        order, flags = self.order, block.flags
        if all(each & _PER_PARTITION for each in set(flags)):
            same, number = block.one_producer(), block.consecutive()
            first, last = self._offset(messages[0]), self._offset(messages[-1])
            # Offsets in a batch only grow: none is left out where the last one is as far away as there are messages.
            if (
                same is not None
                and number is not None
                and last - first == len(messages) - 1
                and order.batch(first, last, same[0], number, same[1])
            ):
                return
        offsets = map(self._offset, messages)
        for offset, flag, (producer, number, tag) in zip(offsets, flags, block.numbers(), strict=True):
            if flag & _PER_PARTITION:
                order.one(offset, producer, number, tag)
            else:
                order.one_of_destination(offset, producer, number, tag)

    def origin_ms(self, header: Any, origin_ms: int) -> int:
        """Do as `PartitionObserver` says."""
        return origin_ms if header is not None or self.begins_here else -origin_ms

    def began(self, offset: int, message: Message) -> None:
        """Note that the application begins to process a message by itself."""
        if len(self.in_flight) < MAX_IN_FLIGHT:
            self.in_flight[offset] = False
            self.begun += 1
            self.highest_begun = max(self.highest_begun, offset)
            if self.first_begun < 0:
                self.first_begun = offset
        if self._began:
            for place, began in self._began:
                if not place.off:
                    try:
                        began(offset, message)
                    except Exception:
                        place.failed()

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """Note that the application has processed a message. From any thread."""
        if self.in_flight:
            self.in_flight.pop(offset, None)
            if self._ended:
                for place, ended in self._ended:
                    if not place.off:
                        try:
                            ended(offset)
                        except Exception:
                            place.failed()
        if offset > self.processed_offset:  # noqa: PLR1730 - calling max() costs twice as much
            self.processed_offset = offset
        freshness, cell = self.freshness, self._data_age.cell
        age_s = (now_ms - origin_ms) / 1000
        if cell.above < age_s <= cell.up_to and cell.min <= age_s <= cell.max and self._plain_data and origin_ms > 0:
            cell.bucket_counts[cell.at] += 1
            cell.sum += age_s
            if origin_ms > freshness.newest_origin_ms:  # noqa: PLR1730 - as above
                freshness.newest_origin_ms = origin_ms
        else:
            freshness.processed(origin_ms, now_ms, offset)

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """Note that the application has processed a batch that ended with this offset."""
        self.processed_offset = max(self.processed_offset, offset)
        self.freshness.processed_many(origins_ms, now_ms, offset)

    def event_ms(self, offset: int | None) -> int:  # noqa: ARG002 - known where it is asked for
        """Return when the event of a message in hand happened, ms since the epoch; 0 is unknown."""
        return 0

    def exemplify(
        self, span: SpanContext, origin_ms: int, now_ns: int, timestamp_ms: int = 0, delivered_ms: int = 0
    ) -> None:
        """Do as `PartitionObserver` says."""
        self.freshness.exemplify(span, origin_ms, now_ns, timestamp_ms, delivered_ms)

    def sought(self, offset: int | None = None) -> None:
        """Do as `PartitionObserver` says."""
        self.sought_to.append(offset)
        self._begin_anew()
        again = list(self.sought_to)[-_AGAIN:]
        # The third time in a row to one offset is no replay: something fails there.
        if (offset is None or offset <= self.processed_offset) and again != [offset] * _AGAIN:
            self.freshness.replay_until = max(self.freshness.replay_until, self.processed_offset + 1)
        self.order.sought()

    def assigned(self) -> None:
        """Do as `PartitionObserver` says."""
        self._begin_anew()
        self.order.assigned()

    def _begin_anew(self) -> None:
        """Forget which offsets were begun: what others have processed meanwhile is not missing among them."""
        self.begun, self.first_begun, self.highest_begun = len(self.in_flight), -1, -1

    @property
    def ended(self) -> int:
        """Messages that `process()` had in hand and has no more."""
        return self.begun - len(self.in_flight)

    @property
    def at_risk(self) -> int:
        """Messages that are committed and not processed: in hand, or where all are begun in turn, not begun yet."""
        not_begun = self.committed_offset - 1 - self.highest_begun if self.begins_all else 0
        return sum(list(self.in_flight.values())) + max(0, not_begun)

    def replaying(self, position: int | None) -> int:
        """Return how many messages are still to be read again before something new comes.

        Args:
            position: of the consumer. Without it only a first start is seen: what came highest does not fall by a seek.
        """
        if position is None:
            position = self.order.highest + 1
        return max(0, self.freshness.replay_until - position) if position > 0 or self.order.highest >= 0 else 0

    @property
    def begins_all(self) -> bool:
        """Whether `process()` has been given nearly all messages up to the highest one that it was given."""
        return self.begun > 0 and self.begun >= _BEGUN * (self.highest_begun - self.first_begun + 1)

    def committed(self, offset: int, in_hand: int | None) -> None:
        """Count what others still process below the group's new position, `offset`: a crash would lose it.

        The message that the committing code itself has in hand is its own affair: it has done its work.
        """
        self.committed_offset = max(self.committed_offset, offset)
        for held, told in list(self.in_flight.items()):
            if held < offset and not told and held != in_hand:
                self.in_flight[held] = True
                self.ahead += 1

    def rejection(self, header: Any) -> Exception | None:
        """Return what to raise before a message is processed."""
        return self.environments.rejection(header)

    def _look(self, value: Any) -> None:
        for place, look in self._looks:
            if not place.off:
                try:
                    look(value)
                except Exception:
                    place.failed()
