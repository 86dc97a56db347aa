"""What any Kafka client needs: the engine's side of producers and consumers, acknowledgements, commits, seeks, hazards.

An adapter says how its library is read (`Library`), and writes only wrappers whose signatures are the library's own.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline import semconv
from otel_pipeline.engine.client_objects import weakly
from otel_pipeline.engine.clients import MAX_POLL_INTERVAL_S, Consumer, Patience, Producer
from otel_pipeline.engine.consumers import Consumers
from otel_pipeline.engine.engine import client_attributes, server_of
from otel_pipeline.engine.messages import SystemNames
from otel_pipeline.engine.open_sends import OpenBatch, ProducerNow, nothing_open
from otel_pipeline.engine.patching import Around
from otel_pipeline.engine.producers import Producers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otel_pipeline.engine.clients import PartitionState, Position
    from otel_pipeline.engine.consumers import Make
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.messages import MessageFields
    from otel_pipeline.engine.send import Sending
    from otel_pipeline.engine.sequence import Sequences

SYSTEM = "kafka"
OWN_CLIENT = "otel-pipeline-faults"
"""Client id of what is ours and stands for a broker, and not for an application."""
_HEADERS_SINCE = (0, 11)
"""Message formats before it have none, and clients raise when they are given some."""
NAMES = SystemNames(
    partition=semconv.MESSAGING_DESTINATION_PARTITION_ID,
    offset=semconv.KAFKA_OFFSET,
    cluster=semconv.KAFKA_CLUSTER_ID,
    key=semconv.KAFKA_MESSAGE_KEY,
    tombstone=semconv.KAFKA_MESSAGE_TOMBSTONE,
)


def _nothing(_client: Any) -> None:
    """Return None, for a library that does not tell."""


def _no_positions(_client: Any) -> Mapping[tuple[str, int], Position]:
    return {}


@dataclass(frozen=True)
class Library:
    """How the clients of one library are read. No function of it does I/O; what one raises is counted.

    A function that is called later is given what `reach` leads to: the client, where that takes weak references.
    """

    name: str
    """Its name in configuration and `status()`."""
    fields: MessageFields
    settings: Callable[[Any], Mapping[str, Any]]
    """What a client was made with, under Kafka's own names with underscores for dots."""
    reach: Callable[[Any], Callable[[], Any]] = weakref.ref
    """Given a client, it returns what gives, as long as the client is there, the object that is read, and then None."""
    cluster: Callable[[Any], object] = _nothing
    """The id of a client's cluster, once the client has learned it; anything but a text is none."""
    positions: Callable[[Any], Mapping[tuple[str, int], Position]] = _no_positions
    """Where a consumer stands in each partition that it has been assigned. Any thread."""
    member: Callable[[Any], bool] = lambda _client: False
    """Whether the group takes the consumer's partitions when the application asks for nothing. Any thread."""
    begun: Callable[[Any, Consumer], object] = lambda _client, _consumer: None
    """Called with a client and its consumer once the engine knows it."""
    left_alone: Callable[[Mapping[str, Any]], str | None] = _nothing
    """Why a consumer with such settings cannot be followed; None where it can."""
    headers_allowed: Callable[[Mapping[str, Any]], bool] = lambda _settings: True
    """Whether a producer's messages may have headers."""
    acknowledged: Callable[[Any], tuple[int | None, int | None]] = attrgetter("partition", "offset")
    """The partition and offset in what the library answers for one message."""
    delivers: Callable[[Any], bool] = lambda _client: False
    """Whether a producer is delivering messages that it was given, by a thread of its own."""
    open_batches: Callable[[Any], Iterable[OpenBatch]] = nothing_open
    """What a producer was given and nobody has answered yet. Any thread."""
    is_message: Callable[[Any], bool] | None = None
    """Tells messages from what the library returns in their place, such as errors; None: all are."""
    receives: str = "poll"
    """The library's own word for receiving."""


def _client_id(settings: Mapping[str, Any]) -> str | None:
    client_id = settings.get("client_id")
    return client_id if isinstance(client_id, str) and client_id else None


