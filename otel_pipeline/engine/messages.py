"""How the engine reads a message without knowing its client library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Message = Any
"""The client library's own message object. It is read, never changed and never kept."""

Headers = Sequence[tuple[str, bytes]]


class SystemNames(NamedTuple):
    """The attributes that a messaging system has for what not every system has; None where it has no such thing."""

    partition: str | None = None
    offset: str | None = None
    cluster: str | None = None
    key: str | None = None
    tombstone: str | None = None


NO_NAMES = SystemNames()


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
    names: SystemNames = NO_NAMES
    headers_only: bool = False
    """Whether only its headers are known of a message: nothing is judged of order, pace and values."""
    timestamps_ms: Callable[[Sequence[Message]], list[int]] | None = None
    """What `timestamp_ms` reads of each of many messages, where that can be had with fewer calls."""
    bodies_bytes: Callable[[Sequence[Message]], list[int]] | None = None
    """The same for `body_bytes`."""
    deliveries: Callable[[Message], int | None] | None = None
    """How often the broker has delivered a message, where it counts: it hands each to one consumer of several, in no
    order, as share groups do. None elsewhere."""
