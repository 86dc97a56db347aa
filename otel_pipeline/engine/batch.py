"""A pull that the application handles itself: what it sends or decides before the next pull rests on all of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.delivery import Flow, flow_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.receive import Consumer


class PolledBatch:
    """What one pull brought, until the next. The messages themselves are not kept."""

    __slots__ = ("_flow", "_headers", "_origins_ms", "parts")

    def __init__(self) -> None:
        self.parts: list[tuple[PartitionObserver, int, Sequence[int]]] = []
        """Observer, last offset and origins of each partition."""
        self._headers: list[Any] = []
        self._origins_ms: list[int] = []
        self._flow: Flow | None = None

    def add(self, observer: PartitionObserver, offset: int, headers: Sequence[Any], origins_ms: Sequence[int]) -> None:
        """The messages of one more partition."""
        self.parts.append((observer, offset, origins_ms))
        self._headers += headers
        self._origins_ms += origins_ms

    @property
    def flow(self) -> Flow:
        """Where its data began: the oldest origin decides."""
        found = self._flow
        if found is None:
            known = [origin for origin in self._origins_ms if origin > 0]
            oldest_ms = min(known, default=0)
            oldest = flow_of(self._headers[self._origins_ms.index(oldest_ms)], oldest_ms)
            hops = max(pipeline_header.hops_of(header) if header else 1 for header in self._headers)
            newest_ms = max(known, default=0)
            found = Flow(oldest_ms, newest_ms, hops, oldest.environment, oldest.path, len(self._origins_ms))
            self._flow = found
        return found


polled: ContextVar[PolledBatch | None] = ContextVar("otel_pipeline.polled", default=None)
"""The pull that the calling code handles; a delivery in hand comes before it."""


def own_header(headers: Any) -> Any:
    """The data-flow header of a message, which a producer of ours writes last; None without one."""
    if not headers:
        return None
    try:
        name, value = headers[-1]
        if name == pipeline_header.NAME:
            return value
        return next((value for name, value in headers if name == pipeline_header.NAME), None)
    except Exception:
        return None  # No pairs: there is nothing to read.


def own_headers(headers_of: Callable[[Message], Any], messages: Sequence[Message]) -> Sequence[Any]:
    """The data-flow header of each message of a pull, which mostly all have, as their last."""
    own = pipeline_header.NAME
    try:
        values = [value for headers in map(headers_of, messages) for name, value in (headers[-1],) if name == own]
    except Exception:
        values = []  # Some have none.
    return values if len(values) == len(messages) else [own_header(headers_of(message)) for message in messages]


def hand_out_batches(
    engine: Engine, fields: MessageFields, consumer: Consumer, batches: Sequence[Sequence[Message]]
) -> None:
    """Tell the observers of a pull, and remember it for what is sent before the next one."""
    if engine.observe is None:
        return
    now_ms = engine.clock_ns() // 1_000_000
    pull = PolledBatch()
    for messages in batches:
        first = messages[0]
        state = consumer.partitions.get((fields.destination(first), fields.partition(first)))
        if state is None or state.observer is None:
            continue
        headers = own_headers(fields.headers, messages)
        origins_ms = state.observer.batch(messages, headers, now_ms)
        pull.add(state.observer, fields.offset(messages[-1]), headers, origins_ms)
    if pull.parts:
        consumer.polled = pull
        polled.set(pull)


def leave_polled(engine: Engine, consumer: Consumer) -> None:
    """The application asks for more, or closes: what it had is processed. Never raises."""
    pull = consumer.polled
    if pull is None:
        return
    try:
        consumer.polled = None
        if polled.get() is pull:
            polled.set(None)
        if not consumer.explicit:
            now_ms = engine.clock_ns() // 1_000_000
            for observer, offset, origins_ms in pull.parts:
                observer.processed_batch(offset, origins_ms, now_ms)
    except Exception:
        engine.guard.failed("polled")
