"""What is known of one client of confluent-kafka: its settings, and for a consumer its partitions.

Its objects are written in C. They take no attributes and no weak references, and tell nothing of their settings: all of
it is noted when one is made. The client itself is in our hands only during its own calls
(docs/decisions/0028-when-is-a-client-of-c-read.md).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from otel_pipeline.engine.client_objects import ClientObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.context import Context

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.engine.clients import PartitionState
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.observer import PartitionObserver

_NAMES = {
    "metadata_broker_list": "bootstrap_servers",
    "request_required_acks": "acks",
    "message_timeout_ms": "delivery_timeout_ms",
    "queue_buffering_max_ms": "linger_ms",
    "message_send_max_retries": "retries",
    "max_in_flight": "max_in_flight_requests_per_connection",
}
"""librdkafka's other names for settings that Kafka has."""
_WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "all": -1,
    "largest": "latest",
    "end": "latest",
} | dict.fromkeys(("smallest", "beginning"), "earliest")
PRODUCES: dict[str, Any] = {
    "acks": -1,
    "linger_ms": 5,
    "delivery_timeout_ms": 300_000,
    "retries": 2_147_483_647,
    "max_in_flight_requests_per_connection": 1_000_000,
}
CONSUMES: dict[str, Any] = {
    "auto_offset_reset": "latest",
    "enable_auto_commit": True,
    "fetch_wait_max_ms": 500,
    "queued_min_messages": 100_000,
}
"""What holds where the application says nothing: librdkafka's own."""
_RECONNECTS_S = 15.0
"""It tries to connect every ten seconds at least, and says each time that it could not."""


def _plain(value: Any) -> Any:
    """Return a setting as Kafka has it: librdkafka takes any as text."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return value


def settings_of(conf: Mapping[Any, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a client is made with, under Kafka's own names with underscores, and what it does not say."""
    found = dict(usual)
    for name, value in conf.items():
        if isinstance(name, str):
            kafka = name.replace(".", "_")
            texts = kafka in {"client_id", "group_id", "bootstrap_servers", "metadata_broker_list"}
            found[_NAMES.get(kafka, kafka)] = value if texts else _plain(value)
    if found.get("transactional_id"):
        found["enable_idempotence"] = True
    return found


class Handle:
    """What is known of one client.

    No call of the client's is made in the thread that is inside of one: the client does not survive that.
    """

    __slots__ = ("__weakref__", "cluster_id", "is_silent", "known", "settings")

    def __init__(self) -> None:
        self.cluster_id: str | None = None
        self.is_silent = False
        """Whether this version of the client does not tell its cluster: it does since 2.12."""
        self.known = False
        """Whether we have seen it being made."""
        self.settings: dict[str, Any] = {}

    def announce(self, conf: Mapping[Any, Any], usual: Mapping[str, Any]) -> None:
        """Note what it was made with."""
        self.known, self.settings = True, settings_of(conf, usual)

    def learn_cluster(self, client: Any) -> None:
        """Note the cluster's id if the client has learned it. Asks nobody: it waits for nothing."""
        read = getattr(client, "cluster_id", None)
        if read is None:
            self.is_silent = True
            return
        from confluent_kafka import KafkaException

        try:
            self.cluster_id = read(timeout=0)
        except KafkaException:  # Not yet.
            return
        except RuntimeError as error:
            raise_unless_closed(error)


def raise_unless_closed(error: RuntimeError) -> None:
    """Raise on what the client has raised, but for the word that the application has closed it."""
    if "closed" not in str(error):
        raise error


class Lifetime:
    """What only the client holds, as its `error_cb`: when it is gone, the client is."""

    __slots__ = ("__weakref__", "_place", "_theirs", "handle")

    def __init__(self, place: Place, theirs: Callable[..., Any] | None) -> None:
        self._place = place
        self._theirs = theirs
        self.handle: Callable[[], Any] | None = None

    def __call__(self, *args: Any) -> Any:
        """Hand an error on to the application, and note what it says of the connections."""
        original = self._theirs
        try:
            handle = None if self.handle is None else self.handle()
            if isinstance(handle, ConsumerHandle):
                handle.erred(args[0])
        except Exception:
            self._place.failed()
        return None if original is None else original(*args)


