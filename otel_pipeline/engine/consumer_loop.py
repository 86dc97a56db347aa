"""A consumer that hands out messages one by one: each has its span until the next is asked for or the loop is left.

`Deliveries` stands between the application's `for` and the client. CPython drops it the moment the loop is left by
`break`, `return` or an exception, and its `__del__` finishes what it opened.
"""

from __future__ import annotations

import functools
import sys
from concurrent.futures import thread as _thread
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.awaited_batch import hand_on
from otel_pipeline.engine.delivery import abandon, in_hand
from otel_pipeline.engine.forks import forks
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.origin import origin_at
from otel_pipeline.engine.pipeline_header import fields as fields_of
from otel_pipeline.engine.pools import RUN_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.engine.client_objects import ClientObjects
    from otel_pipeline.engine.clients import Consumer, PartitionState
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.origin import Origin
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


class Iteration:
    """What an adapter calls around the client's own `__next__`.

    Nothing here raises, unless there is no stack or memory left to say what went wrong: the adapter counts that.
    """

    __slots__ = (
        "_begin",
        "_clock_ns",
        "_destination",
        "_excludes",
        "_headers",
        "_observing",
        "_offset",
        "_partition",
        "_timestamp_ms",
        "engine",
        "finish",
        "place",
    )

    def __init__(self, engine: Engine, processor: Processor, fields: MessageFields) -> None:
        self.engine = engine
        self._begin, self.finish = processor.begin, processor.finish
        self._destination, self._partition, self._offset = fields.destination, fields.partition, fields.offset
        self._headers, self._timestamp_ms = fields.headers, fields.timestamp_ms
        self._excludes = engine.settings.excludes_destination
        self._clock_ns = engine.clock_ns
        self.place, self._observing = engine.guard.place("iterate"), engine.guard.place("observe")

    def leave(self, consumer: Consumer) -> None:
        """Finish the message that was handed out last."""
        delivery = consumer.open
        if delivery is not None:
            self.finish(delivery)
            consumer.open = None  # Now: whatever has interrupted it, the next call finishes it.

    def hand_out(self, consumer: Consumer, message: Message) -> Exception | None:
        """Begin the message that the replacement of `__next__` is about to return to the application.

        Returns what is to be raised in its place: the configuration says that such a message must not reach the
        application (`on_reject: raise`).
        """
        try:
            if consumer.excluded or self.place.off:
                return None
            destination, partition = self._destination(message), self._partition(message)
            state = consumer.partitions.get((destination, partition)) or self._state(consumer, destination, partition)
            if state is None:
                return None
            offset = state.handed_offset = self._offset(message)
            current = get_ident() == _main_thread[0] or self._in_a_thread(consumer, message)
            delivery = consumer.open = self._begin(state, message, current) if consumer.iterator_spans else None
        except Exception:
            self.place.failed()
            return None
        try:
            observer = state.observer
            if observer is None or self._observing.off or not self.engine.active:
                return None
            if delivery is not None:
                now_ms, sent_ms, fields = delivery.start_ns // 1_000_000, delivery.timestamp_ms, delivery.fields
                delivery.origin_ms = observer.one(message, offset, sent_ms, delivery.header, fields, now_ms)
            else:
                header, now_ms = own_header(self._headers(message)), self._clock_ns() // 1_000_000
                observer.one(message, offset, self._timestamp_ms(message), header, fields_of(header), now_ms)
            return self._rejection(consumer, observer, message) if observer.rejects else None
        except Exception:
            self._observing.failed()
            return None

    def _in_a_thread(self, consumer: Consumer, message: Message) -> bool:
        """Tell whether the thread that asks has the message in hand: not a pool's that was given `next(consumer)`.

        Who awaits that, or a function of the application that has asked for a message, rests on its data.
        """
        try:
            frame = sys._getframe(3)
        except ValueError:
            return True  # Nothing called it: it is what a thread or greenlet was started with.
        in_loop = frame.f_code is _PROXY_CODE
        if in_loop and frame.f_back is not None:
            frame = frame.f_back
        asked_by_pool = frame.f_code in _POOL_CODES
        if asked_by_pool or not in_loop:
            hand_on(consumer, self.origin(consumer, message), self.engine.guard)
        return not asked_by_pool

    def origin(self, consumer: Consumer, message: Message) -> Origin:
        """Return where the message's data began."""
        state = consumer.partitions.get((self._destination(message), self._partition(message)))
        observer = None if state is None else state.observer
        return origin_at(observer, own_header(self._headers(message)), self._timestamp_ms(message))

    def _state(self, consumer: Consumer, destination: str, partition: int) -> PartitionState | None:
        """Make the state of a partition at its first message; None where it is excluded."""
        return None if self._excludes(destination) else consumer.partition(destination, partition)

    def _rejection(self, consumer: Consumer, observer: PartitionObserver, message: Message) -> Exception | None:
        rejection = observer.rejection(own_header(self._headers(message)))
        if rejection is not None:
            self.leave(consumer)
        return rejection

    def interrupted(self, consumer: Consumer, message: Message) -> None:
        """Keep for the next call what an exception of the application has kept this one from returning."""
        delivery, told = in_hand(), False
        if delivery is not None and delivery.message is message:
            told = delivery.origin_ms is not None
            abandon(delivery)
        consumer.open = None
        partition = self._destination(message), self._partition(message)
        consumer.keep(message, (partition,), many=False, told=told)

    def again(self, consumer: Consumer) -> Message | None:
        """Give the message that the call before could not return; None without one."""
        found = consumer.again(many=False)
        if found is None:
            return None
        message: Message = found.given
        if not found.told:
            self.hand_out(consumer, message)
        elif consumer.iterator_spans:
            state = consumer.partition(self._destination(message), self._partition(message))
            consumer.open = self._begin(state, message)
        consumer.kept = None
        return message

    def loop_left(self, consumer: Consumer) -> None:
        """Finish the message that was handed out last: the loop over it was left. Never raises."""
        try:
            self.leave(consumer)
        except Exception:
            self.place.failed()

    def deliveries(self, client: Iterator[Message], consumer: Consumer) -> Deliveries:
        """Return what `iter(client)` is to return."""
        return Deliveries(client, consumer, self)


