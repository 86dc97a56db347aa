"""The engine's side of clients: what is the same for all messages of one consumer, producer, partition or destination.

Each is made once; what changes from message to message is in plain slots.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.trace import SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine.engine import Acknowledged
from otel_pipeline.engine.foreign_baggage import foreign_baggage
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.ids import getrandbits
from otel_pipeline.engine.kept import Kept, standing
from otel_pipeline.engine.messages import NO_NAMES
from otel_pipeline.engine.pipeline_header import ENVIRONMENT_CODES
from otel_pipeline.engine.span_shape import ORIGIN_NAMES, SpanShape
from otel_pipeline.engine.trust import continues, is_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_pipeline.engine import pipeline_header
    from otel_pipeline.engine.batch import Batch, Loop
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import MessageFields, SystemNames
    from otel_pipeline.engine.observer import FetchObserver, PartitionObserver
    from otel_pipeline.engine.sequence import Sequences
    from otel_pipeline.engine.tasks_in_hand import TasksInHand
    from otel_pipeline.engine.totals import AttributeValue, CounterCell, HistogramCell, ThreadCells

MAX_PARTITION_STATES = 10_000
RECENT = 33
MAX_POLL_INTERVAL_S = 300.0
"""Kafka's default."""


def _unknown_cluster() -> str | None:
    return None


def _nowhere(_answer: Any) -> tuple[int | None, int | None]:
    return None, None


class Position(NamedTuple):
    """Where a consumer stands in a partition that it has been assigned."""

    offset: int | None
    """Of the next message; None where it is not known yet."""
    paused: bool = False
    """Whether the application has asked not to be given its messages for now."""


def _unknown_positions() -> Mapping[tuple[str, int], Position]:
    return {}


def _no_member() -> bool:
    return False


class PartitionState:
    """What is the same for every message of one partition at one consumer; made once, dropped with the consumer."""

    __slots__ = (
        "attributes",
        "consumed",
        "continues",
        "destination",
        "foreign_baggage",
        "handed_offset",
        "home_code",
        "is_foreign",
        "observer",
        "partition",
        "process_attributes",
        "process_duration",
        "sender_is_parent",
        "shape",
    )

    def __init__(self, engine: Engine, consumer: Consumer, destination: str, partition: int) -> None:
        self.destination = destination
        self.partition = partition
        self.handed_offset = -1
        self.attributes: dict[str, AttributeValue] = {
            **consumer.attributes,
            semconv.MESSAGING_OPERATION_NAME: "process",
            semconv.MESSAGING_OPERATION_TYPE: "process",
            semconv.MESSAGING_DESTINATION_NAME: destination,
        }
        if engine.settings.peer_name:
            self.attributes[semconv.SERVICE_PEER_NAME] = destination
        if consumer.fields.names.partition is not None:
            self.attributes[consumer.fields.names.partition] = str(partition)
        self.shape = SpanShape(
            f"process {destination}",
            SpanKind.CONSUMER,
            self.attributes,
            (*ORIGIN_NAMES, *filter(None, (consumer.fields.names.offset,))),
        )
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
        own = engine.settings.environment if self.continues is None else None
        self.home_code = ENVIRONMENT_CODES.get(own or "", -1)
        """In a header, that of an environment which is not foreign; -1 where it takes more to know."""
        self.foreign_baggage = foreign_baggage(engine.settings, engine.guard, destination)
        self.sender_is_parent = self.continues is None and engine.settings.process_parent == "message"
        """Whether the sender is the parent without a look at the message, except at its age and its hops."""


