"""The loops of faust's agents: each event has its process span until the next is asked for, or the loop is left.

Generators of asyncio run in the context of whoever asks them, so what begins where faust takes an event out of its
channel is current in faust's processors (`through`, `group_by`, filters) and then in the agent.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from otel_pipeline.engine.async_loop import running_task
from otel_pipeline.engine.process import Processing
from otel_pipeline.engine.tasks_in_hand import error_of

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Awaitable, Callable

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place

_of_actor: ContextVar[list[InHand] | None] = ContextVar("otel_pipeline.faust", default=None)
"""What the running actor of an agent has in hand, loop by loop. A task that it starts has the same list."""


class InHand:
    """What one loop has in hand. Used in the loop's own task, and where that is left."""

    __slots__ = ("_messages", "_place", "_processing", "_task")

    def __init__(self, place: Place) -> None:
        self._place = place
        self._messages: Any = None
        self._processing: Processing | None = None
        self._task: Task[Any] | None = None

    def begin(self, messages: Any, client: Any) -> None:
        """Begin a message, or a list of them."""
        self.end(None)
        task, mine = running_task(), _of_actor.get()
        if task is not self._task:
            self._task = task
        if mine is not None and self not in mine:
            mine.append(self)
        self._messages, processing = messages, Processing(messages, client)
        self._processing = processing
        processing.begin()

    def end(self, error: BaseException | None) -> None:
        """End it, where there is something in hand."""
        processing, self._processing, self._messages = self._processing, None, None
        if processing is not None:
            processing.finish(error)

    def out(self, message: Any) -> None:
        """End it, if it is this message: a filter has stopped it, and the agent is not given it."""
        if self._messages is message and self._task is running_task():
            self.end(None)

    def refusal(self) -> Exception | None:
        """Return what is to be raised in place of the handling."""
        return None if self._processing is None else self._processing.refusal

    def failed(self, task: Task[Any] | None, error: BaseException) -> None:
        """End it with what has ended the task, if it is that task's."""
        if self._task is task:
            self.end(error)

    def left(self) -> None:
        """Leave it: the loop is dropped. What then ends the task is the handler's own, so the span waits for it."""
        processing, task = self._processing, self._task
        if processing is None or task is None or task is not running_task():
            self._forget(None)
            return
        processing.suspend()
        task.get_loop().call_soon(self._left, task)

    def _left(self, task: Task[Any]) -> None:
        try:
            self._forget(error_of(task))
        except Exception:
            self._place.failed()

    def _forget(self, error: BaseException | None) -> None:
        mine = _of_actor.get()
        if mine is not None and self in mine:
            mine.remove(self)
        self.end(error)


class Loop:
    """The iterator of a stream, or of its batches; everything else is faust's own.

    Args:
        taken: called before a batch is asked for; None for a stream, whose events begin where faust takes them.
        begin: called with the iterator once it has given a batch.
    """

    __slots__ = ("_begin", "_in_hand", "_iterator", "_place", "_taken")

    def __init__(
        self,
        iterator: Any,
        in_hand: InHand,
        place: Place,
        taken: Callable[[], object] | None = None,
        begin: Callable[[Any, InHand], object] | None = None,
    ) -> None:
        self._iterator, self._in_hand, self._place = iterator, in_hand, place
        self._taken, self._begin = taken, begin

    def __aiter__(self) -> Loop:
        return self

    async def __anext__(self) -> Any:
        in_hand, refusal = self._in_hand, None
        try:
            in_hand.end(None)
            if self._taken is not None:
                self._taken()
        except Exception:
            self._place.failed()
        item = await self._iterator.__anext__()
        try:
            if self._begin is not None:
                self._begin(self._iterator, in_hand)
            refusal = in_hand.refusal()
        except Exception:
            self._place.failed()
        if refusal is not None:
            raise refusal
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __del__(self) -> None:
        try:
            self._in_hand.left()
        except Exception:  # At interpreter exit even the guard may be gone.
            return


