"""An asyncio consumer that returns many messages at once: each batch is in hand in the task that asked for it.

It ends when that task asks for more, or ends, and when the consumer stops. Nothing here awaits or blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from otel_pipeline.engine.async_loop import running_task
from otel_pipeline.engine.awaited_batch import hand_to_awaiting
from otel_pipeline.engine.receive import leave_batch
from otel_pipeline.engine.tasks_in_hand import TasksInHand

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.async_loop import AsyncIteration
    from otel_pipeline.engine.batch import Batch
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.engine import Engine


class AsyncBatches:
    """What an adapter calls around the client's own call; what it raises is the adapter's to count.

    Args:
        engine: the engine.
        iteration: knows which tasks run nothing but the call; its `own` has the call's code.
    """

    __slots__ = ("_engine", "_iteration", "_place")

    def __init__(self, engine: Engine, iteration: AsyncIteration) -> None:
        self._engine, self._iteration = engine, iteration
        self._place = engine.guard.place("batch")

    def leave(self, consumer: Consumer) -> None:
        """End the running task's batch: it asks for more."""
        batch = None if consumer.task_batches is None else consumer.task_batches.take(running_task())
        if batch is not None:
            leave_batch(self._engine, consumer, batch)
        # Handed to whoever has awaited a task of the call's own: nobody knows who asks now.
        leave_batch(self._engine, consumer)

    def leave_all(self, consumer: Consumer) -> None:
        """End every task's batch: the consumer stops."""
        for batch in () if consumer.task_batches is None else consumer.task_batches.take_all():
            leave_batch(self._engine, consumer, batch)
        leave_batch(self._engine, consumer)

    def hold(self, consumer: Consumer) -> None:
        """Let the running task have the batch in hand that `receiver` has just been told of."""
        batch, task = consumer.batch, running_task()
        if batch is None or task is None:
            return
        if self._iteration.runs_only_the_call(task):
            hand_to_awaiting(consumer, batch, task, self._engine.guard)
            return
        consumer.batch = None
        if consumer.task_batches is None:
            consumer.task_batches = TasksInHand(self._end_of(ref(consumer)), self._place)
        consumer.task_batches.hold(task, batch)

    def _end_of(self, known: ref[Consumer]) -> Callable[[Batch, BaseException | None], None]:
        def end(batch: Batch, _error: BaseException | None) -> None:
            consumer = known()
            if consumer is not None:
                leave_batch(self._engine, consumer, batch)

        return end