def _max_poll_interval_s(settings: Mapping[str, Any]) -> float:
    given = settings.get("max_poll_interval_ms")
    return given / 1000 if isinstance(given, (int, float)) and given > 0 else MAX_POLL_INTERVAL_S


def _patience(settings: Mapping[str, Any]) -> Patience:
    linger_ms, timeout_ms = settings.get("linger_ms"), settings.get("delivery_timeout_ms")
    return Patience(
        linger_s=linger_ms / 1000 if isinstance(linger_ms, (int, float)) else 0.0,
        timeout_s=timeout_ms / 1000 if isinstance(timeout_ms, (int, float)) and timeout_ms > 0 else None,
        confirmed=settings.get("acks") not in {0, "0"},
    )


def _cluster_of(library: Library, client: Any, place: Place) -> Callable[[], str | None]:
    def read(living: Any) -> str | None:
        try:
            found = None if place.off else library.cluster(living)
        except Exception:
            place.failed()
            return None
        return found if isinstance(found, str) else None

    return weakly(client, read, None, library.reach)


class KafkaProducers(Producers):
    """The producers of one library.

    Args:
        numbers: stamps messages where the library holds the partition's lock; None where it has no such place.
    """

    __slots__ = ("_library", "_numbers")

    def __init__(self, engine: Engine, library: Library, numbers: Sequences | None) -> None:
        self._library, self._numbers = library, numbers
        super().__init__(engine, self._made, self._forget_numbers)
        engine.delivering.append(self._deliver)
        engine.producers.append(self._now)

    def _deliver(self) -> bool:
        return any(self._library.delivers(client) for client in self.living())

    def _now(self) -> Iterator[ProducerNow]:
        living = {id(client): client for client in self.living()}
        for key, producer in list(self.by_id.items()):
            if not producer.excluded:
                client = living.get(key)
                yield ProducerNow(producer, [] if client is None else list(self._library.open_batches(client)))

    def _made(self, client: Any) -> Producer:
        engine, library = self.engine, self._library
        settings = library.settings(client)
        client_id = _client_id(settings)
        excluded = client_id is not None and (client_id == OWN_CLIENT or engine.settings.excludes_client(client_id))
        if not excluded:
            engine.hazards.update((hazard, library.name) for hazard in producer_hazards(settings))
        return Producer(
            attributes=client_attributes(SYSTEM, server_of(settings.get("bootstrap_servers"))),
            client_id=client_id,
            cluster_id=_cluster_of(library, client, engine.guard.place("cluster")),
            headers_allowed=library.headers_allowed(settings),
            excluded=excluded,
            numbers=self._numbers,
            read=library.acknowledged,
            names=NAMES,
            patience=_patience(settings),
        )

    def _forget_numbers(self, producer: Producer) -> None:
        if self._numbers is not None:
            self._numbers.forget(producer.identifier)

    def aborting(self, renew: Callable[[Any], object] = _nothing) -> Make:
        """Make the wrapper of the method that aborts a transaction; `renew` is called with the client after it."""

        def before(client: Any, _args: Any, _kwargs: Any) -> None:
            self.of(client).aborting = True

        def after(client: Any, _begun: None, _error: BaseException | None) -> None:
            # What was aborted is never delivered: under the old id its numbers would look lost.
            producer = self.of(client)
            producer.aborting = False
            if producer.identifier:
                producer.renew()
            renew(client)

        return Around(self.engine.guard.place("abort"), before, after)