class Consumer:
    """One consumer client, as far as the engine knows it. Used by one thread at a time, as the clients demand."""

    __slots__ = (
        "__weakref__",
        "_cluster_id",
        "assignments",
        "attributes",
        "batch",
        "engine",
        "excluded",
        "explicit",
        "fetches",
        "fields",
        "is_member",
        "iterator_spans",
        "kept",
        "loops",
        "max_poll_interval_s",
        "metric_attributes",
        "open",
        "operation",
        "partitions",
        "polling",
        "positions",
        "task_batches",
        "tasks",
    )

    def __init__(
        self,
        engine: Engine,
        fields: MessageFields,
        *,
        attributes: Mapping[str, AttributeValue],
        client_id: str | None = None,
        group: str | None = None,
        excluded: bool = False,
        operation: str,
        cluster_id: Callable[[], str | None] = _unknown_cluster,
        positions: Callable[[], Mapping[tuple[str, int], Position]] = _unknown_positions,
        is_member: Callable[[], bool] = _no_member,
        max_poll_interval_s: float = MAX_POLL_INTERVAL_S,
    ) -> None:
        self.engine = engine
        self.positions = positions
        """Of each partition that is assigned. No I/O; any thread."""
        self.is_member = is_member
        """Whether the group takes its partitions when the application asks for nothing. No I/O; any thread."""
        self.max_poll_interval_s = max_poll_interval_s
        """After how long it does."""
        self.fields = fields
        self._cluster_id = cluster_id
        self.excluded = excluded or (client_id is not None and engine.settings.excludes_client(client_id))
        self.operation = operation
        self.metric_attributes: dict[str, AttributeValue] = dict(attributes)
        if group:
            self.metric_attributes[semconv.MESSAGING_CONSUMER_GROUP_NAME] = group
        self.attributes = dict(self.metric_attributes)
        if client_id:
            self.attributes[semconv.MESSAGING_CLIENT_ID] = client_id
        self.partitions: dict[tuple[str, int], PartitionState] = {}
        self.open: OpenDelivery | None = None
        self.tasks: TasksInHand[OpenDelivery] | None = None
        """What each asyncio task has in hand of messages that were handed out one by one."""
        self.task_batches: TasksInHand[Batch] | None = None
        """The same of batches; `batch` is then one that nobody knows the task of."""
        self.iterator_spans = True
        self.explicit = False
        """Whether the application itself says, with `process()`, when a message is processed."""
        self.batch: Batch | None = None
        self.loops: set[Loop] = set()
        """The loops that go over what it has returned."""
        self.kept: Kept | None = None
        """What could not be returned, for the next call."""
        self.polling = Polling(engine.monotonic_ns())
        self.fetches: dict[tuple[str, int], FetchObserver] = {}
        self.assignments: dict[tuple[str, int], object] = {}
        """For each partition that messages have come from, an object that is the same as long as it stays assigned."""
        forks.add(self.begin_anew, Step.ZERO)

    def deliveries(self) -> list[OpenDelivery]:
        """Return the messages in hand that were handed out one by one: one, or one of each task. Any thread."""
        tasks, delivery = self.tasks, self.open
        return tasks.now() if tasks is not None else [] if delivery is None else [delivery]

    def batches(self) -> list[Batch]:
        """Return the batches in hand: one, or one of each task. Any thread."""
        tasks, batch = self.task_batches, self.batch
        return ([] if tasks is None else tasks.now()) + ([] if batch is None else [batch])

    def fetch_observer(self, destination: str, partition: int) -> FetchObserver | None:
        """Return the observer of a partition's fetches; from the client's own thread, before the first message."""
        known = self.fetches.get((destination, partition))
        engine = self.engine
        if known is not None or engine.observe_fetches is None or self.excluded:
            return known
        if len(self.fetches) >= MAX_PARTITION_STATES or engine.settings.excludes_destination(destination):
            return None
        self._learn_cluster()
        return engine.observe_fetches(self, destination, partition)

    def begin_anew(self) -> None:
        """Know nothing of any partition, in a forked child: what is used there is made there."""
        self.partitions.clear()
        self.fetches.clear()
        self.assignments.clear()
        self.kept = None

    def keep(self, given: Any, partitions: Iterable[tuple[str, int]], *, many: bool, told: bool) -> None:
        """Keep for the next call what an exception of the application has kept this one from returning."""
        self.kept = Kept(given, many, told, standing(partitions, self.positions()))

    def again(self, *, many: bool) -> Kept | None:
        """Give what was kept by a call of this kind, until the caller takes it out of `kept`."""
        found = self.kept
        if found is None or found.many is not many:
            return None
        if found.is_next(self.positions()):
            return found
        self.kept = None
        return None

    def close(self) -> None:
        """Let go of everything: the application is done with the client."""
        self.positions, self.kept = _unknown_positions, None
        self.partitions.clear()
        self.fetches.clear()
        self.assignments.clear()

    def partition(self, destination: str, partition: int) -> PartitionState:
        """Return the state of a partition, made at its first message."""
        try:
            return self.partitions[destination, partition]
        except KeyError:
            if len(self.partitions) >= MAX_PARTITION_STATES:
                self.partitions.clear()
            self._learn_cluster()
            state = PartitionState(self.engine, self, destination, partition)
            self.partitions[destination, partition] = state
            place = self.engine.guard.place("observe")
            if self.engine.observe is not None and not place.off:
                try:
                    state.observer = self.engine.observe(self, state)
                except Exception:
                    place.failed()
            return state

    def _learn_cluster(self) -> None:
        """Ask the client for its cluster: once a message has arrived it knows it, if it ever does."""
        name = self.fields.names.cluster
        if name is not None and name not in self.attributes and (cluster := self._cluster_id()):
            self.attributes[name] = self.metric_attributes[name] = cluster


