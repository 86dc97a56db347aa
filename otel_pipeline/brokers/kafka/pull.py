"""A call of a Kafka client that returns many messages, by partition: what is told before it and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka.client import tell_unreadable
from otel_pipeline.engine.driven import leave_loops
from otel_pipeline.engine.receive import leave_batch, receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.engine.clients import Consumer


class Pull:
    """What an adapter calls around the client's own call; what it raises is the adapter's to count.

    Args:
        tell: called with (client, consumer, messages by partition) before these are counted, as what
            `teller_of_assignments` makes; it never raises.
        package: with `deserializers` as `tell_unreadable` has it.
        by_partition: sorts the list that the client returns; None where that is sorted already.
    """

    __slots__ = (
        "_by_partition",
        "_deserializers",
        "_driven",
        "_engine",
        "_monotonic_ns",
        "_package",
        "_received",
        "_tell_before",
    )

    def __init__(
        self,
        consumers: KafkaConsumers,
        tell: Callable[[Any, Consumer, Mapping[tuple[str, int], Sequence[Any]]], None],
        package: str,
        deserializers: frozenset[str] = frozenset(),
        by_partition: Callable[[Any], Mapping[tuple[str, int], Sequence[Any]]] | None = None,
    ) -> None:
        self._engine, self._monotonic_ns = consumers.engine, consumers.engine.monotonic_ns
        self._driven = consumers.drives.driven
        self._received = receiver(consumers.engine, consumers.fields)
        self._tell_before = tell
        self._by_partition = by_partition
        self._package, self._deserializers = package, deserializers

    def begin(self, client: Any, consumer: Consumer, *, by_iterator: bool) -> Any:
        """Leave the messages before; return those that the call before could not return, or None."""
        if consumer.kept is not None and (again := consumer.again(many=True)) is not None:
            if not again.told:
                self._tell(client, consumer, again.given, self._monotonic_ns(), by_iterator=by_iterator)
            consumer.kept = None
            return again.given
        if consumer.loops and not by_iterator:
            leave_loops(consumer)
        leave_batch(self._engine, consumer)
        consumer.polling.begin(self._monotonic_ns(), by_iterator=by_iterator)
        return None

    def end(self, client: Any, consumer: Consumer, records: Any, *, by_iterator: bool) -> Any:
        """Tell what the client has returned; returns it as the application is given it, to loop over."""
        began_ns = consumer.polling.began_ns
        consumer.polling.end(self._monotonic_ns())
        if not records:
            return records
        self._tell(client, consumer, records, began_ns, by_iterator=by_iterator)
        if self._by_partition is not None:
            return self._driven(consumer, records)
        for partition, messages in records.items() if not by_iterator else ():
            records[partition] = self._driven(consumer, messages)
        return records

    def failed(self, consumer: Consumer, error: BaseException, by_iterator: bool) -> None:  # noqa: FBT001
        """Tell what the client has raised."""
        began_ns = consumer.polling.began_ns
        consumer.polling.end(self._monotonic_ns())
        if isinstance(error, Exception):
            self._received(consumer, (), began_ns, error, by_iterator)
            tell_unreadable(self._engine, error, "consumer", self._package, self._deserializers)

    def interrupted(self, consumer: Consumer, records: Any, by_iterator: bool) -> None:  # noqa: FBT001
        """Keep for the next call what an exception of the application has kept this one from returning."""
        if records and not by_iterator:  # An iterator's position has not moved: the client fetches them again.
            consumer.keep(records, self._sorted(records), many=True, told=consumer.batch is not None)

    def _tell(self, client: Any, consumer: Consumer, records: Any, began_ns: int, *, by_iterator: bool) -> None:
        found = self._sorted(records)
        self._tell_before(client, consumer, found)
        self._received(consumer, tuple(found.values()), began_ns, None, by_iterator)

    def _sorted(self, records: Any) -> Mapping[tuple[str, int], Sequence[Any]]:
        found: Mapping[tuple[str, int], Sequence[Any]] = records
        return found if self._by_partition is None else self._by_partition(records)
