"""Messages reach the application: counted each, one CLIENT span a pull, linked to what created them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine.batch import PolledBatch, hand_out_batches
from otel_pipeline.engine.delivery import ambient, heal
from otel_pipeline.engine.engine import with_error
from otel_pipeline.engine.polling import Polling
from otel_pipeline.engine.spans import SPAN_KEY, LightLink
from otel_pipeline.engine.trust import continues, is_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.observer import FetchObserver, PartitionObserver
    from otel_pipeline.engine.totals import AttributeValue, CounterCell, HistogramCell, ThreadCells

MAX_PARTITION_STATES = 10_000


def _unknown_cluster() -> str | None:
    return None


def _unknown_positions() -> Mapping[tuple[str, int], int | None]:
    return {}


class PartitionState:
    """What is the same for every message of one partition at one consumer; made once, dropped with the consumer."""

    __slots__ = (
        "assignment",
        "attributes",
        "consumed",
        "continues",
        "destination",
        "handed_offset",
        "is_foreign",
        "observer",
        "partition",
        "process_attributes",
        "process_duration",
        "sender_is_parent",
        "span_name",
    )

    def __init__(self, engine: Engine, consumer: Consumer, destination: str, partition: int) -> None:
        self.destination = destination
        self.partition = partition
        self.handed_offset = -1
        self.span_name = f"process {destination}"
        self.attributes: dict[str, AttributeValue] = {
            **consumer.attributes,
            semconv.MESSAGING_OPERATION_NAME: "process",
            semconv.MESSAGING_OPERATION_TYPE: "process",
            semconv.MESSAGING_DESTINATION_NAME: destination,
            semconv.MESSAGING_DESTINATION_PARTITION_ID: str(partition),
        }
        metric_attributes = {
            **consumer.metric_attributes,
            semconv.MESSAGING_DESTINATION_NAME: engine.metric_destination(destination),
        }
        self.consumed: CounterCell = engine.consumed.cell(
            {**metric_attributes, semconv.MESSAGING_OPERATION_NAME: consumer.operation}, owner=consumer
        )
        self.process_attributes = {**metric_attributes, semconv.MESSAGING_OPERATION_NAME: "process"}
        self.process_duration: ThreadCells[HistogramCell] = engine.process_duration.local(self.process_attributes)
        self.observer: PartitionObserver | None = None
        self.continues = continues(engine.settings, destination)
        self.is_foreign = is_foreign(engine.settings, destination)
        self.sender_is_parent = self.continues is None and engine.settings.process_parent == "message"
        """Whether that is so without a look at the message, but for its age and its hops."""
        self.assignment: object = None
        """Of the client's: the same as long as the partition stays assigned."""


class Consumer:
    """One consumer client, as far as the engine knows it. Used by one thread at a time, as the clients demand."""

    __slots__ = (
        "__weakref__",
        "_cluster_id",
        "attributes",
        "engine",
        "excluded",
        "explicit",
        "fetches",
        "fields",
        "iterator_spans",
        "metric_attributes",
        "open",
        "operation",
        "partitions",
        "polled",
        "polling",
        "positions",
        "rejection",
    )

    def __init__(
        self,
        engine: Engine,
        fields: MessageFields,
        *,
        attributes: Mapping[str, AttributeValue],
        client_id: str | None,
        group: str | None,
        excluded: bool,
        operation: str,
        cluster_id: Callable[[], str | None] = _unknown_cluster,
        positions: Callable[[], Mapping[tuple[str, int], int | None]] = _unknown_positions,
    ) -> None:
        self.engine = engine
        self.positions = positions
        """The next offset of each partition that is assigned, None where it is not known yet. No I/O; any thread."""
        self.fields = fields
        self._cluster_id = cluster_id
        self.excluded = excluded
        self.operation = operation
        self.metric_attributes: dict[str, AttributeValue] = dict(attributes)
        if group:
            self.metric_attributes[semconv.MESSAGING_CONSUMER_GROUP_NAME] = group
        self.attributes = dict(self.metric_attributes)
        if client_id:
            self.attributes[semconv.MESSAGING_CLIENT_ID] = client_id
        self.partitions: dict[tuple[str, int], PartitionState] = {}
        self.open: OpenDelivery | None = None
        self.iterator_spans = True
        self.explicit = False
        """Whether the application says itself, with `process()`, when a message is processed."""
        self.polled: PolledBatch | None = None
        self.rejection: Exception | None = None
        self.polling = Polling(engine.monotonic_ns())
        self.fetches: dict[tuple[str, int], FetchObserver] = {}

    def fetch_observer(self, destination: str, partition: int) -> FetchObserver | None:
        """Who is told of a partition's fetches; from the client's own thread, before the first message."""
        known = self.fetches.get((destination, partition))
        engine = self.engine
        if known is not None or engine.observe_fetches is None or self.excluded:
            return known
        if len(self.fetches) >= MAX_PARTITION_STATES or engine.settings.excludes_destination(destination):
            return None
        self._learn_cluster()
        return engine.observe_fetches(self, destination, partition)

    def close(self) -> None:
        """The application is done with the client."""
        self.positions = _unknown_positions
        self.partitions.clear()
        self.fetches.clear()

    def partition(self, destination: str, partition: int) -> PartitionState:
        """The state of a partition, made at its first message."""
        try:
            return self.partitions[destination, partition]
        except KeyError:
            if len(self.partitions) >= MAX_PARTITION_STATES:
                self.partitions.clear()
            self._learn_cluster()
            state = PartitionState(self.engine, self, destination, partition)
            self.partitions[destination, partition] = state
            if self.engine.observe is not None:
                try:
                    state.observer = self.engine.observe(self, state)
                except Exception:
                    self.engine.guard.failed("observe")
            return state

    def _learn_cluster(self) -> None:
        """Where a message has arrived, the client knows its cluster, if it ever does."""
        if semconv.MESSAGING_KAFKA_CLUSTER_ID not in self.attributes and (cluster := self._cluster_id()):
            self.attributes[semconv.MESSAGING_KAFKA_CLUSTER_ID] = cluster
            self.metric_attributes[semconv.MESSAGING_KAFKA_CLUSTER_ID] = cluster


