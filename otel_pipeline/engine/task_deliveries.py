"""What each asyncio task has in hand of one consumer: several tasks may share it, so a message is the task's."""

from __future__ import annotations

from contextvars import Context as EmptyContext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable

    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.guard import Place


class TaskDeliveries:
    """The messages in hand, by task. Used in the consumer's event loop.

    Args:
        finish: ends a delivery; the exception is what has ended the task that had it in hand.
        place: counts what fails where a task ends.
    """

    __slots__ = ("_finish", "_held", "_place")

    def __init__(self, finish: Callable[[OpenDelivery, BaseException | None], object], place: Place) -> None:
        self._finish, self._place = finish, place
        self._held: WeakKeyDictionary[Task[Any], OpenDelivery | None] = WeakKeyDictionary()

    def hold(self, task: Task[Any], delivery: OpenDelivery) -> None:
        """Keep the delivery until the task asks for the next one, or is done."""
        if task not in self._held:
            # An empty context: the present one would be kept until the task ends, and with it the message in hand.
            task.add_done_callback(self._task_done, context=EmptyContext())
        self._held[task] = delivery

    def take(self, task: Task[Any] | None) -> OpenDelivery | None:
        """Take from the task what it has in hand. The task stays known."""
        delivery = None if task is None else self._held.get(task)
        if task is not None and delivery is not None:
            self._held[task] = None
        return delivery

    def take_all(self) -> list[OpenDelivery]:
        """Take from all tasks what they have in hand; the tasks, which may go on for long, are let go."""
        found = [(task, delivery) for task, delivery in list(self._held.items())]
        self._held.clear()
        for task, _ in found:
            task.remove_done_callback(self._task_done)
        return [delivery for _, delivery in found if delivery is not None]

    def _task_done(self, task: Task[Any]) -> None:
        try:
            delivery = self._held.pop(task, None)
            if delivery is not None:
                self._finish(delivery, error_of(task))
        except Exception:
            self._place.failed()


def error_of(task: Task[Any]) -> BaseException | None:
    """Return what has ended the task. Calling `exception()` would keep asyncio from saying that nobody called it."""
    return getattr(task, "_exception", None) if task.done() and not task.cancelled() else None
