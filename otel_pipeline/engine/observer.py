"""What the engine tells those who watch the data: each message once, in its consumer's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.engine.messages import Message
    from otel_pipeline.engine.receive import Consumer, PartitionState


class PartitionObserver(Protocol):
    """Watches one partition at one consumer. Times in ms since the epoch."""

    flow: Any
    """What the detectors know of the destination and group."""
    rejects: bool
    """Whether messages may have to be rejected by raising: asked for each one."""

    def one(self, message: Message, offset: int, timestamp_ms: int, header: Any, now_ms: int) -> int:
        """A message is handed to the application; returns its oldest origin, ms, 0 when unknown."""
        ...

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """A pull is handed over, with the data-flow header of each message or None; returns the origins."""
        ...

    def began(self, offset: int) -> None:
        """The application begins to process a message on its own, outside of the consumer's loop."""

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """The application has processed a message. From any thread."""

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """The application asks for more, so it has processed a pull that ended with this offset."""

    def rejection(self, header: Any) -> Exception | None:
        """What to raise before this message is processed; None where the configuration does not ask for it."""


Observe: TypeAlias = "Callable[[Consumer, PartitionState], PartitionObserver | None]"
