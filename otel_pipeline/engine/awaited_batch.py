"""A batch that a pool's thread polls for somebody else, as `await asyncio.to_thread(consumer.poll)` does.

What the thread puts into its own context does not reach the application: that context is gone by then, or it is the
thread's, which works for others next. So the batch is put into the contexts of the tasks that await the call. Where
none is found, as with a plain `pool.submit(consumer.poll).result()`, nobody knows who has the batch in hand: until the
next one no data is said to begin here.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import thread as _thread
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_pipeline.engine import event_loop
from otel_pipeline.engine.batch import Batch, batch_in_hand
from otel_pipeline.engine.delivery import back_to, in_hand

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Iterator
    from contextvars import Context
    from types import FrameType

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.origin import Origin

_RUN = getattr(getattr(_thread, "_WorkItem", None), "run", None)
_CODE = getattr(_RUN, "__code__", None)
_OWN = f"{__name__.partition('.')[0]}."
_DEPTH = 4
"""How many functions of the application may stand between the pool and the call; how many tasks await each other."""

strays: set[ref[Consumer]] = set()
"""Consumers whose batch nobody knows who has in hand."""


def hand_over(consumer: Consumer, batch: Batch, guard: Guard) -> None:
    """Put the batch into the context of whoever handles it: the calling code, or the tasks that await it."""
    consumer.batch = batch
    item, direct = _work_item()
    if not direct:
        batch_in_hand.set(batch)
    if item is not None:
        _done(item, guard).has_polled(consumer, batch, direct=direct)


def hand_on(consumer: Consumer, origin: Origin, guard: Guard) -> None:
    """Put where one message's data began into the tasks that await the pool's call that has asked for it.

    Elsewhere nothing happens: the message is in hand where it was asked for.
    """
    item, direct = _work_item()
    if item is None:
        return
    if consumer.batch is not None:
        take_back(consumer, consumer.batch)
    consumer.batch = batch = Batch(origin)
    _done(item, guard).has_polled(consumer, batch, direct=direct)


def _done(item: Any, guard: Guard) -> _Polled:
    """Find or make what is told when a pool's item is done."""
    done = next((each for each in item.future._done_callbacks if isinstance(each, _Polled)), None)
    if done is None:
        done = _Polled(item, guard)
        item.future.add_done_callback(done)
    return done


def take_back(consumer: Consumer, batch: Batch) -> None:
    """Take it out of these contexts: the application asks for more, or closes."""
    if consumer.batch is batch:
        consumer.batch = None
    if strays:
        strays.discard(ref(consumer))
    if batch_in_hand.get() is batch:
        batch_in_hand.set(None)
    if batch.awaited is not None:
        (loop, contexts), batch.awaited = batch.awaited, None
        with suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(_change, contexts, batch, None)


def hand_to_awaiting(consumer: Consumer, batch: Batch, task: Task[Any], guard: Guard) -> None:
    """Put a batch that a task of the call's own has polled into the contexts of the tasks that await it."""
    contexts = list(_contexts(task, _DEPTH))
    if contexts:
        batch.awaited = task.get_loop(), contexts
        _change(contexts, None, batch)
        return
    lose(consumer, guard, "a task of its own")


def lose(consumer: Consumer, guard: Guard, where: str) -> None:
    """Note that nobody knows who handles what was polled: no data is said to begin here until more is asked for."""
    strays.add(ref(consumer, strays.discard))
    guard.problem(
        "batch.pool",
        f"messages were polled by {where}, and nothing tells who handles them: what is sent meanwhile has an unknown "
        "origin; handle them in `with otel_pipeline.process(message)`",
    )


class FromLoop(partial[Any]):
    """What an event loop's thread gives to a pool: whoever awaits it may not be known yet when it runs."""

    loop: AbstractEventLoop


