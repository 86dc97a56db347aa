"""How the engine reads a message without knowing its client library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
