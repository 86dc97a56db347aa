"""Links of a span that stands for many messages: to what created each of them, with what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from opentelemetry.trace import Link

from otel_pipeline import semconv
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.origin import delivery_age_s
from otel_pipeline.engine.send import key_text
from otel_pipeline.engine.trace_context import LightLink

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.totals import AttributeValue


@dataclass(slots=True, eq=False, repr=False)
class MessageLink(LightLink):
    """A link to a message's creation context."""

    said: Mapping[str, AttributeValue]

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """What is known of the message."""
        return self.said


class CreationLinks(Sequence[Link]):
    """Links to the creation contexts of sampled messages, read only if the span is recorded."""

    def __init__(self, engine: Engine, fields: MessageFields, batches: Iterable[Sequence[Message]]) -> None:
        self._engine = engine
        self._fields = fields
        self._batches = batches
        self._links: list[Link] | None = None

    def _read(self) -> list[Link]:
        if self._links is None:
            self._links = list(self._sampled())[: self._engine.settings.max_links]
        return self._links

    def _sampled(self) -> Iterable[Link]:
        sampled_links, limit, count = self._engine.propagation.sampled_links, self._engine.settings.max_links, 0
        headers_of, now_ms = self._fields.headers, self._engine.clock_ns() // 1_000_000
        for batch in self._batches:
            for message in batch:
                headers = headers_of(message)
                links = sampled_links(headers) if headers else ()
                if not links:
                    continue
                said = self._said(message, headers, now_ms)
                for link in links:
                    yield MessageLink(link.span, said)
                    count += 1
                    if count >= limit:
                        return

    def _said(self, message: Message, headers: Any, now_ms: int) -> dict[str, AttributeValue]:
        """Collect what is known of a message. The message itself is not kept."""
        reads = self._fields
        names = reads.names
        said: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: reads.destination(message)}
        if names.partition is not None:
            said[names.partition] = str(reads.partition(message))
        if names.offset is not None:
            said[names.offset] = reads.offset(message)
        age_s = delivery_age_s(reads.timestamp_ms(message), own_header(headers), now_ms)
        if age_s is not None:
            said[semconv.OTEL_PIPELINE_DELIVERY_AGE] = age_s
        if names.tombstone is not None and reads.body_bytes(message) < 0:
            said[names.tombstone] = True
        if names.key is not None and self._engine.settings.message_key:
            key = key_text(reads.key(message))
            if key is not None:
                said[names.key] = key
        return said

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Link]: ...
    def __getitem__(self, index: int | slice) -> Link | Sequence[Link]:
        return self._read()[index]
