"""A number for each message of a producer, topic and partition, written where the client holds the partition's lock.

Numbers given any earlier get out of order with several threads: 2,450 of 12,000 did, against none
(docs/design/order.md, "Where the number is given"). `send()` writes a placeholder of fixed length; here it becomes a
number, which is used up only when the client has really taken the message.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.pipeline_header import NAME

if TYPE_CHECKING:
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.pipeline_header import Template

_PLACEHOLDER = b"AAAAAAAA"  # sequence 0 and tag 0 in base64: a stamped header never ends so
_STAMP = slice(32, 40)
_LAST = 0xFFFF_FFFF  # Then they begin again at 1: 0 is none.
MAX_SEQUENCES = 100_000
MAX_FORGOTTEN = 1000

Key = tuple[int, str, int]


class _Count:
    """The numbers of one producer, topic and partition."""

    __slots__ = ("last", "tag")

    def __init__(self, tag: int) -> None:
        self.last = 0
        self.tag = tag


Stamped = tuple[int, _Count, tuple[str, bytes]]


class Sequences:
    """The last number of each (producer id, topic, partition). The caller holds the partition's lock."""

    __slots__ = ("__weakref__", "_counts", "_forgotten", "_templates", "place")

    def __init__(self, guard: Guard) -> None:
        self.place = guard.place("sequence")
        self._counts: dict[Key, _Count] = {}
        self._forgotten: dict[Key, int] = {}
        self._templates: dict[bytes, tuple[int, Template, dict[int, _Count]]] = {}
        forks.add(self.begin_anew, Step.ZERO)

    def begin_anew(self) -> None:
        """Forget, in a forked child, which numbers were given: under the parent's ids, the parent does."""
        for known in (self._counts, self._forgotten, self._templates):
            known.clear()

    def template(self, producer: int, template: Template) -> None:
        """Remember a first hop's placeholder: what it lacks is filled in together with the number."""
        if len(self._templates) < MAX_SEQUENCES:
            self._templates[template.placeholder] = (producer, template, {})

    def stamp(self, headers: list[tuple[str, bytes]], topic: str, partition: int) -> Stamped | None:
        """Write the next number into our header; None if there is nothing to stamp. Never raises."""
        try:
            if self.place.off:
                return None
            at = len(headers) - 1
            while headers[at][0] != NAME:  # Ours is the last but for what a serializer has written.
                at -= 1
                if at < 0:
                    return None
            pair = headers[at]
            value = pair[1]
            known = self._templates.get(value) if type(value) is bytes else None
            if known is None:
                return self._stamp_flow(headers, at, topic, partition) if type(value) is bytes else None
            counts = known[2]
            count = counts.get(partition)
            if count is None:
                count = self._count(known[0], topic, partition)
                if count is None:
                    return None
                counts[partition] = count
            filled = known[1].filled(time.time_ns() // 1_000_000, count.last % _LAST + 1, count.tag)
            headers[at] = (NAME, filled)
        except Exception:
            self.place.failed()
            return None
        return at, count, pair

    def _stamp_flow(self, headers: list[tuple[str, bytes]], at: int, topic: str, partition: int) -> Stamped | None:
        """Stamp a header that lacks only its number: that of data that came from elsewhere."""
        pair = headers[at]
        # A batch that is split or retried comes here again with its number: it keeps it.
        producer = pipeline_header.producer_of(pair[1]) if pair[1][_STAMP] == _PLACEHOLDER else None
        count = self._count(producer, topic, partition) if producer else None
        if count is None:
            return None
        headers[at] = (NAME, pipeline_header.stamp(pair[1], count.last % _LAST + 1, count.tag))
        return at, count, pair

    def _count(self, producer: int, topic: str, partition: int) -> _Count | None:
        key = (producer, topic, partition)
        found = self._counts.get(key)
        if found is None:
            if len(self._counts) >= MAX_SEQUENCES:
                return None
            found = self._counts[key] = _Count(pipeline_header.tag_of(topic, partition))
        return found

    @staticmethod
    def settle(headers: list[tuple[str, bytes]], stamped: Stamped, *, taken: bool) -> None:
        """Use up the number where the client took the message; put the placeholder back where it did not."""
        if taken:
            stamped[1].last += 1
        else:
            headers[stamped[0]] = stamped[2]

    def given(self) -> dict[Key, int]:
        """Return the last number of each (producer id, topic, partition), a thousand of producers that are gone."""
        return {**self._forgotten, **{key: count.last for key, count in list(self._counts.items())}}

    def forget(self, producer: int) -> None:
        """Drop the numbers of a producer that is gone."""
        for key in [key for key in list(self._counts) if key[0] == producer]:
            count = self._counts.pop(key, None)
            if count is not None and len(self._forgotten) < MAX_FORGOTTEN:
                self._forgotten[key] = count.last
        for placeholder in [text for text, known in list(self._templates.items()) if known[0] == producer]:
            self._templates.pop(placeholder, None)
