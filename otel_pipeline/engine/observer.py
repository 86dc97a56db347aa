"""What the engine tells those who watch the data: each message once, in its consumer's thread, and each fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import SpanContext

    from otel_pipeline.engine.messages import Message
    from otel_pipeline.engine.pipeline_header import Fields

Resumed: TypeAlias = Literal["earliest", "latest"]
"""With which message a client goes on whose position is no longer in the log: the oldest, or the next to come."""


class PartitionObserver(Protocol):
    """Watches one partition at one consumer. Times in ms since the epoch."""

    flow: Any
    """What the detectors know of the destination and group."""
    rejects: bool
    """Whether messages may have to be rejected by raising: asked for each one."""

    def one(
        self, message: Message, offset: int, timestamp_ms: int, header: Any, fields: Fields | None, now_ms: int
    ) -> int:
        """A message is handed to the application; returns its oldest origin, ms, 0 when unknown.

        The data-flow header comes as it is, and as what it says.
        """
        ...

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """A batch is handed over, with the data-flow header of each message or None; returns the origins."""
        ...

    def began(self, offset: int, message: Message) -> None:
        """The application begins to process a message on its own, outside of the consumer's loop."""

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """The application has processed a message. From any thread."""

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """The application asks for more, so it has processed a batch that ended with this offset."""

    def event_ms(self, offset: int | None) -> int:
        """When the event of a message in hand happened, ms since the epoch; 0 is unknown."""
        ...

    def exemplify(
        self, span: SpanContext, origin_ms: int, now_ns: int, timestamp_ms: int = 0, delivered_ms: int = 0
    ) -> None:
        """A message was processed and its span is recorded: an example of its ages, of the delivery's where told."""

    def sought(self) -> None:
        """The application chose another position."""

    def assigned(self) -> None:
        """The group has given the partition to this consumer anew."""

    def committed(self, offset: int, in_hand: int | None) -> None:
        """The group's position was set to `offset`, by code that has the message at `in_hand` before it, if any."""

    def rejection(self, header: Any) -> Exception | None:
        """What to raise before this message is processed; None where the configuration does not ask for it."""


class FetchObserver(Protocol):
    """Is told what brokers say of the end of one partition's log. From any thread; times are monotonic, in s."""

    def fetched(self, sent_s: float, arrived_s: float, position: int, end: int | None) -> None:
        """A fetch from `position` was answered.

        `end` is where what may be read ends: the offset of the next message to come; None when it is unchanged.
        """

    def out_of_range(self, offset: int, resumed: Resumed) -> None:
        """The position is no longer in the log, and the client goes on with another message."""


Observe: TypeAlias = "Callable[..., PartitionObserver | None]"
"""(consumer, partition state) -> who watches the partition there; both as `clients.py` has them."""
ObserveFetches: TypeAlias = "Callable[..., FetchObserver]"
"""(consumer, destination, partition) -> who is told of its fetches."""
CheckSent: TypeAlias = "Callable[[str], Callable[[object, int], None] | None]"
