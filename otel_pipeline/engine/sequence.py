"""A number for each message of a producer, topic and partition, written where the client holds the partition's lock.

Numbers given any earlier come out of order with several threads: 2,450 of 12,000 inverted against none (DATAFLOW.md,
"Where the sequence can be stamped"). `send()` writes a placeholder of fixed length; here it becomes a number, which is
consumed only when the client has really taken the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from otel_pipeline.engine.guard import Guard

_PLACEHOLDER = b"AAAAAAAA"  # sequence 0 and tag 0 in base64: a stamped header never ends so
_STAMP = slice(32, 40)
_WRAP = 1 << 32
MAX_SEQUENCES = 100_000

Key = tuple[int, str, int]
Stamped = tuple[int, Key, int, bytes]


class Sequences:
    """The last number of each (producer id, topic, partition). The caller holds the partition's lock."""

    __slots__ = ("_guard", "_last")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._last: dict[Key, int] = {}

    def stamp(self, headers: list[tuple[str, bytes]], topic: str, partition: int) -> Stamped | None:
        """Write the next number into our header; None if there is nothing to stamp. Never raises."""
        try:
            for at in range(len(headers) - 1, -1, -1):
                name, value = headers[at]
                if name == pipeline_header.NAME:
                    break
            else:
                return None
            # A batch that is split or retried comes here again with its number: it keeps it.
            if value[_STAMP] != _PLACEHOLDER:
                return None
            producer = pipeline_header.producer_of(value)
            if not producer:
                return None
            key = (producer, topic, partition)
            number = self._last.get(key, 0) + 1
            if number == 1 and len(self._last) >= MAX_SEQUENCES:
                return None
            sequence = number % _WRAP
            stamped = pipeline_header.stamp(value, sequence, pipeline_header.tag_of(topic, partition))
            headers[at] = (name, stamped)
        except Exception:
            self._guard.failed("sequence")
            return None
        return at, key, number, value

    def settle(self, headers: list[tuple[str, bytes]], stamped: Stamped, *, taken: bool) -> None:
        """The client took the message: the number is consumed. It did not: the placeholder is put back."""
        at, key, number, placeholder = stamped
        if taken:
            self._last[key] = number
        else:
            headers[at] = (pipeline_header.NAME, placeholder)

    def forget(self, producer: int) -> None:
        """Drop the numbers of a producer that is gone."""
        for key in [key for key in list(self._last) if key[0] == producer]:
            self._last.pop(key, None)