class KafkaConsumers(Consumers):
    """The consumers of one library."""

    __slots__ = ("_library",)

    def __init__(self, engine: Engine, library: Library, message: type | None) -> None:
        self._library = library
        attributes = client_attributes(SYSTEM, None)
        super().__init__(
            engine,
            library.fields,
            message,
            self._made,
            attributes=attributes,
            operation=library.receives,
            is_message=library.is_message,
        )

    def _made(self, client: Any) -> Consumer:
        engine, library = self.engine, self._library
        settings = library.settings(client)
        reason = library.left_alone(settings)
        if reason is not None:
            engine.guard.problem(f"{library.name}.left_alone", f"{library.name}: {reason}")
        made = Consumer(
            engine,
            library.fields,
            attributes=client_attributes(SYSTEM, server_of(settings.get("bootstrap_servers"))),
            client_id=_client_id(settings),
            group=settings.get("group_id"),
            excluded=reason is not None or settings.get("client_id") == OWN_CLIENT,
            operation=library.receives,
            cluster_id=_cluster_of(library, client, engine.guard.place("cluster")),
            positions=weakly(client, library.positions, {}, library.reach),
            is_member=weakly(client, library.member, False, library.reach),
            max_poll_interval_s=_max_poll_interval_s(settings),
        )
        if not made.excluded:
            engine.hazards.update((hazard, library.name) for hazard in consumer_hazards(settings))
        library.begun(client, made)
        return made

    def seeking(self) -> Make:
        """Make the wrapper of a method that moves one or more partitions to another position."""

        def after(client: Any, called: tuple[Any, ...], error: BaseException | None) -> None:
            consumer = self.known(client)
            for state in () if consumer is None or error is not None else list(consumer.partitions.values()):
                if state.observer is not None and _is_sought(state, called):
                    state.observer.sought(next((each for each in called if type(each) is int), None))

        return Around(self.engine.guard.place("seek"), lambda _client, args, kwargs: (*args, *kwargs.values()), after)


def _is_sought(state: PartitionState, called: tuple[Any, ...]) -> bool:
    """Tell whether these arguments mean the partition; where they name none, they mean all."""
    named = [each for each in called if isinstance(each, tuple)]
    return not named or (state.destination, state.partition) in named


def consumer_hazards(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what in a consumer's settings can lose or repeat data, without any traffic (docs/measuring-health.md)."""
    if settings.get("group_id") and settings.get("auto_offset_reset") == "latest":
        yield "new_group_skips_history"
    if settings.get("group_id") and settings.get("enable_auto_commit"):
        yield "commits_by_time"


def producer_hazards(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what in a producer's settings can lose or repeat data; an idempotent producer has none of it."""
    if settings.get("enable_idempotence"):
        return
    if settings.get("acks") in {0, 1, "0", "1"}:
        yield "acknowledged_by_leader_only" if settings.get("acks") in {1, "1"} else "not_acknowledged"
    if settings.get("retries"):
        yield "retries_repeat"
        if (settings.get("max_in_flight_requests_per_connection") or 1) > 1:
            yield "retries_reorder"


def format_has_headers(settings: Mapping[str, Any]) -> bool:
    """Tell whether the messages of a client that speaks `api_version` have headers."""
    version = settings.get("api_version")
    return not isinstance(version, tuple) or version >= _HEADERS_SINCE


def failed(sending: Sending, error: BaseException) -> None:
    """Finish a send whose call has raised. Never raises.

    Where the client has refused the topic's name, nothing was sent and there is no such destination.
    """
    frames, refused = error.__traceback__, type(error).__name__.startswith("InvalidTopic")
    while frames is not None and not refused:
        refused = frames.tb_frame.f_code.co_name.endswith("ensure_valid_topic_name")
        frames = frames.tb_next
    if refused:
        sending.refused(error)
    else:
        sending.finish(None, None, error)


def tell_unreadable(
    engine: Engine, error: BaseException, side: Literal["producer", "consumer"], package: str, callers: frozenset[str]
) -> None:
    """Count a value as unreadable where one of the application's (de)serializers raised this error. Never raises.

    The library's functions that call them, `callers` in modules that begin with `package`, are on the traceback, with
    the topic: nothing has to be wrapped for the case that nothing goes wrong.
    """
    place = engine.guard.place("unreadable")
    try:
        if engine.unreadable is None or place.off:
            return
        topic, frames = None, error.__traceback__
        while frames is not None:
            frame = frames.tb_frame
            if frame.f_globals.get("__name__", "").startswith(package):
                known = frame.f_locals
                topic = known.get("topic") or getattr(known.get("tp"), "topic", topic)
                if frame.f_code.co_name in callers:
                    if isinstance(topic, str):
                        engine.unreadable(topic, side)
                    return
            frames = frames.tb_next
    except Exception:
        place.failed()
