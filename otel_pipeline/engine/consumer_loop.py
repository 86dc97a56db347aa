"""A consumer that hands out messages one by one: each has its span until the next is asked for or the loop is left.

`Deliveries` stands between the application's `for` and the client. CPython drops it the moment the loop is left by
`break`, `return` or an exception, and its `__del__` finishes what it opened.
"""

from __future__ import annotations

import sys
from concurrent.futures import thread as _thread
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.forks import forks
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.pipeline_header import fields as fields_of
from otel_pipeline.engine.pools import RUN_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.engine.clients import Consumer, PartitionState
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.processor import Processor

# Where a pool calls what it was given: `run` of the work item, and from Python 3.14 of the worker's context.
_POOL_CODES = {
    owner.run.__code__
    for owner in (getattr(_thread, "_WorkItem", None), getattr(_thread, "WorkerContext", None))
    if owner is not None
} | {RUN_CODE}


# A look at the thread spares the look at the frame: the main thread is never a pool's.
_main_thread = [main_thread().ident]
forks.add(lambda: _main_thread.__setitem__(0, get_ident()))


def called_by_pool(depth: int) -> bool:
    """Tell whether `next(consumer)` itself was handed to an executor: its thread must not inherit a current span.

    Args:
        depth: how many frames above the caller the code is that called the replacement of the client's `__next__`.
    """
    if get_ident() == _main_thread[0]:
        return False
    try:
        frame = sys._getframe(depth + 1)
    except ValueError:
        return False  # Nothing called it: it is what a thread or greenlet was started with.
    if frame.f_code is _PROXY_CODE and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code in _POOL_CODES


class Iteration:
    """What an adapter calls around the client's own `__next__`. Nothing here raises."""

    __slots__ = (
        "_begin",
        "_clock_ns",
        "_destination",
        "_excludes",
        "_finish",
        "_headers",
        "_observing",
        "_offset",
        "_partition",
        "_place",
        "_timestamp_ms",
        "engine",
    )

    def __init__(self, engine: Engine, processor: Processor, fields: MessageFields) -> None:
        self.engine = engine
        self._begin, self._finish = processor.begin, processor.finish
        self._destination, self._partition, self._offset = fields.destination, fields.partition, fields.offset
        self._headers, self._timestamp_ms = fields.headers, fields.timestamp_ms
        self._excludes = engine.settings.excludes_destination
        self._clock_ns = engine.clock_ns
        self._place, self._observing = engine.guard.place("iterate"), engine.guard.place("observe")

    def leave(self, consumer: Consumer) -> None:
        """Finish the message that was handed out last."""
        delivery = consumer.open
        if delivery is not None:
            consumer.open = None
            self._finish(delivery)

    def hand_out(self, consumer: Consumer, message: Message) -> None:
        """Begin the message that the replacement of `__next__` is about to return to the application."""
        if consumer.excluded or self._place.off:
            return
        try:
            destination, partition = self._destination(message), self._partition(message)
            state = consumer.partitions.get((destination, partition)) or self._state(consumer, destination, partition)
            if state is None:
                return
            offset = state.handed_offset = self._offset(message)
            current = not called_by_pool(2)
            delivery = consumer.open = self._begin(state, message, current) if consumer.iterator_spans else None
        except Exception:
            self._place.failed()
            return
        observer = state.observer
        if observer is None or self._observing.off or not self.engine.active:
            return
        try:
            if delivery is not None:
                header, sent_ms, now_ns = delivery.header, delivery.timestamp_ms, delivery.start_ns
                delivery.origin_ms = observer.one(
                    message, offset, sent_ms, header, delivery.fields, now_ns // 1_000_000
                )
            else:
                header, now_ms = own_header(self._headers(message)), self._clock_ns() // 1_000_000
                observer.one(message, offset, self._timestamp_ms(message), header, fields_of(header), now_ms)
            if observer.rejects:
                consumer.rejection = observer.rejection(header)
        except Exception:
            self._observing.failed()

    def _state(self, consumer: Consumer, destination: str, partition: int) -> PartitionState | None:
        """Make the state of a partition at its first message; None where it is excluded."""
        return None if self._excludes(destination) else consumer.partition(destination, partition)

    def raise_rejection(self, consumer: Consumer) -> None:
        """Raise where the configuration says that such a message must not reach the application: `on_reject: raise`."""
        rejection, consumer.rejection = consumer.rejection, None
        self.leave(consumer)
        if rejection is not None:
            raise rejection

    def deliveries(self, client: Iterator[Message], consumer: Consumer) -> Deliveries:
        """Return what `iter(client)` is to return."""
        return Deliveries(client, consumer, self.leave)


class Deliveries:
    """The iterator of a consumer; everything else is the consumer's own."""

    __slots__ = ("_client", "_consumer", "_leave", "_opened")

    def __init__(self, client: Iterator[Message], consumer: Consumer, leave: Callable[[Consumer], None]) -> None:
        self._client = client
        self._consumer = consumer
        self._leave = leave
        self._opened: OpenDelivery | None = None

    def __iter__(self) -> Deliveries:
        return self

    def __next__(self) -> Message:
        message = next(self._client)
        self._opened = self._consumer.open
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __del__(self) -> None:
        try:
            if self._opened is not None and self._consumer.open is self._opened:
                self._leave(self._consumer)
        except Exception:  # at interpreter exit even the guard may be gone
            pass


_PROXY_CODE = Deliveries.__next__.__code__
