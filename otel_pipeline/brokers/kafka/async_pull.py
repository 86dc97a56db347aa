"""An asyncio call of a Kafka client that returns many messages, by partition: what is told before it and after it.

Several tasks may share a consumer: each has a call and a batch of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka.client import tell_unreadable
from otel_pipeline.engine.async_batches import AsyncBatches
from otel_pipeline.engine.driven import leave_loops
from otel_pipeline.engine.receive import leave_batch, receiver

if TYPE_CHECKING:
    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.engine.async_loop import AsyncIteration
    from otel_pipeline.engine.clients import Consumer


class AsyncPull:
    """What an adapter calls around the client's own call; what it raises is the adapter's to count.

    Args:
        package: with `deserializers` as `tell_unreadable` has it.
    """

    __slots__ = (
        "_deserializers",
        "_driven",
        "_engine",
        "_iteration",
        "_monotonic_ns",
        "_package",
        "_received",
        "batches",
    )

    def __init__(
        self, consumers: KafkaConsumers, iteration: AsyncIteration, package: str, deserializers: frozenset[str]
    ) -> None:
        self._engine, self._monotonic_ns = consumers.engine, consumers.engine.monotonic_ns
        self._iteration, self._driven = iteration, consumers.drives.driven
        self._received = receiver(consumers.engine, consumers.fields)
        self.batches = AsyncBatches(consumers.engine, iteration)
        self._package, self._deserializers = package, deserializers

    def begin(self, consumer: Consumer) -> int:
        """Leave what the running task has in hand; returns now, ns of the engine's monotonic clock."""
        self._iteration.leave(consumer)
        if consumer.loops:
            leave_loops(consumer, of_task=True)
        self.batches.leave(consumer)
        return self._monotonic_ns()

    def end(self, consumer: Consumer, records: Any, began_ns: int) -> None:
        """Tell what the client has returned: lists of messages by partition."""
        if records:
            leave_batch(self._engine, consumer)  # Of another task that nobody knows.
            self._received(consumer, tuple(records.values()), began_ns, None, False)
            self.batches.hold(consumer)
            for partition, messages in records.items():
                records[partition] = self._driven(consumer, messages)

    def failed(self, consumer: Consumer, error: BaseException, began_ns: int) -> None:
        """Tell what the client has raised."""
        if isinstance(error, Exception):
            self._received(consumer, (), began_ns, error, False)
            tell_unreadable(self._engine, error, "consumer", self._package, self._deserializers)
