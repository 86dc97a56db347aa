"""confluent-kafka: `produce`, `poll` and `consume`, with all that is built on them.

Patched in place, since its classes are of C: Producer.__init__, .produce, .poll, .flush, .close, .__exit__,
.abort_transaction; Consumer.__init__, .poll, .consume, .commit, .seek, .subscribe, .unsubscribe, .assign, .unassign,
.incremental_assign, .incremental_unassign, .pause, .resume, .close, .__exit__; SerializingProducer.produce and
DeserializingConsumer.poll, for what their (de)serializers do not take; ShareConsumer.__init__, .poll, .commit_sync,
.close, .__exit__ and DeserializingShareConsumer.poll, where there are such.
C tells no signatures: calls are handed on as they were made.
"""

from __future__ import annotations

import dataclasses
import functools
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_pipeline.brokers.kafka import (
    confluent_kafka_aio,
    confluent_kafka_batches,
    confluent_kafka_consumers,
    confluent_kafka_pace,
    confluent_kafka_producers,
    confluent_kafka_share,
)
from otel_pipeline.brokers.kafka.client import NAMES, KafkaConsumers, KafkaProducers, Library
from otel_pipeline.brokers.kafka.confluent_kafka_clients import ConsumerHandle, ConsumerHandles
from otel_pipeline.engine.immutable_types import can_be_changed
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.patching import Around

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_pipeline.engine.client_objects import ClientObjects
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches

_IN_PLACE = "its C classes are patched in place"
_REBOUND = (
    "its C classes cannot be patched in place by this Python: not seen are clients that were made, names that were "
    "imported and subclasses that were defined before, SerializingProducer and DeserializingConsumer among them"
)
_SIZED = frozenset({bytes, str})
_TIMESTAMP, _VALUE = methodcaller("timestamp"), methodcaller("value")


def _timestamp_ms(message: Any) -> int:
    kind, time_ms = message.timestamp()
    return time_ms if kind else 0


def _body_bytes(message: Any) -> int:
    """Return the size of the body; 0 where a deserializer of the application's has put something else there."""
    value = message.value()
    return -1 if value is None else len(value) if type(value) in _SIZED else 0


def _timestamps_ms(messages: Sequence[Any]) -> list[int]:
    return [time_ms if kind else 0 for kind, time_ms in map(_TIMESTAMP, messages)]


def _bodies_bytes(messages: Sequence[Any]) -> list[int]:
    return [-1 if value is None else len(value) if type(value) in _SIZED else 0 for value in map(_VALUE, messages)]


CONFLUENT_KAFKA = Library(
    name="confluent-kafka",
    fields=MessageFields(
        destination=methodcaller("topic"),
        partition=methodcaller("partition"),
        offset=methodcaller("offset"),
        timestamp_ms=_timestamp_ms,
        key=methodcaller("key"),
        value=_VALUE,
        headers=methodcaller("headers"),
        body_bytes=_body_bytes,
        names=NAMES,
        timestamps_ms=_timestamps_ms,
        bodies_bytes=_bodies_bytes,
    ),
    settings=lambda _client: {},
    cluster=attrgetter("cluster_id"),
    positions=confluent_kafka_pace.positions,
    member=confluent_kafka_pace.is_member,
    is_message=lambda message: message.error() is None,
)


def _of(handles: ClientObjects[Any]) -> Library:
    """Say how clients are read: by what is known of each."""
    return dataclasses.replace(
        CONFLUENT_KAFKA,
        settings=lambda client: handles.of(client).settings,
        reach=lambda client: ref(handles.of(client)),
    )