class Handling:
    """The replacements of the methods that hand events to agents."""

    __slots__ = ("_by_stream", "_engine", "_place", "_taken")

    def __init__(self, engine: Engine, place: Place) -> None:
        self._engine, self._place = engine, place
        self._by_stream: WeakKeyDictionary[Any, InHand] = WeakKeyDictionary()
        self._taken: WeakSet[Any] = WeakSet()
        """Streams whose events faust collects: they are in hand as batches."""

    def make_aiter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Make the replacement of `Stream.__aiter__`."""

        @functools.wraps(original)
        def __aiter__(stream: Any) -> Any:  # noqa: N807
            iterator = original(stream)
            try:
                if self._engine.active and not self._place.off:
                    in_hand = self._by_stream[stream] = InHand(self._place)
                    return Loop(iterator, in_hand, self._place)
            except Exception:
                self._place.failed()
            return iterator

        return __aiter__

    def make_take(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Make the replacement of a method that gives batches."""

        @functools.wraps(original)
        def take(stream: Any, *args: Any, **kwargs: Any) -> Any:
            iterator = original(stream, *args, **kwargs)
            try:
                if self._engine.active and not self._place.off:
                    taken = functools.partial(self._taken.add, stream)
                    begin = functools.partial(self._begin_batch, stream)
                    return Loop(iterator, InHand(self._place), self._place, taken, begin)
            except Exception:
                self._place.failed()
            return iterator

        return take

    def make_event_in(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Make the replacement of what faust tells its sensors of an event that a stream has taken."""

        @functools.wraps(original)
        def on_stream_event_in(delegate: Any, tp: Any, offset: Any, stream: Any, event: Any) -> Any:
            state = original(delegate, tp, offset, stream, event)
            try:
                if self._engine.active and not self._place.off:
                    in_hand, message = self._by_stream.get(stream), event.message
                    if in_hand is not None and stream not in self._taken and type(message) in self._engine.clients:
                        in_hand.begin(message, _client_of(stream))
            except Exception:
                self._place.failed()
            return state

        return on_stream_event_in

    def make_event_out(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Make the replacement of what faust tells its sensors of an event that a stream is done with."""

        @functools.wraps(original)
        def on_stream_event_out(
            delegate: Any, tp: Any, offset: Any, stream: Any, event: Any, *state: Any, **more: Any
        ) -> Any:
            try:
                in_hand = self._by_stream.get(stream)
                if in_hand is not None:
                    in_hand.out(event.message)
            except Exception:
                self._place.failed()
            return original(delegate, tp, offset, stream, event, *state, **more)

        return on_stream_event_out

    def make_execute(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Make the replacement of what runs an agent: what it raises is on the span of what it has in hand."""

        @functools.wraps(original)
        def _execute_actor(agent: Any, coro: Any, aref: Any) -> Any:
            return original(agent, self._told(coro), aref)

        return _execute_actor

    async def _told(self, coro: Awaitable[Any]) -> Any:
        mine: list[InHand] = []
        _of_actor.set(mine)
        try:
            return await coro
        except BaseException as error:
            self._place.told(_tell, mine, running_task(), error)
            raise

    def _begin_batch(self, stream: Any, iterator: Any, in_hand: InHand) -> None:
        # The values may be anything; which events they come from stands in the generator alone.
        events = iterator.ag_frame.f_locals.get("events")
        if events is None:
            self._engine.guard.problem(
                "faust.take", "faust: take() does not keep its events as known; its batches have no process span"
            )
            return
        messages = [each.message for each in events if type(each.message) in self._engine.clients]
        if messages and self._engine.active and not self._place.off:
            in_hand.begin(messages, _client_of(stream))


def _tell(mine: list[InHand], task: Task[Any] | None, error: BaseException) -> None:
    for in_hand in mine:
        in_hand.failed(task, error)


def _client_of(stream: Any) -> Any:
    """Return the client that a stream's messages come from; None where that is not as known: the partition tells."""
    return getattr(getattr(stream.app.consumer, "_thread", None), "_consumer", None)
