"""Links of a span that stands for many messages: to what created each of them, with what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from opentelemetry.trace import Link

from otel_pipeline import semconv
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.origin import delivery_age_s
from otel_pipeline.engine.send import key_text
from otel_pipeline.engine.trace_context import LightLink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields, SystemNames
    from otel_pipeline.engine.totals import AttributeValue


class Facts(NamedTuple):
    """What is known of a message, as it came. The message itself is not kept."""

    names: SystemNames
    destination: str
    partition: int
    offset: int | None
    sent_ms: Any
    now_ms: int
    header: Any
    """The data-flow header."""
    is_tombstone: bool
    key: str | None


@dataclass(slots=True, eq=False, repr=False)
class MessageLink(LightLink):
    """A link to a message's creation context; what it says of the message is made when an exporter asks."""

    facts: Facts

    @property
    def attributes(self) -> Mapping[str, AttributeValue]:
        """What is known of the message; of that, what the SDK's limits leave, where its tracer has made the span."""
        bounded: Mapping[str, AttributeValue] | None = self.__dict__.get("_attributes")
        if bounded is not None:
            return bounded
        names, destination, partition, offset, sent_ms, now_ms, header, is_tombstone, key = self.facts
        said: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: destination}
        if names.partition is not None:
            said[names.partition] = str(partition)
        if names.offset is not None and offset is not None:
            said[names.offset] = offset
        age_s = delivery_age_s(sent_ms, header, now_ms)
        if age_s is not None:
            said[semconv.OTEL_PIPELINE_DELIVERY_AGE] = age_s
        if names.tombstone is not None and is_tombstone:
            said[names.tombstone] = True
        if names.key is not None and key is not None:
            said[names.key] = key
        return said

    @property
    def dropped_attributes(self) -> int:
        """How many the limits have taken."""
        return getattr(self.__dict__.get("_attributes"), "dropped", 0)


class CreationLinks(Sequence[Link]):
    """Links to the creation contexts of sampled messages, read only if the span is recorded."""

    def __init__(self, engine: Engine, fields: MessageFields, batches: Iterable[Sequence[Message]]) -> None:
        self._engine = engine
        self._fields = fields
        self._batches = batches
        self._links: list[Link] | None = None

    def _read(self) -> list[Link]:
        if self._links is None:
            self._links = self._sampled()
        return self._links

    def _sampled(self) -> list[Link]:
        sampled_links, limit = self._engine.propagation.sampled_links, self._engine.settings.max_links
        reads, now_ms, with_key = self._fields, self._engine.clock_ns() // 1_000_000, self._engine.settings.message_key
        names, headers_of, body_bytes = reads.names, reads.headers, reads.body_bytes
        found: list[Link] = []
        for batch in self._batches:
            for message in batch:
                headers = headers_of(message)
                links = sampled_links(headers) if headers else ()
                if not links:
                    continue
                facts = Facts(
                    names,
                    reads.destination(message),
                    reads.partition(message),
                    reads.offset(message),
                    reads.timestamp_ms(message),
                    now_ms,
                    own_header(headers),
                    body_bytes(message) < 0,
                    key_text(reads.key(message)) if with_key else None,
                )
                found += [MessageLink(link.span, facts) for link in links]
                if len(found) >= limit:
                    return found[:limit]
        return found

    def __iter__(self) -> Iterator[Link]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Link]: ...
    def __getitem__(self, index: int | slice) -> Link | Sequence[Link]:
        return self._read()[index]
