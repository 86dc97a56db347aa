"""What each asyncio task has in hand of one consumer: several may share it, so a message or a batch is the task's."""

from __future__ import annotations

from contextvars import Context as EmptyContext
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Place

T = TypeVar("T")


class TasksInHand(Generic[T]):
    """The messages or batches in hand, by task. Used in the consumer's event loop, but for `now`.

    Args:
        finish: ends what is in hand; the exception is what has ended the task.
        place: counts what fails where a task ends.
    """

    __slots__ = ("_finish", "_held", "_place")

    def __init__(self, finish: Callable[[T, BaseException | None], object], place: Place) -> None:
        self._finish, self._place = finish, place
        self._held: WeakKeyDictionary[Task[Any], T | None] = WeakKeyDictionary()

    def hold(self, task: Task[Any], held: T) -> None:
        """Keep it until the task asks for the next one, or is done."""
        if task not in self._held:
            # An empty context: the present one would be kept until the task ends, and with it the message in hand.
            task.add_done_callback(self._task_done, context=EmptyContext())
        self._held[task] = held

    def take(self, task: Task[Any] | None) -> T | None:
        """Take from the task what it has in hand. The task stays known."""
        held = None if task is None else self._held.get(task)
        if task is not None and held is not None:
            self._held[task] = None
        return held

    def take_all(self) -> list[T]:
        """Take from all tasks what they have in hand; the tasks, which may go on for long, are let go."""
        found = [(task, held) for task, held in list(self._held.items())]
        self._held.clear()
        for task, _ in found:
            task.remove_done_callback(self._task_done)
        return [held for _, held in found if held is not None]

    def now(self) -> list[T]:
        """Return what is in hand. Any thread."""
        known: Any = self._held
        # Of the dictionary within: a list is made of it in one step, whatever the loop's thread does meanwhile.
        return [held for held in list(known.data.values()) if held is not None]

    def _task_done(self, task: Task[Any]) -> None:
        try:
            held = self._held.pop(task, None)
            if held is not None:
                self._finish(held, error_of(task))
        except Exception:
            self._place.failed()


def error_of(task: Task[Any]) -> BaseException | None:
    """Return what has ended the task. Calling `exception()` would keep asyncio from saying that nobody called it."""
    return getattr(task, "_exception", None) if task.done() and not task.cancelled() else None