def instrument(patches: Patches, engine: Engine) -> str:
    """Patch the client; returns how that was done, for `status()`."""
    from confluent_kafka import DeserializingConsumer, SerializingProducer, cimpl

    in_place = can_be_changed(cimpl.Producer) and can_be_changed(cimpl.Consumer)
    shares = hasattr(cimpl, "ShareConsumer")
    names = ("Producer", "Consumer", *(("ShareConsumer",) if shares else ()))
    kinds = {name: getattr(cimpl, name) for name in names} if in_place else _rebound(patches, names)
    producer, consumer = kinds["Producer"], kinds["Consumer"]
    sending = confluent_kafka_producers.Handles(engine)
    producers = KafkaProducers(engine, _of(sending), None)
    confluent_kafka_producers.instrument(patches, engine, producers, sending, producer)
    confluent_kafka_batches.instrument(patches, engine, producer)
    reading = ConsumerHandles(engine.guard, lambda _client: ConsumerHandle(), ConsumerHandle())
    consumers = KafkaConsumers(engine, _of(reading), cimpl.Message)
    confluent_kafka_consumers.instrument(patches, consumers, reading, consumer)
    if shares:
        _instrument_shares(patches, engine, kinds["ShareConsumer"], cimpl.Message)
    confluent_kafka_aio.instrument(patches, consumers, reading, cimpl.Message)
    patches.replace(SerializingProducer, "produce", _telling_unserializable(engine))
    patches.replace(DeserializingConsumer, "poll", _telling_undeserializable(consumers))
    return _IN_PLACE if in_place else _REBOUND


def _instrument_shares(patches: Patches, engine: Engine, kind: type, message: type) -> None:
    """Patch the consumers of share groups, whose messages are of the same class as all others."""
    handles = ConsumerHandles(engine.guard, lambda _client: ConsumerHandle(), ConsumerHandle())
    library = dataclasses.replace(
        _of(handles),
        fields=CONFLUENT_KAFKA.fields._replace(deliveries=methodcaller("delivery_count")),
        positions=lambda _client: {},
        member=lambda _client: False,
        is_message=confluent_kafka_share.is_message(),
    )
    shares = KafkaConsumers(engine, library, None)
    confluent_kafka_share.instrument(patches, shares, handles, kind)
    usual = engine.clients[message]

    def consumer_of(client: Any) -> Consumer:
        return shares.of(client) if isinstance(client, kind) else usual.consumer_of(client)

    engine.clients[message] = usual._replace(consumer_of=consumer_of)


def _rebound(patches: Patches, names: Iterable[str]) -> dict[str, type]:
    """Put classes of ours under the names of the client's, where those cannot be changed."""
    import confluent_kafka

    made: dict[str, type] = {}
    for name in names:
        made[name] = type(name, (getattr(confluent_kafka.cimpl, name),), {"__module__": "cimpl"})
        for module in (confluent_kafka, confluent_kafka.cimpl):
            patches.replace(module, name, functools.partial(_instead, made[name]))
    return made


def _instead(kind: type, _original: type) -> type:
    return kind


def _telling_unserializable(engine: Engine) -> Around:
    from confluent_kafka.error import KeySerializationError, ValueSerializationError

    def before(_client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0] if args else kwargs.get("topic")

    def after(_client: Any, topic: Any, error: BaseException | None) -> None:
        if isinstance(error, (KeySerializationError, ValueSerializationError)) and engine.unreadable is not None:
            engine.unreadable(topic, "producer")

    return Around(engine.guard.place("unreadable"), before, after)


def _telling_undeserializable(consumers: KafkaConsumers) -> Around:
    from confluent_kafka.error import KeyDeserializationError, ValueDeserializationError

    engine = consumers.engine

    def after(client: Any, _begun: None, error: BaseException | None) -> None:
        if not isinstance(error, (KeyDeserializationError, ValueDeserializationError)):
            return
        consumer = consumers.of(client)
        delivery, consumer.open = consumer.open, None
        if delivery is None:
            return
        if engine.unreadable is not None:
            engine.unreadable(delivery.destination, "consumer")
        consumers.processor.finish(
            delivery, error
        )  # It was begun by the `poll` below, and never reached the application.

    return Around(engine.guard.place("unreadable"), lambda _client, _args, _kwargs: None, after)