def make_iter(
    consumers: ClientObjects[Consumer], iteration: Iteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    """Make the replacement of a client's `__iter__`."""
    place = iteration.place

    @functools.wraps(original)
    def __iter__(self: Any) -> Any:  # noqa: N807
        iterator = original(self)
        try:
            consumer = consumers.of(self)
            if not consumer.excluded and consumer.engine.active:
                return iteration.deliveries(iterator, consumer)
        except Exception:
            place.failed()
        return iterator

    return __iter__


def make_next(
    consumers: ClientObjects[Consumer], iteration: Iteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    """Make the replacement of a client's `__next__`."""
    known, consumer_of, nobody = consumers.by_id.get, consumers.of, consumers.left_alone
    finish, hand_out, again, interrupted = iteration.finish, iteration.hand_out, iteration.again, iteration.interrupted
    place = iteration.place

    @functools.wraps(original)
    def __next__(self: Any) -> Any:  # noqa: N807
        consumer, rejection = nobody, None
        try:
            consumer = known(id(self)) or consumer_of(self)
            delivery = consumer.open
            if delivery is not None:  # As `leave` does.
                finish(delivery)
                consumer.open = None
            if consumer.kept is not None and (message := again(consumer)) is not None:
                return message
        except Exception:
            place.failed()
        message = original(self)
        try:
            rejection = hand_out(consumer, message)
        except BaseException:
            place.failed(interrupted, consumer, message, only_theirs=True)
        if rejection is not None:
            raise rejection
        return message

    return __next__


class Deliveries:
    """The iterator of a consumer; everything else is the consumer's own."""

    __slots__ = ("_client", "_consumer", "_iteration", "_opened")

    def __init__(self, client: Iterator[Message], consumer: Consumer, iteration: Iteration) -> None:
        self._client = client
        self._consumer = consumer
        self._iteration = iteration
        self._opened: OpenDelivery | bool | None = None
        """What it has handed out last; True while it asks: an exception may come after something was opened."""

    def __iter__(self) -> Deliveries:
        return self

    def __next__(self) -> Message:
        self._opened = True
        message = next(self._client)
        self._opened = self._consumer.open
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __del__(self) -> None:
        try:
            if self._opened is True or self._opened is self._consumer.open:
                self._iteration.loop_left(self._consumer)
        except Exception:  # At interpreter exit even the guard may be gone.
            return


_PROXY_CODE = Deliveries.__next__.__code__