class _Polled:
    """What an item of a pool has polled last, and the callback of its future, which the pool's thread calls."""

    __slots__ = ("_direct", "_guard", "_handed", "_item", "_polled")

    def __init__(self, item: Any, guard: Guard) -> None:
        self._item = item
        self._guard = guard
        self._handed = False
        self._polled: tuple[Consumer, Batch] | None = None

    def has_polled(self, consumer: Consumer, batch: Batch, *, direct: bool) -> None:
        self._polled, self._direct = (consumer, batch), direct
        self._handed = self._tell_loop(consumer, batch)

    def __call__(self, _future: object) -> None:
        try:
            batch_in_hand.set(None)  # The thread works for others next.
            self._leave_message()
            if self._polled is not None and not self._handed and not self._tell_loop(*self._polled):
                self._lose(*self._polled)
            elif self._polled is not None and self._direct:
                self._claim_nothing_yet(*self._polled)
        except Exception:  # The future would write it into the application's log.
            self._guard.place("batch.pool").failed()
        self._item = self._polled = None

    def _claim_nothing_yet(self, consumer: Consumer, batch: Batch) -> None:
        """Let no data be said to begin here until the loop has found who awaits the call: a coroutine may block it."""
        if batch.awaited is None and consumer.batch is batch and next(_destinations(self._item.future), None) is None:
            strays.add(ref(consumer, strays.discard))
            if batch.awaited is not None or consumer.batch is not batch:  # By now.
                strays.discard(ref(consumer))

    def _leave_message(self) -> None:
        """Let nothing be current in the pool's thread that a message of this consumer has brought there."""
        delivery = in_hand()
        if delivery is not None and self._polled is not None and delivery is self._polled[0].open and delivery.is_here:
            back_to(delivery.before)

    def _tell_loop(self, consumer: Consumer, batch: Batch) -> bool:
        """Ask the loop to find who awaits it between two steps of its tasks, before it learns that the call is done.

        The pool's thread may be here before `run_in_executor`, which has submitted the call, has made the future that
        is awaited: it has when the loop takes its next step.
        """
        try:
            of_pool = self._item.future
            future = next(_destinations(of_pool), None)
            given = getattr(self._item, "fn", None)
            loop = future.get_loop() if future is not None else given.loop if isinstance(given, FromLoop) else None
            if loop is None:
                return False
            loop.call_soon_threadsafe(self._hand, consumer, batch, of_pool, loop)
        except RuntimeError:
            return False  # The loop is closed.
        except Exception:  # A version of Python that keeps it otherwise.
            self._guard.place("batch.pool").failed()
            return False
        return True

    def _hand(self, consumer: Consumer, batch: Batch, of_pool: Any, loop: AbstractEventLoop) -> None:
        try:
            future = next(_destinations(of_pool), None) or _about_to_be_set(loop, of_pool)
            contexts = list(_contexts(future, _DEPTH)) if consumer.batch is batch else []
            if contexts:
                batch.awaited = loop, contexts
                strays.discard(ref(consumer))
                _change(contexts, None, batch)
            else:
                self._lose(consumer, batch)
        except Exception:
            self._guard.place("batch.pool").failed()

    def _lose(self, consumer: Consumer, batch: Batch) -> None:
        if not self._direct or consumer.batch is not batch:
            return
        lose(consumer, self._guard, "a pool's thread")


def _change(contexts: list[Context], old: Batch | None, new: Batch | None) -> None:
    for context in contexts:
        if old is None or context.get(batch_in_hand) is old:
            with suppress(RuntimeError):  # The context is entered: somebody runs a loop inside of a loop.
                context.run(batch_in_hand.set, new)


def _work_item() -> tuple[Any, bool]:
    """Find the pool's item that runs here, if there is one, and whether it is the client's call itself."""
    if threading.get_ident() == threading.main_thread().ident:
        return None, False
    frame: FrameType | None = sys._getframe(1)
    between = 0
    while frame is not None and between <= _DEPTH:
        if frame.f_code is _CODE:
            return frame.f_locals.get("self"), between == 0
        if not str(frame.f_globals.get("__name__")).startswith(_OWN):
            between += 1
        frame = frame.f_back
    return None, False


def _destinations(of_pool: Any) -> Iterator[Any]:
    """Find the futures of asyncio that are done when the pool's future is."""
    for callback in list(of_pool._done_callbacks):
        yield from _futures(callback)


def _about_to_be_set(loop: Any, of_pool: Any) -> Any:
    """Find the future of asyncio that was chained to one that was done already: setting it is the loop's to do."""
    for handle in list(getattr(loop, "_ready", ())):
        args = getattr(handle, "_args", None) or ()
        if any(each is of_pool for each in args):
            return next((each for each in args if event_loop.is_future(each)), None)
    return None


def _contexts(future: Any, depth: int) -> Iterator[Context]:
    from asyncio import Task  # The program has imported it: the future is its.

    for callback, context in list(getattr(future, "_callbacks", None) or ()) if depth else ():
        task = getattr(callback, "__self__", None)
        if isinstance(task, Task):
            yield context  # The task's own: it goes on in there.
            yield from _contexts(task, depth - 1)
        else:
            for other in _futures(callback):  # As of `gather` and `wait_for`.
                if other is not future:
                    yield from _contexts(other, depth - 1)


def _futures(callback: Any) -> list[Any]:
    """Find the futures of asyncio that a callback of asyncio's own will complete."""
    reached = list(getattr(callback, "args", ()))
    for cell in getattr(callback, "__closure__", None) or ():
        with suppress(ValueError):  # A cell that is empty.
            reached.append(cell.cell_contents)
    return [each for each in reached if event_loop.is_future(each)]
