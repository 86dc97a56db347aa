"""An asyncio consumer that hands out messages one by one: each is open in the task that asked for it.

Several tasks may share one consumer, so the open message is the task's and not the consumer's. It ends when that task
asks for the next one, leaves its `async for`, or ends, and when the consumer stops. Nothing here awaits or blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import event_loop
from otel_pipeline.engine.awaited_batch import hand_to_awaiting
from otel_pipeline.engine.batch import Batch
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.tasks_in_hand import TasksInHand, error_of

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import AsyncIterator
    from types import CodeType

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.consumer_loop import Iteration
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.messages import Message
    from otel_pipeline.engine.processor import Processor


class AsyncIteration:
    """What an adapter calls around the client's own `getone`, `__anext__` and the like. Nothing here raises."""

    __slots__ = ("_guard", "_iteration", "_monotonic_ns", "_place", "_processor", "own")

    def __init__(self, iteration: Iteration, processor: Processor) -> None:
        self._iteration = iteration
        self._processor = processor
        self._guard, self._place = iteration.engine.guard, iteration.engine.guard.place("iterate")
        self._monotonic_ns = iteration.engine.monotonic_ns
        self.own: set[CodeType] = set()
        """The code of coroutine functions that hand out a message. Where a task runs nothing but one of these, as
        `create_task(consumer.getone())` does, no context reaches the code that handles the message."""

    def leave(self, consumer: Consumer) -> None:
        """Finish the running task's message: the task asks for another one, so it has handled this one."""
        try:
            delivery = None if consumer.tasks is None else consumer.tasks.take(running_task())
            if delivery is not None:
                self._processor.finish(delivery)
        except Exception:
            self._place.failed()

    def leave_all(self, consumer: Consumer) -> None:
        """Finish every task's message: the consumer stops."""
        try:
            for delivery in () if consumer.tasks is None else consumer.tasks.take_all():
                self._processor.finish(delivery)
        except Exception:
            self._place.failed()

    def hand_out(self, consumer: Consumer, message: Message) -> Exception | None:
        """Begin the message that is about to be returned to the running task; returns what is to be raised instead."""
        rejection, wanted = None, consumer.iterator_spans
        try:
            if self._place.off:
                return None
            task = running_task()
            hidden = task is not None and self._hides_context(task)
            if task is None or hidden:
                consumer.iterator_spans = False
            rejection = self._iteration.hand_out(consumer, message)
            delivery, consumer.open = consumer.open, None
            if hidden and task is not None and not consumer.excluded and consumer.engine.active:
                consumer.batch = Batch(self._iteration.origin(consumer, message))  # Who awaits it rests on its data.
                hand_to_awaiting(consumer, consumer.batch, task, self._guard)
            if delivery is not None and task is not None:
                if consumer.tasks is None:
                    consumer.tasks = TasksInHand(self._processor.finish, self._place)
                consumer.tasks.hold(task, delivery)
        except Exception:
            self._place.failed()
        finally:
            consumer.iterator_spans = wanted
        return rejection

    def deliveries(self, client: Any, consumer: Consumer) -> AsyncDeliveries:
        """Return what `aiter(client)` is to return."""
        return AsyncDeliveries(client, consumer, self)

    def loop_left(self, task: Task[Any] | None, consumer: Consumer) -> None:
        """Finish the message of a task that has left its `async for`. What then ends the task is the handler's own.

        Never raises.
        """
        try:
            self._loop_left(task, consumer)
        except Exception:
            self._place.failed()

    def _loop_left(self, task: Task[Any] | None, consumer: Consumer) -> None:
        delivery = None if consumer.tasks is None else consumer.tasks.take(task)
        if delivery is None or task is None:
            return
        if get_current() is not delivery.own or task is not running_task():
            self._processor.finish(delivery)
            return
        # The context ends here; the span, as of now, when it is known whether an exception has ended the task.
        attach(delivery.before)
        task.get_loop().call_soon(self._finish, task, delivery, self._monotonic_ns())

    def _finish(self, task: Task[Any], delivery: OpenDelivery, left_ns: int) -> None:
        try:
            delivery.started_ns += self._monotonic_ns() - left_ns
            self._processor.finish(delivery, error_of(task))
        except Exception:
            self._place.failed()

    def runs_only_the_call(self, task: Task[Any]) -> bool:
        """Tell whether it is a task of the call's own."""
        return getattr(task.get_coro(), "cr_code", None) in self.own

    def _hides_context(self, task: Task[Any]) -> bool:
        if not self.runs_only_the_call(task):
            return False
        name = getattr(task.get_coro(), "__name__", "the call")
        self._guard.problem(
            "async.own_task",
            f"{name}() runs in a task of its own, as create_task() and, up to Python 3.11, wait_for() run it: "
            "its messages have no process span; handle them in `with otel_pipeline.process(message)`",
        )
        return True


def running_task() -> Task[Any] | None:
    """Return the task that calls; None outside of one."""
    loop = event_loop.running_loop()
    task: Task[Any] | None = None if loop is None else event_loop.task_of(loop)
    return task


class AsyncDeliveries:
    """The asynchronous iterator of a consumer; everything else is the consumer's own."""

    __slots__ = ("_client", "_consumer", "_iteration", "_task")

    def __init__(self, client: Any, consumer: Consumer, iteration: AsyncIteration) -> None:
        self._client = client
        self._consumer = consumer
        self._iteration = iteration
        self._task = running_task()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    def __anext__(self) -> Any:
        # The client's own coroutine: one of ours in between would hide whose task it is.
        return type(self._client).__anext__(self._client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __del__(self) -> None:
        try:
            self._iteration.loop_left(self._task, self._consumer)
        except Exception:  # At interpreter exit even the guard may be gone.
            return
