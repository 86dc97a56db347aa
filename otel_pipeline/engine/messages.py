"""How the engine reads a message without knowing its client library, and what it keeps a partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

Message = Any
"""The client library's own message object. It is read, never changed and never kept."""

Headers = Sequence[tuple[str, bytes]]


class MessageFields(NamedTuple):
    """How to read one client's messages. Prefer C-level callables: `attrgetter`, `itemgetter`."""

    destination: Callable[[Message], str]
    partition: Callable[[Message], int]
    offset: Callable[[Message], int]
    timestamp_ms: Callable[[Message], int]
    key: Callable[[Message], object]
    headers: Callable[[Message], Headers | None]
    value: Callable[[Message], object]
    body_bytes: Callable[[Message], int]
    """The serialized size, below 0 for a message without a body (a tombstone)."""


def _includes_none(_name: str) -> bool:
    return False


@dataclass(frozen=True)
class EngineSettings:
    """The plain values the engine works with. Times in ms."""

    service_name: str = "unknown_service"
    environment: str | None = None
    process_parent: str = "message"
    parent_max_age_ms: int = 900_000
    max_hops: int = 32
    max_links: int = 128
    receive_spans: bool = True
    message_key: bool = False
    excludes_destination: Callable[[str], bool] = _includes_none
    excludes_client: Callable[[str], bool] = _includes_none
    hooks: Mapping[str, Callable[[Span, Message], object]] = field(default_factory=dict)
