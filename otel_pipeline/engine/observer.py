"""What the engine tells those who watch the data: each message once, in its consumer's thread, and each fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import SpanContext

    from otel_pipeline.engine.messages import Message
    from otel_pipeline.engine.pipeline_header import Fields

Resumed: TypeAlias = Literal["earliest", "latest"]
"""The message that a client goes on with when its position is no longer in the log: the oldest, or the next to come."""


class PartitionObserver(Protocol):
    """Watches one partition at one consumer. Times in ms since the epoch."""

    flow: Any
    """What the detectors know of the destination and group."""
    rejects: bool
    """Whether messages may have to be rejected by raising: asked for each one."""

    @property
    def doubts(self) -> bool:
        """Whether senders' clocks are known to be wrong, or they hold messages back: what began so is doubted."""
        ...

    def one(
        self, message: Message, offset: int, timestamp_ms: int, header: Any, fields: Fields | None, now_ms: int
    ) -> int:
        """Take a message that is handed to the application; returns its oldest origin, ms, 0 when unknown.

        Below 0 it is the latest that it can be: of a message without our header the data is as old at least. With
        `origin.DOUBTED` added, its clock is known to be wrong.
        The data-flow header is given as it came (`header`) and as it was read (`fields`).
        """
        ...

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """Take a batch that is handed over, with the data-flow header of each message or None; returns the origins."""
        ...

    def origin_ms(self, header: Any, origin_ms: int) -> int:
        """Return an origin that was read elsewhere as `one` would: below 0 where it is no more than a bound."""
        ...

    def began(self, offset: int, message: Message) -> None:
        """Note that the application begins to process a message by itself, outside the consumer's loop."""

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """Note that the application has processed a message. From any thread."""

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """Note that the application asks for more, so it has processed a batch that ended with this offset."""

    def event_ms(self, offset: int | None) -> int:
        """Return when the event of a message in hand happened, ms since the epoch; 0 is unknown."""
        ...

    def exemplify(
        self, span: SpanContext, origin_ms: int, now_ns: int, timestamp_ms: int = 0, delivered_ms: int = 0
    ) -> None:
        """Keep a message's recorded span as an example of its ages, of the delivery's where times are given."""

    def sought(self, offset: int | None = None) -> None:
        """Note that the application chose another position: this offset, where it named one."""

    def assigned(self) -> None:
        """Note that the group has given the partition to this consumer anew."""

    def committed(self, offset: int, in_hand: int | None) -> None:
        """Note that the group's position was set to `offset`, by code that handles the message at `in_hand`, if any."""

    def rejection(self, header: Any) -> Exception | None:
        """Return what to raise before this message is processed; None where the configuration does not ask for it."""


class FetchObserver(Protocol):
    """Learns what brokers say of the end of one partition's log. From any thread; times are monotonic, in s."""

    def fetched(
        self, sent_s: float, arrived_s: float, position: int, end: int | None, written: int = -1, start: int = -1
    ) -> None:
        """Note that a fetch from `position` was answered.

        `end` is where what may be read ends: the offset of the next message to come; None when it is unchanged, and
        then `written`, where the log itself ends, is, too. `start` is its first offset. Below 0 they are not known.
        """

    def markers(self, offsets: Sequence[int]) -> None:
        """Note, before their messages are handed out, offsets that the answer had and that are no messages."""

    def of_log(self, log: object) -> None:
        """Note which log is read, before its fetch: equal for as long as it is the same one, as the id of its topic is.

        None where that is not known.
        """

    def skipped(self, count: int) -> None:
        """Note that the client itself began behind so many messages of a partition that is younger than it."""

    def out_of_range(self, offset: int, resumed: Resumed) -> None:
        """Note that the position is no longer in the log, and the client goes on with another message."""


Observe: TypeAlias = "Callable[..., PartitionObserver | None]"
"""(consumer, partition state) -> the observer of the partition there; both as `clients.py` has them."""
ObserveFetches: TypeAlias = "Callable[..., FetchObserver]"
"""(consumer, destination, partition) -> the observer of its fetches."""
CheckSent: TypeAlias = "Callable[[str], Callable[[object, int, object], None] | None]"