class Destination:
    """What is the same for every message of one producer to one destination; made once."""

    __slots__ = (
        "acknowledged",
        "attributes",
        "bound",
        "check",
        "duration",
        "first_hop",
        "metric_attributes",
        "name",
        "sent",
        "shape",
    )

    metric_attributes: dict[str, AttributeValue]
    sent: ThreadCells[CounterCell]
    duration: ThreadCells[HistogramCell]
    acknowledged: dict[int, int]

    def __init__(self, engine: Engine, producer: Producer, name: str, operation: str) -> None:
        self.name = name
        self.bound = False
        self.check: Callable[[object, int, object], None] | None = None
        self.first_hop: pipeline_header.Template | None = None
        self.attributes: dict[str, AttributeValue] = {
            **producer.attributes,
            semconv.MESSAGING_OPERATION_NAME: operation,
            semconv.MESSAGING_OPERATION_TYPE: "send",
            semconv.MESSAGING_DESTINATION_NAME: name,
        }
        if producer.client_id:
            self.attributes[semconv.MESSAGING_CLIENT_ID] = producer.client_id
        if engine.settings.peer_name:
            self.attributes[semconv.SERVICE_PEER_NAME] = name
        names = (semconv.MESSAGING_DESTINATION_PARTITION_ID, *filter(None, (producer.names.offset,)))
        self.shape = SpanShape(f"{operation} {name}", SpanKind.PRODUCER, self.attributes, names)

    def learned(self, producer: Producer) -> SpanShape:
        """Return the shape of spans, with the cluster from the moment that the client knows it."""
        name, before = producer.names.cluster, self.shape
        if name is not None and name not in self.attributes and (cluster := producer.cluster_id()):
            self.attributes = {**self.attributes, name: cluster}
            self.shape = SpanShape(before.name, before.kind, self.attributes, before.names)
        return self.shape

    def counted_as(self, producer: Producer, destination: str) -> dict[str, AttributeValue]:
        """Return the attributes of the metrics, with the destination as metrics have it."""
        return {
            **producer.attributes,
            semconv.MESSAGING_OPERATION_NAME: self.attributes[semconv.MESSAGING_OPERATION_NAME],
            semconv.MESSAGING_DESTINATION_NAME: destination,
        }

    def bind(self, engine: Engine, producer: Producer) -> None:
        """Make the series to count under, at the first acknowledgement, when the client knows its cluster."""
        name, cluster = producer.names.cluster, producer.cluster_id()
        self.learned(producer)
        self.metric_attributes = self.counted_as(producer, engine.metric_destination(self.name))
        if name is not None and cluster:
            self.metric_attributes[name] = cluster
        self.duration = engine.operation_duration.local(
            {**self.metric_attributes, semconv.MESSAGING_OPERATION_TYPE: "send"}
        )
        self.sent = engine.sent.local(self.metric_attributes)
        where = Acknowledged(str(self.attributes.get(semconv.MESSAGING_SYSTEM_NAME)), cluster, self.name)
        named = self.metric_attributes[semconv.MESSAGING_DESTINATION_NAME] == self.name
        self.acknowledged = engine.acknowledged.setdefault(where, {}) if named else {}
        self.bound = True


