"""How the engine reads a message without knowing its client library, and what it keeps a partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

Message = Any
"""The client library's own message object. It is read, never changed and never kept."""

Headers = Sequence[tuple[str, bytes]]

Trust: TypeAlias = Literal["all", "same-environment", "none"]
"""Of which environments' messages the traces are continued."""


class SystemNames(NamedTuple):
    """Which attributes a messaging system has for what not every system knows; None where it knows no such thing."""

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


def _includes_none(_name: str) -> bool:
    return False


def _trusts_all(_destination: str) -> Trust:
    return "all"


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
    trust: Callable[[str], Trust] = _trusts_all
    """By destination; asked once a partition."""
    max_foreign_traces_per_second: float | None = None
    """Up to how many traces another environment's sampled flag is followed; None is all."""
    hooks: Mapping[str, Callable[[Span, Message], object]] = field(default_factory=dict)
