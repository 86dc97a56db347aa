"""A batch that the application handles itself: what it sends or decides before the next batch rests on all of it."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.delivery import in_hand
from otel_pipeline.engine.origin import MAX_AGE_MS, Origin, doubts, is_doubted, origin_of, without_doubt
from otel_pipeline.engine.request import origin_of_request

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Sequence
    from contextvars import Context

    from opentelemetry.trace import Span

    from otel_pipeline.engine.observer import PartitionObserver


class Loop(Protocol):
    """A loop of the application over what a consumer has returned."""

    def is_here(self) -> bool:
        """Tell whether the running thread and task has taken the last message."""

    def leave(self) -> None:
        """End it. Safe to call twice and from another thread; raises nothing but what is the application's."""


class Batch:
    """What one batch brought, kept until the next one. The messages themselves are not kept."""

    __slots__ = ("_headers", "_origin", "_origins_ms", "awaited", "parts", "span")

    def __init__(self, origin: Origin | None = None) -> None:
        self.parts: list[tuple[PartitionObserver, int, Sequence[int]]] = []
        """Observer, last offset and origins of each partition."""
        self.awaited: tuple[AbstractEventLoop, list[Context]] | None = None
        """Which tasks it was handed to, by their loop and their contexts (`awaited_batch.py`)."""
        self.span: Span | None = None
        """The one of the call that has returned it: the parent of what rests on no message of it in particular."""
        self._headers: list[Any] = []
        self._origins_ms: list[int] = []
        self._origin = origin

    def add(self, observer: PartitionObserver, offset: int, headers: Sequence[Any], origins_ms: Sequence[int]) -> None:
        """Add the messages of one more partition."""
        self.parts.append((observer, offset, origins_ms))
        self._headers += headers
        self._origins_ms += map(abs, origins_ms)  # Below 0 it is a lower bound, which is what a first hop has.

    @property
    def origins_ms(self) -> Sequence[int]:
        """The origin of each message, as `Origin.told_ms` has it."""
        return self._origins_ms

    @property
    def origin(self) -> Origin:
        """Where the batch's data began: the oldest origin decides."""
        found = self._origin
        if found is None:
            first_ms, last_ms = (time.time() * 1000 + sign * MAX_AGE_MS for sign in (-1, 1))
            times_ms = map(without_doubt, self._origins_ms)
            origins_ms = [time_ms if first_ms <= time_ms <= last_ms else 0 for time_ms in times_ms]
            ages = [origin_ms for origin_ms in origins_ms if origin_ms]
            oldest_ms, newest_ms = min(ages, default=0), max(ages, default=0)
            oldest = origin_of(self._headers[origins_ms.index(oldest_ms)], oldest_ms)
            hops, inputs = list(map(_hops, self._headers)), len(self._origins_ms)
            # As `origin_at` says it of one message.
            doubted = any(map(is_doubted, self._origins_ms)) or (
                min(hops) <= 1 and any(doubts(observer) for observer, _, _ in self.parts)
            )
            found = Origin(oldest_ms, newest_ms, max(hops), oldest.environment, oldest.path, inputs, doubted)
            self._origin = found
        return found


def _hops(header: Any) -> int:
    return pipeline_header.hops_of(header) if header else 1


batch_in_hand: ContextVar[Batch | None] = ContextVar("otel_pipeline.batch", default=None)
"""The batch that the calling code handles; a delivery in hand comes before it."""


def span_of_batch() -> Span | None:
    """Return the span of the batch that the calling code handles; None without one."""
    batch = batch_in_hand.get()
    return None if batch is None else batch.span


def leave_last_batch() -> None:
    """Let nothing rest any longer on the batch that the calling code was handed last: nobody says when it ends."""
    batch_in_hand.set(None)


def origin_in_hand() -> Origin | None:
    """Return where the data in hand began, of a message, the last batch or a request; None outside all of them."""
    delivery = in_hand()
    if delivery is not None and not delivery.ended:
        return delivery.origin
    batch = batch_in_hand.get()
    return origin_of_request(get_current()) if batch is None else batch.origin
