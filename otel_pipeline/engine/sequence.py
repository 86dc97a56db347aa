"""A number for each message of a producer, topic and partition, written where the client holds the partition's lock.

Numbers given any earlier come out of order with several threads: 2,450 of 12,000 inverted against none (DATAFLOW.md,
"Where the sequence can be stamped"). `send()` writes a placeholder of fixed length; here it becomes a number, which is
consumed only when the client has really taken the message.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.pipeline_header import NAME

if TYPE_CHECKING:
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.pipeline_header import Template

_PLACEHOLDER = b"AAAAAAAA"  # sequence 0 and tag 0 in base64: a stamped header never ends so
_STAMP = slice(32, 40)
_WRAP = 1 << 32
MAX_SEQUENCES = 100_000

Key = tuple[int, str, int]
Stamped = tuple[int, Key, int, tuple[str, bytes]]


class Sequences:
    """The last number of each (producer id, topic, partition). The caller holds the partition's lock."""

    __slots__ = ("_guard", "_last", "_templates")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._last: dict[Key, int] = {}
        self._templates: dict[bytes, tuple[int, Template]] = {}

    def template(self, producer: int, template: Template) -> None:
        """Know a first hop's placeholder: what is missing of it is filled in with the number."""
        if len(self._templates) < MAX_SEQUENCES:
            self._templates[template.placeholder] = (producer, template)

    def stamp(self, headers: list[tuple[str, bytes]], topic: str, partition: int) -> Stamped | None:
        """Write the next number into our header; None if there is nothing to stamp. Never raises."""
        try:
            at = len(headers) - 1
            while headers[at][0] != NAME:  # Ours is the last but for what a serializer has written.
                at -= 1
                if at < 0:
                    return None
            pair = headers[at]
            value = pair[1]
            known = self._templates.get(value)
            if known is not None:
                producer, template = known
            else:
                # A batch that is split or retried comes here again with its number: it keeps it.
                if value[_STAMP] != _PLACEHOLDER:
                    return None
                found = pipeline_header.producer_of(value)
                if not found:
                    return None
                producer, template = found, None
            key = (producer, topic, partition)
            number = self._last.get(key, 0) + 1
            if number == 1 and len(self._last) >= MAX_SEQUENCES:
                return None
            tag = pipeline_header.tag_of(topic, partition)
            if template is not None:
                stamped = template.filled(time.time_ns() // 1_000_000, number % _WRAP, tag)
            else:
                stamped = pipeline_header.stamp(value, number % _WRAP, tag)
            headers[at] = (NAME, stamped)
        except Exception:
            self._guard.failed("sequence")
            return None
        return at, key, number, pair

    def settle(self, headers: list[tuple[str, bytes]], stamped: Stamped, *, taken: bool) -> None:
        """The client took the message: the number is consumed. It did not: the placeholder is put back."""
        if taken:
            self._last[stamped[1]] = stamped[2]
        else:
            headers[stamped[0]] = stamped[3]

    def forget(self, producer: int) -> None:
        """Drop the numbers of a producer that is gone."""
        for key in [key for key in list(self._last) if key[0] == producer]:
            self._last.pop(key, None)
        for placeholder in [text for text, known in list(self._templates.items()) if known[0] == producer]:
            self._templates.pop(placeholder, None)
