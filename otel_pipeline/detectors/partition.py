"""All detectors over one partition at one consumer: what the engine tells goes to each of them."""

from __future__ import annotations

from binascii import a2b_base64
from struct import Struct
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import SpanContext

    from otel_pipeline.contracts.watch import ContractWatch
    from otel_pipeline.detectors.environments import PartitionEnvironments
    from otel_pipeline.detectors.freshness import PartitionFreshness
    from otel_pipeline.detectors.keys_in_hand import KeysInHand
    from otel_pipeline.detectors.order import PartitionOrder
    from otel_pipeline.detectors.watched_flow import WatchedFlow
    from otel_pipeline.engine.messages import Message, MessageFields

MAX_IN_FLIGHT = 10_000
_PER_PARTITION = pipeline_header.PER_PARTITION
_VERSION = pipeline_header.VERSION
_STANDARD = pipeline_header.STANDARD
# Of the header: version, flags, hops and environment as one number, origin (u16, u32), producer, number, tag.
_FIELDS = Struct(">IHI10xIIH").unpack
_ALL_BUT_HOPS = 0xFFFF_00FF


def _nothing(_value: Any, _size_bytes: int) -> None:
    """Where there is no contract."""


class PartitionWatch:
    """An observer of the engine's (`PartitionObserver`). Its counts only grow; other threads read them.

    Args:
        contract: looks at the shape of values, sometimes.
        keys: of the messages in hand, where that is asked for.
        flow: what the partition belongs to.
    """

    __slots__ = (
        "_body_bytes",
        "_contract",
        "_data_age",
        "_delivery_age",
        "_examine",
        "_offset",
        "_own_code",
        "_plain_data",
        "_plain_delivery",
        "_sampler",
        "_timestamp_ms",
        "_usual",
        "_value",
        "ahead",
        "environments",
        "flow",
        "freshness",
        "in_flight",
        "keys",
        "last_ms",
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
        contract: ContractWatch | None = None,
        keys: KeysInHand | None = None,
        flow: WatchedFlow | None = None,
    ) -> None:
        self.keys = keys
        self.flow = flow
        self._timestamp_ms, self._offset = fields.timestamp_ms, fields.offset
        self._value, self._body_bytes = fields.value, fields.body_bytes
        self._contract = contract
        self._sampler = None if contract is None else contract.sampler
        self._examine = _nothing if contract is None else contract.examine
        self._own_code = own = environments.own_code
        self._usual = -1 if own < 0 else (_VERSION << 24) | (_PER_PARTITION << 16) | own
        """How the headers of this environment's producers begin, but for the hops."""
        self._delivery_age, self._data_age = freshness.delivery_age, freshness.data_age
        self._plain_delivery, self._plain_data = not freshness.by_delivery, not freshness.by_data
        self.order = order
        self.freshness = freshness
        self.environments = environments
        self.rejects = environments.raises
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
        # Every message of every consumer comes through here: what can be read in place is not called.
        self.last_ms = now_ms
        try:
            head, high, low, producer, number, tag = _FIELDS(a2b_base64(header.translate(_STANDARD)))
        except Exception:
            head = -1
        if head & _ALL_BUT_HOPS == self._usual:
            self.readable += 1
            order = self.order
            window = order.latest
            if (
                number == window.newest + 1
                and offset == order.highest + 1
                and producer == window.producer
                and tag == order.tag
                and window.gaps is None
            ):
                order.highest = window.offset = offset
                window.newest = number
                window.skipped = order.skipped
            else:
                order.one(offset, producer, number, tag)
            origin_ms: int = high << 32 | low
        else:
            origin_ms = self._unusual(offset, timestamp_ms, header)
        if type(timestamp_ms) is int:
            age_s = (now_ms - timestamp_ms) / 1000
            cell = self._delivery_age
            if cell.above < age_s <= cell.up_to and cell.min <= age_s <= cell.max and self._plain_delivery:
                cell.bucket_counts[cell.at] += 1
                cell.sum += age_s
            else:
                self.freshness.delivered(timestamp_ms, now_ms)
        sampler = self._sampler
        if sampler is not None:
            size_bytes = self._body_bytes(message)
            sampler.left = left = sampler.left - 1
            if left <= 0 or not sampler.low <= size_bytes <= sampler.high:
                self._examine(self._value(message), size_bytes)
        return origin_ms

    def _unusual(self, offset: int, timestamp_ms: int, header: Any) -> int:
        """A message whose header is missing, or not as most are; returns its origin."""
        fields = None if header is None else pipeline_header.fields(header)
        if fields is None:
            if header is None:
                self.without_header += 1
            else:
                self.unreadable += 1
            self.order.without_header(offset)
            return timestamp_ms if type(timestamp_ms) is int and timestamp_ms > 0 else 0
        self.readable += 1
        if fields[3] != self._own_code:
            self.environments.other(fields[3], header)
        if fields[1] & _PER_PARTITION:
            self.order.one(offset, fields[9], fields[10], fields[11])
        else:
            self.order.one_of_destination(offset, fields[9], fields[10], fields[11])
        return fields[4] << 32 | fields[5]

    @property
    def messages(self) -> int:
        """All that reached the application."""
        return self.readable + self.unreadable + self.without_header

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """A batch is handed over; returns the oldest origin of each message."""
        block = pipeline_header.HeaderBlock.read(headers)
        if block is None:
            return [
                self.one(message, self._offset(message), self._timestamp_ms(message), header, now_ms)
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
        self.freshness.delivered_many(list(map(self._timestamp_ms, messages)), now_ms)
        if self._contract is not None:
            self._contract.check_many(messages, self._value, self._body_bytes)
        return block.origins_ms()

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
        for offset, flag, (producer, number, tag) in zip(
            map(self._offset, messages), flags, block.numbers(), strict=True
        ):
            if flag & _PER_PARTITION:
                order.one(offset, producer, number, tag)
            else:
                order.one_of_destination(offset, producer, number, tag)

    def began(self, offset: int, message: Message) -> None:
        """The application begins to process a message on its own."""
        if len(self.in_flight) < MAX_IN_FLIGHT:
            self.in_flight[offset] = False
        if self.keys is not None:
            self.keys.began(offset, message)

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """The application has processed a message. From any thread."""
        if self.in_flight:
            self.in_flight.pop(offset, None)
            if self.keys is not None:
                self.keys.ended(offset)
        if offset > self.processed_offset:  # noqa: PLR1730 - calling max() costs twice as much
            self.processed_offset = offset
        freshness = self.freshness
        age_s = (now_ms - origin_ms) / 1000
        cell = self._data_age.cell
        if cell.above < age_s <= cell.up_to and cell.min <= age_s <= cell.max and self._plain_data and origin_ms > 0:
            cell.bucket_counts[cell.at] += 1
            cell.sum += age_s
            if origin_ms > freshness.newest_origin_ms:  # noqa: PLR1730 - as above
                freshness.newest_origin_ms = origin_ms
        else:
            freshness.processed(origin_ms, now_ms)

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """The application has processed a batch that ended with this offset."""
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