class CreationLinks(Sequence[Link]):
    """Links to the creation contexts of sampled messages, read only if the span is recorded."""

    def __init__(self, engine: Engine, headers: Callable[[Message], Any], batches: Iterable[Sequence[Message]]) -> None:
        self._engine = engine
        self._headers = headers
        self._batches = batches
        self._links: list[Link] | None = None

    def _read(self) -> list[Link]:
        if self._links is None:
            self._links = list(self._sampled())[: self._engine.settings.max_links]
        return self._links

    def _sampled(self) -> Iterable[Link]:
        propagation, limit, count = self._engine.propagation, self._engine.settings.max_links, 0
        nothing = Context()
        for batch in self._batches:
            for message in batch:
                headers = self._headers(message)
                if not headers or not propagation.sampled(headers):
                    continue
                created = propagation.incoming(headers, nothing)[0]
                if created is not None:
                    yield LightLink(created)
                    count += 1
                    if count >= limit:
                        return

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Link: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Link]: ...
    def __getitem__(self, index: int | slice) -> Link | Sequence[Link]:
        return self._read()[index]


def receiver(
    engine: Engine, fields: MessageFields
) -> Callable[[Consumer, Sequence[Sequence[Any]], int, BaseException | None, bool], None]:
    """A function that is told what a pull returned.

    It is called with (consumer, batches of one partition each, started_ns, error, by_iterator); an iterator hands the
    messages out later, one by one. Nothing is recorded for a pull that returned no message. It never raises.
    """
    guard, monotonic_ns = engine.guard, engine.monotonic_ns

    def received(
        consumer: Consumer,
        batches: Sequence[Sequence[Any]],
        started_ns: int,
        error: BaseException | None = None,
        by_iterator: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        try:
            if consumer.excluded or not engine.active:
                return
            elapsed_ns = monotonic_ns() - started_ns
            if error is None:
                names = _count(engine, fields, consumer, batches)
                if not names:
                    return
            else:
                names = set()
            _record_pull(engine, consumer, names, elapsed_ns, error)
            if error is None and not by_iterator:
                hand_out_batches(engine, fields, consumer, batches)
            if error is None and engine.settings.receive_spans:
                _receive_span(engine, fields, consumer, batches, names, elapsed_ns)
        except Exception:
            guard.failed("receive")

    return received


def _count(engine: Engine, fields: MessageFields, consumer: Consumer, batches: Sequence[Sequence[Any]]) -> set[str]:
    """Count each batch under its destination; returns the destinations that are not excluded."""
    names = set()
    for batch in batches:
        first = batch[0]
        destination = fields.destination(first)
        if engine.settings.excludes_destination(destination):
            continue
        consumer.partition(destination, fields.partition(first)).consumed.value += len(batch)
        names.add(destination)
    return names


def _record_pull(
    engine: Engine, consumer: Consumer, names: set[str], elapsed_ns: int, error: BaseException | None
) -> None:
    attributes: dict[str, AttributeValue] = {
        **consumer.metric_attributes,
        semconv.MESSAGING_OPERATION_NAME: consumer.operation,
        semconv.MESSAGING_OPERATION_TYPE: "receive",
    }
    if len(names) == 1:
        attributes[semconv.MESSAGING_DESTINATION_NAME] = engine.metric_destination(next(iter(names)))
    if error is not None:
        attributes = with_error(attributes, error)
    engine.operation_duration.local(attributes).cell.record(elapsed_ns / 1e9)


def _receive_span(
    engine: Engine,
    fields: MessageFields,
    consumer: Consumer,
    batches: Sequence[Sequence[Any]],
    names: set[str],
    elapsed_ns: int,
) -> None:
    """One CLIENT span a pull, made when it is known that there were messages."""
    context = ambient(heal())
    parent: Any = context.get(SPAN_KEY)
    if engine.suppressed(context) or engine.spans.dropped(parent) is not None:
        return
    judged = [batch for batch in batches if fields.destination(batch[0]) in names]
    attributes: dict[str, AttributeValue] = {
        **consumer.attributes,
        semconv.MESSAGING_OPERATION_NAME: consumer.operation,
        semconv.MESSAGING_OPERATION_TYPE: "receive",
        semconv.MESSAGING_BATCH_MESSAGE_COUNT: sum(map(len, judged)),
    }
    name = consumer.operation
    if len(names) == 1:
        destination = next(iter(names))
        attributes[semconv.MESSAGING_DESTINATION_NAME] = destination
        name = f"{name} {destination}"
        if len(judged) == 1:
            attributes[semconv.MESSAGING_DESTINATION_PARTITION_ID] = str(fields.partition(judged[0][0]))
    end_ns = engine.clock_ns()
    links = CreationLinks(engine, fields.headers, judged)
    span = engine.spans.start(name, SpanKind.CLIENT, parent, context, attributes, links, end_ns - elapsed_ns)
    span.end(end_ns)
