"""What a consumer of confluent-kafka does with its partitions: assignments, seeks, pauses, commits, its end."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka import feeds
from otel_pipeline.engine.driven import leave_loops
from otel_pipeline.engine.patching import Around
from otel_pipeline.engine.receive import leave_batch
from otel_pipeline.engine.settle import settler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.brokers.kafka.confluent_kafka_clients import ConsumerHandle, ConsumerHandles
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.patching import Patches

_REBALANCES = ("on_assign", "on_revoke", "on_lost")


def instrument(patches: Patches, consumers: KafkaConsumers, handles: ConsumerHandles, kind: type) -> None:
    """Patch the rare methods of the consumers' class."""
    patches.replace(kind, "commit", functools.partial(_make_commit, consumers, handles))
    patches.replace(kind, "subscribe", functools.partial(_make_subscribe, consumers, handles))
    for name, tell in _TELL.items():
        patches.replace(kind, name, _telling(consumers, handles, tell))
    for name in ("close", "__exit__"):  # In C, leaving a `with` closes without a call of `close`.
        if hasattr(kind, name):
            patches.replace(kind, name, closing(consumers, handles))


def _keys(partitions: Any) -> Iterator[tuple[str, int]]:
    return ((each.topic, each.partition) for each in partitions)


_TELL: dict[str, Callable[[ConsumerHandle, Any], object]] = {
    "assign": lambda handle, given: handle.told(given, anew=True),
    "incremental_assign": lambda handle, given: handle.told(given),
    "unassign": lambda handle, _given: handle.left(list(handle.partitions())),
    "incremental_unassign": lambda handle, given: handle.left(_keys(given)),
    "unsubscribe": lambda handle, _given: handle.unsubscribed(),
    "seek": lambda handle, given: handle.sought(given),
    "pause": lambda handle, given: handle.paused.update(_keys(given)),
    "resume": lambda handle, given: handle.paused.difference_update(_keys(given)),
}
"""What is told, when a method has returned, with what it was called with."""


def _telling(
    consumers: KafkaConsumers, handles: ConsumerHandles, tell: Callable[[ConsumerHandle, Any], object]
) -> Around:
    def before(_client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return next(iter((*args, *kwargs.values())), None)

    def after(client: Any, given: Any, error: BaseException | None) -> None:
        if error is None:
            tell(handles.with_consumer(client, consumers), given)

    return Around(consumers.engine.guard.place("assigned"), before, after)


def _make_subscribe(  # noqa: C901 - what stands around one call, read in one place
    consumers: KafkaConsumers, handles: ConsumerHandles, original: Callable[..., Any]
) -> Callable[..., Any]:
    place = consumers.engine.guard.place("assigned")

    def telling(handle: ConsumerHandle, name: str, original: Callable[..., Any] | None) -> Callable[..., Any]:
        """Make a callback that comes before the application's own, or stands alone."""

        def rebalanced(consumer: Any, partitions: Any) -> Any:
            try:
                if name == "on_assign":
                    handle.told(partitions)
                else:
                    handle.left(_keys(partitions))
            except Exception:
                place.failed()
            return None if original is None else original(consumer, partitions)

        return rebalanced

    def with_ours(handle: ConsumerHandle, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(kwargs)
        for at, name in enumerate(_REBALANCES, 1):
            if len(args) > at:
                if callable(args[at]):
                    args = (*args[:at], telling(handle, name, args[at]), *args[at + 1 :])
            elif name not in given and name != "on_lost":  # Without one, `on_revoke` is told of lost partitions, too.
                given[name] = telling(handle, name, None)
            elif callable(given.get(name)):
                given[name] = telling(handle, name, given[name])
        return args, given

    @functools.wraps(original)
    def subscribe(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, options = args, kwargs
        try:
            if not place.off:
                handle = handles.with_consumer(self, consumers)
                given, options = with_ours(handle, args, kwargs)
                handle.subscribed = True
        except Exception:
            place.failed()
        return original(self, *given, **options)

    return subscribe


def _make_commit(  # noqa: C901 - what stands around one call, read in one place
    consumers: KafkaConsumers, handles: ConsumerHandles, original: Callable[..., Any]
) -> Callable[..., Any]:
    engine, settled = consumers.engine, settler(consumers.engine, "commit")
    monotonic_ns, place = engine.monotonic_ns, engine.guard.place("settle")

    def ended(
        client: Any, given: dict[str, Any] | None, started_ns: int, answer: Any, error: BaseException | None
    ) -> None:
        consumer = consumers.of(client)
        if error is not None or answer is not None:  # Else it is only begun, and nobody says when it is done.
            settled(consumer, started_ns, error)
        if error is None:
            handle = handles.with_consumer(client, consumers)
            feeds.tell_committed(consumer, _committed(handle, given or {}, answer))

    @functools.wraps(original)
    def commit(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, started_ns = None, None
        try:
            if not place.off:
                given = dict(zip(("message", "offsets"), args, strict=False)) | kwargs
                started_ns = monotonic_ns()
        except Exception:
            place.failed()
        try:
            answer = original(self, *args, **kwargs)
        except BaseException as error:
            if started_ns is not None:
                place.told(ended, self, given, started_ns, None, error)
            raise
        try:
            if started_ns is not None:
                ended(self, given, started_ns, answer, None)
        except Exception:
            place.failed()
        return answer

    return commit


def _committed(handle: ConsumerHandle, given: dict[str, Any], answer: Any) -> list[tuple[tuple[str, int], int]]:
    """List the group's new positions: as answered, as asked for, or where the consumer stands."""
    message, offsets = given.get("message"), given.get("offsets")
    partitions = offsets if answer is None else answer
    if partitions is not None:
        return [((each.topic, each.partition), each.offset) for each in partitions if each.offset >= 0]
    if message is not None:
        return [((message.topic(), message.partition()), message.offset() + 1)]
    return list(handle.at.items()) if handle.settings.get("enable_auto_offset_store", True) else []


def closing(consumers: KafkaConsumers, handles: ConsumerHandles) -> Around:
    """Make the replacement of what closes a consumer."""
    leave, engine = consumers.iteration.leave, consumers.engine

    def before(client: Any, _args: Any, _kwargs: Any) -> Consumer | None:
        consumer = consumers.known(client)
        if consumer is not None:
            leave(consumer)
            leave_loops(consumer)
            leave_batch(engine, consumer)
        return consumer

    def after(client: Any, consumer: Consumer | None, _error: BaseException | None) -> None:
        handle = handles.known(client)
        if handle is not None:
            handle.unsubscribed()
        if consumer is not None:
            consumer.close()
        if handle is None or not handle.known:  # Nothing tells when it is gone.
            consumers.forget(client)
            handles.forget(client)

    return Around(engine.guard.place("close"), before, after)