class Patience(NamedTuple):
    """How long a producer's messages may take, by its settings."""

    linger_s: float = 0.0
    """It waits for more messages before it sends."""
    timeout_s: float | None = None
    """It gives a message up after that; None where it does not say."""
    confirmed: bool = True
    """Whether brokers answer at all."""


DEFAULT_PATIENCE = Patience()


class Producer:
    """One producer client, as far as the engine knows it."""

    __slots__ = (
        "aborting",
        "attributes",
        "client_id",
        "cluster_id",
        "destinations",
        "excluded",
        "headers_allowed",
        "identifier",
        "names",
        "numbers",
        "patience",
        "read",
    )

    def __init__(
        self,
        *,
        attributes: Mapping[str, AttributeValue],
        client_id: str | None = None,
        cluster_id: Callable[[], str | None] = _unknown_cluster,
        headers_allowed: bool = True,
        excluded: bool = False,
        numbers: Sequences | None = None,
        read: Callable[[Any], tuple[int | None, int | None]] = _nowhere,
        names: SystemNames = NO_NAMES,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self.patience = patience
        self.aborting = False
        """Whether the application is aborting a transaction: what fails then, fails because it is to fail."""
        self.attributes = attributes
        self.client_id = client_id
        self.cluster_id = cluster_id
        self.headers_allowed = headers_allowed
        self.excluded = excluded
        self.destinations: dict[str, Destination | None] = {}
        self.names = names
        self.numbers = numbers
        self.read = read
        """Reads partition and offset from an acknowledgement."""
        self.identifier = 0
        if numbers is not None:
            self.renew()

    def renew(self) -> None:
        """Take a new producer id: the sequences start anew. 0 would mean that no sequence is sent."""
        self.identifier = getrandbits(32) or 1
        for destination in self.destinations.values():
            if destination is not None:
                destination.first_hop = None


class Polling:
    """What one consumer's calls for messages showed. Written by its thread, read by any. Times in ns, monotonic."""

    __slots__ = ("_calls", "began_ns", "longest_ns", "recent_ns", "since_ns", "waited_ns")

    def __init__(self, now_ns: int) -> None:
        self.since_ns = now_ns
        """When the latest call began or ended."""
        self.began_ns = 0
        """Since when a call has been waiting; 0 while none is."""
        self.waited_ns = 0
        """Time spent in calls that have returned."""
        self.recent_ns: deque[int] = deque(maxlen=RECENT)
        """Spent between calls, lately."""
        self.longest_ns = 0
        """The longest of these ever."""
        self._calls = 0

    def begin(self, now_ns: int, *, by_iterator: bool) -> None:
        """Note that the application asks for messages; an iterator has handed out a whole batch since the last time."""
        if not by_iterator:
            between_ns = now_ns - self.since_ns
            self.recent_ns.append(between_ns)
            if between_ns > self.longest_ns and self.waited_ns:  # What came before the first call was no handling.
                self.longest_ns = between_ns
        self.since_ns = self.began_ns = now_ns

    def end(self, now_ns: int) -> None:
        """Note that the call returns."""
        self.waited_ns += now_ns - self.began_ns
        self.since_ns = now_ns
        self.began_ns = 0

    def enter(self, now_ns: int) -> None:
        """Do as `begin` where several tasks may wait at the same time."""
        self._calls += 1
        if self._calls == 1:
            self.begin(now_ns, by_iterator=True)

    def leave(self, now_ns: int) -> None:
        """Do as `end` where several tasks may wait: the others go on waiting."""
        self._calls -= 1
        self.end(now_ns)
        if self._calls:
            self.began_ns = now_ns

    def waited_until(self, now_ns: int) -> int:
        """Return all the time spent waiting, ns, including that of a call that has not returned."""
        began_ns = self.began_ns
        return self.waited_ns + (max(0, now_ns - began_ns) if began_ns else 0)

    def working_p95_s(self) -> float | None:
        """Return the 95th percentile of the recent times between two calls, s; None before there were any."""
        recent = sorted(self.recent_ns)
        return recent[len(recent) * 95 // 100] / 1e9 if recent else None
