"""A partition's watch that tells further detectors, those asked for, of every message.

Chosen once for each partition: where nothing more is asked for, the plain watch does its work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.detectors.partition import PartitionWatch, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.detectors.partition import Parts
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.pipeline_header import Fields

_MORE = ("delivered", "processed", "processed_to", "event_ms")


class ExtendedWatch(PartitionWatch):
    """Tells the parts of further detectors as well (`Detector` says of what). What one raises harms no other."""

    __slots__ = ("_delivered", "_event_ms", "_in_batch", "_processed", "_processed_to")

    def __init__(self, fields: MessageFields, *, parts: Parts, **others: Any) -> None:
        super().__init__(fields, parts=parts, **others)
        self._delivered, self._processed = told(parts, "delivered"), told(parts, "processed")
        self._processed_to = told(parts, "processed_to")
        self._event_ms = next((event_ms for _, event_ms in told(parts, "event_ms")), None)
        self._in_batch = False

    def one(
        self, message: Message, offset: int, timestamp_ms: int, header: Any, fields: Fields | None, now_ms: int
    ) -> int:
        """Do as the plain watch."""
        origin_ms = super().one(message, offset, timestamp_ms, header, fields, now_ms)
        if not self._in_batch:
            for place, delivered in self._delivered:
                if not place.off:
                    try:
                        delivered((message,), now_ms)
                    except Exception:
                        place.failed()
        return origin_ms

    def batch(self, messages: Sequence[Message], headers: Sequence[Any], now_ms: int) -> Sequence[int]:
        """Do as the plain watch, which goes through `one` where something is remarkable."""
        self._in_batch = True
        try:
            origins_ms = super().batch(messages, headers, now_ms)
        finally:
            self._in_batch = False
        for place, delivered in self._delivered:
            if not place.off:
                try:
                    delivered(messages, now_ms)
                except Exception:
                    place.failed()
        return origins_ms

    def processed(self, offset: int, origin_ms: int, now_ms: int) -> None:
        """Do as the plain watch."""
        super().processed(offset, origin_ms, now_ms)
        for place, processed in self._processed:
            if not place.off:
                try:
                    processed(offset, now_ms)
                except Exception:
                    place.failed()

    def processed_batch(self, offset: int, origins_ms: Sequence[int], now_ms: int) -> None:
        """Do as the plain watch."""
        super().processed_batch(offset, origins_ms, now_ms)
        for place, processed_to in self._processed_to:
            if not place.off:
                try:
                    processed_to(offset, now_ms)
                except Exception:
                    place.failed()

    def event_ms(self, offset: int | None) -> int:
        """Do as the plain watch."""
        return 0 if offset is None or self._event_ms is None else int(self._event_ms(offset))


def watch_with(fields: MessageFields, parts: Parts, **others: Any) -> PartitionWatch:
    """Make the watch that the parts of these detectors need, beside what every partition has."""
    more = any(hasattr(part, method) for _, part in parts for method in _MORE)
    return (ExtendedWatch if more else PartitionWatch)(fields, parts=parts, **others)
