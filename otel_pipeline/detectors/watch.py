"""All detectors over one partition at one consumer: what the engine tells goes to each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import SpanContext

    from otel_pipeline.detectors.environments import PartitionEnvironments
    from otel_pipeline.detectors.freshness import PartitionFreshness
    from otel_pipeline.detectors.order import PartitionOrder
    from otel_pipeline.detectors.watched_flow import WatchedFlow
    from otel_pipeline.engine.messages import Message, MessageFields

MAX_IN_FLIGHT = 10_000
_PER_PARTITION = pipeline_header.PER_PARTITION


class PartitionWatch:
    """An observer of the engine's (`PartitionObserver`). Its counts only grow; other threads read them.

    Args:
        check: looks at a value's shape, sometimes: (value, size in bytes) -> nothing.
        flow: what the partition belongs to.
    """

    __slots__ = (
        "_body_bytes",
        "_check",
        "_offset",
        "_timestamp_ms",
        "_value",
        "ahead",
        "environments",
        "flow",
        "freshness",
        "in_flight",
        "last_ms",
        "messages",
        "order",
        "processed_offset",
        "readable",
        "regressions",
        "rejects",
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
        check: Callable[[Any, int], None] | None = None,
        flow: WatchedFlow | None = None,
    ) -> None:
        self.flow = flow
        self._timestamp_ms, self._offset = fields.timestamp_ms, fields.offset
        self._value, self._body_bytes = fields.value, fields.body_bytes
        self._check = check
        self.order = order
        self.freshness = freshness
        self.environments = environments
        self.rejects = environments.raises
        self.messages = 0
        self.readable = 0
        self.unreadable = 0
        self.without_header = 0
        self.regressions = 0
        """Messages whose time is below the newest one; counted where the destination is ordered."""
        self.last_ms = 0
        """When the last message came, ms since the epoch."""
        self.processed_offset = -1
        self.in_flight: dict[int, bool] = {}
        """Offsets that `process()` has in hand; true once a commit went past one."""
        self.ahead = 0
        """Offsets that were committed before their processing had ended."""

    def one(self, message: Message, offset: int, timestamp_ms: int, header: Any, now_ms: int) -> int:
        """A message is handed to the application; returns its oldest origin, ms, 0 when unknown."""
        self.messages += 1
        self.last_ms = now_ms
        if not isinstance(timestamp_ms, int):
            timestamp_ms = 0
        if header is None:
            self.without_header += 1
            fields = None
        else:
            fields = pipeline_header.fields(header)
        if fields is not None:
            self.readable += 1
            origin_ms = fields[4] << 32 | fields[5]
            self.order.one(offset, fields[9], fields[10] if fields[1] & _PER_PARTITION else 0, fields[11])
            environments = self.environments
            if fields[3] == environments.own_code:
                environments.same += 1
            else:
                environments.other(fields[3], header)
        else:
            if header is not None:
                self.unreadable += 1
            origin_ms = max(0, timestamp_ms)
            self.order.one(offset, 0, 0, 0)
        self.freshness.delivered(timestamp_ms, now_ms)
        if self._check is not None:
            self._check(self._value(message), self._body_bytes(message))
        return origin_ms

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """A pull is handed over; returns the oldest origin of each message."""
        block = pipeline_header.HeaderBlock.read(headers)
        if block is None or not all(flags & _PER_PARTITION for flags in set(block.flags)):
            return [
                self.one(message, self._offset(message), self._timestamp_ms(message), header, now_ms)
                for message, header in zip(messages, headers, strict=True)
            ]
        count = len(messages)
        self.messages += count
        self.readable += count
        self.last_ms = now_ms
        numbers = block.numbers()
        order = self.order
        if not order.batch(self._offset(messages[0]), self._offset(messages[-1]), numbers):
            for offset, (producer, number, tag) in zip(map(self._offset, messages), numbers, strict=True):
                order.one(offset, producer, number, tag)
        environments = self.environments
        codes = block.environments
        if codes.count(environments.own_code & 0xFF) == count and environments.own_code >= 0:
            environments.same += count
        else:
            for code, header in zip(codes, headers, strict=True):
                if code == environments.own_code:
                    environments.same += 1
                else:
                    environments.other(code, header)
        self.freshness.delivered_many(list(map(self._timestamp_ms, messages)), now_ms)
        if self._check is not None:
            for message in messages:
                self._check(self._value(message), self._body_bytes(message))
        return block.origins_ms()

    def began(self, offset: int, message: Message) -> None:  # noqa: ARG002 - the timed watch reads it
        """The application begins to process a message on its own."""
        if len(self.in_flight) < MAX_IN_FLIGHT:
            self.in_flight[offset] = False

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """The application has processed a message. From any thread."""
        if self.in_flight:
            self.in_flight.pop(offset, None)
        self.processed_offset = max(self.processed_offset, offset)
        self.freshness.processed(origin_ms, now_ms)

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """The application has processed a pull that ended with this offset."""
        self.processed_offset = max(self.processed_offset, offset)
        self.freshness.processed_many(origins_ms, now_ms)

    def event_ms(self, offset: int | None) -> int:  # noqa: ARG002 - the timed watch knows it
        """When the event of a message in hand happened, ms since the epoch; 0 is unknown."""
        return 0

    def exemplify(
        self, span: SpanContext, origin_ms: int, now_ns: int, timestamp_ms: int = 0, delivered_ms: int = 0
    ) -> None:
        """As `PartitionObserver` says."""
        self.freshness.exemplify(span, origin_ms, now_ns, timestamp_ms, delivered_ms)

    def sought(self) -> None:
        """As `PartitionObserver` says."""
        self.order.sought()

    def assigned(self) -> None:
        """As `PartitionObserver` says."""
        self.order.assigned()

    def committed(self, offset: int, in_hand: int | None) -> None:
        """The group's position was set to `offset`: what others still process below it is lost by a crash.

        The message that the committing code itself has in hand is its own affair: it has done its work.
        """
        for held, told in list(self.in_flight.items()):
            if held < offset and not told and held != in_hand:
                self.in_flight[held] = True
                self.ahead += 1

    def rejection(self, header: Any) -> Exception | None:
        """What to raise before a message is processed."""
        return self.environments.rejection(header)