class Made(NamedTuple):
    """What a client's constructor is to be called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    lifetime: Lifetime | None = None
    """None where the client will refuse the arguments."""
    conf: Mapping[Any, Any] = {}


def with_lifetime(place: Place, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Made:
    """Put a `Lifetime` into a copy of a client's settings."""
    conf = args[0] if args else {}
    if len(args) > 1 or not isinstance(conf, dict) or not (args or kwargs):
        return Made(args, kwargs)
    said = {**conf, **kwargs}
    theirs = said.get("error_cb")
    if theirs is not None and not callable(theirs):
        return Made(args, kwargs)
    lifetime = Lifetime(place, theirs)
    if "error_cb" in kwargs or not args:
        return Made(args, {**kwargs, "error_cb": lifetime}, lifetime, said)
    return Made(({**conf, "error_cb": lifetime},), kwargs, lifetime, said)


class ConsumerHandle(Handle):
    """What is known of one consumer. Written in the application's thread, read by any."""

    __slots__ = (
        "_down_s",
        "_is_down",
        "_same",
        "assigned",
        "at",
        "awaited",
        "blind",
        "consumer",
        "context",
        "look_at_s",
        "paused",
        "subscribed",
    )

    def __init__(self) -> None:
        super().__init__()
        self.awaited = False
        """Whether a pool's thread polls for a task, which has in hand what it is given."""
        self.context: Context | None = None
        """That of the task, where a pool's thread consumes for it."""
        self.consumer: ref[Any] | None = None
        """The engine's side of it."""
        self.assigned: set[tuple[str, int]] = set()
        self.at: dict[tuple[str, int], int] = {}
        """The offset of the next message of each partition."""
        self.paused: set[tuple[str, int]] = set()
        self.blind: set[tuple[str, int]] = set()
        """Where it waits before the end, and nobody tells whether what is left is for readers at all."""
        self.subscribed = False
        self.look_at_s = 0.0
        """When the ends of the logs are to be read again; monotonic."""
        self._same: dict[tuple[str, int], tuple[int, int, float]] = {}
        """By partition where the consumer and the log's end were, and since when both stay there and it waits."""
        self._is_down, self._down_s = False, 0.0

    def partitions(self) -> Iterator[tuple[str, int]]:
        """Yield those that it reads: what it was assigned, and what messages have come from."""
        yield from self.assigned.union(self.at)

    def told(self, partitions: Any, *, anew: bool = False) -> None:
        """Note an assignment; `anew` where it is all that the consumer has from now on."""
        if anew:
            self.left(list(self.partitions()))
        for each in partitions:
            key = (each.topic, each.partition)
            self.assigned.add(key)
            if each.offset >= 0:
                self.sought(each)
            elif (observer := self._observer(key)) is not None:
                observer.assigned()

    def _observer(self, key: tuple[str, int]) -> PartitionObserver | None:
        consumer = None if self.consumer is None else self.consumer()
        state: PartitionState | None = None if consumer is None else consumer.partitions.get(key)
        return None if state is None else state.observer

    def sought(self, partition: Any) -> None:
        """Note that the application chose another position."""
        key, offset = (partition.topic, partition.partition), partition.offset if partition.offset >= 0 else None
        self.at.pop(key, None)
        if offset is not None:
            self.at[key] = offset
        observer = self._observer(key)
        if observer is not None:
            observer.sought(offset)

    def unsubscribed(self) -> None:
        """Note that it has no partition any more."""
        self.subscribed = False
        self.left(list(self.partitions()))

    def left(self, partitions: Any) -> None:
        """Note what is assigned no more."""
        for key in partitions:
            self.assigned.discard(key)
            self.paused.discard(key)
            self.blind.discard(key)
            self.at.pop(key, None)
            self._same.pop(key, None)

    def erred(self, error: Any) -> None:
        """Note what the client says of its connections."""
        name = error.name()
        if name == "_ALL_BROKERS_DOWN":
            self._is_down = True
        if name in {"_ALL_BROKERS_DOWN", "_TRANSPORT", "_RESOLVE"}:
            self._down_s = monotonic()

    def is_down(self, now_s: float) -> bool:
        """Tell whether it has no connection to any broker, as far as it has said."""
        self._is_down = self._is_down and now_s - self._down_s < _RECONNECTS_S
        return self._is_down

    def waits(self, key: tuple[str, int], end: int, now_s: float, *, asks: bool) -> float:
        """Return for how long, s, neither the position nor the end has moved while it asks for messages."""
        at = self.at.get(key, -1)
        before = self._same.get(key)
        if not asks or before is None or before[:2] != (at, end):
            before = self._same[key] = (at, end, now_s)
        return now_s - before[2]


class ConsumerHandles(ClientObjects[ConsumerHandle]):
    """What is known of each consumer."""

    __slots__ = ()

    def with_consumer(self, client: Any, consumers: KafkaConsumers) -> ConsumerHandle:
        """Return what is known of a consumer, with the engine's side of it."""
        handle = self.of(client)
        if handle.consumer is None:
            handle.consumer = ref(consumers.of(client))
        return handle
