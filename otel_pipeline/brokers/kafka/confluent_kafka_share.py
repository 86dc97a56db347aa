"""confluent-kafka's consumers of share groups: `poll` returns many messages, each to be answered for by itself.

The broker hands a message to one consumer of the group, and again where nobody answers: there are neither assignments
nor positions, and nothing to tell of the log's end.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka.confluent_kafka_consumers import by_partition, make_init
from otel_pipeline.brokers.kafka.confluent_kafka_partitions import closing
from otel_pipeline.brokers.kafka.pull import Pull

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.brokers.kafka.confluent_kafka_clients import ConsumerHandles
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.patching import Patches

_RECORDS = "_records"
"""Where the client's own class of what `poll` returns, a sequence that is no list, has its list."""


def instrument(patches: Patches, consumers: KafkaConsumers, handles: ConsumerHandles, kind: type) -> None:
    """Patch the class, and the one that deserializes."""
    import confluent_kafka

    deserializing: type | None = getattr(confluent_kafka, "DeserializingShareConsumer", None)
    patches.replace(kind, "__init__", functools.partial(make_init, consumers, handles, {}))
    patches.replace(kind, "poll", functools.partial(_make_poll, consumers, deserializing))
    patches.replace(kind, "commit_sync", consumers.settling("commit"))
    for name in ("close", "__exit__"):
        if hasattr(kind, name):
            patches.replace(kind, name, closing(consumers, handles))
    if deserializing is not None:
        patches.replace(deserializing, "poll", functools.partial(_make_deserializing_poll, consumers))


def _undeserializable() -> frozenset[int]:
    from confluent_kafka import KafkaError

    return frozenset({KafkaError._KEY_DESERIALIZATION, KafkaError._VALUE_DESERIALIZATION})


def is_message() -> Callable[[Any], bool]:
    """Make what tells messages, those that a deserializer did not take among them, from errors in their place."""
    undeserializable = _undeserializable()

    def found(message: Any) -> bool:
        error = message.error()
        return error is None or error.code() in undeserializable

    return found


def _list_of(messages: Any) -> Any:
    """Return the list in what `poll` has returned; it is that list where it is no such container."""
    return getattr(messages, _RECORDS, messages)


def _with_list(messages: Any, driven: Any) -> Any:
    """Put the list that a `for` drives in the place of the client's; returns what the application is given."""
    records = _list_of(messages)
    if records is messages:
        return driven
    if driven is not records:
        setattr(messages, _RECORDS, driven)
    return messages


def _make_poll(
    consumers: KafkaConsumers, deserializing: type | None, original: Callable[..., Any]
) -> Callable[..., Any]:
    known, consumer_of, nobody = consumers.by_id.get, consumers.of, consumers.left_alone
    place = consumers.receiving
    pull = Pull(consumers, lambda *_: None, "confluent_kafka.", by_partition=by_partition)

    def returned(client: Any, consumer: Consumer, messages: Any) -> Any:
        driven = pull.end(client, consumer, _list_of(messages), by_iterator=False)
        loops = deserializing is not None and isinstance(client, deserializing)
        return messages if loops else _with_list(messages, driven)

    def interrupted(consumer: Consumer, messages: Any) -> None:
        pull.interrupted(consumer, _list_of(messages), False)

    @functools.wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        consumer = nobody
        try:
            consumer = known(id(self)) or consumer_of(self)
            again = pull.begin(self, consumer, by_iterator=False)
            if again is not None:
                return _as_returned(again)
        except Exception:
            place.failed()
        try:
            messages = original(self, *args, **kwargs)
        except BaseException as error:
            place.told(pull.failed, consumer, error, False)
            raise
        given = messages
        try:
            given = returned(self, consumer, messages)
        except BaseException:
            place.failed(interrupted, consumer, messages, only_theirs=True)
        return given

    return poll


def _as_returned(records: list[Any]) -> Any:
    """Return messages as `poll` does."""
    from confluent_kafka import _model

    kind = getattr(_model, "Messages", None)
    return records if kind is None else kind(records)


def _make_deserializing_poll(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    engine, place = consumers.engine, consumers.engine.guard.place("unreadable")
    undeserializable = _undeserializable()

    def tell(messages: Any) -> None:
        for message in _list_of(messages):
            error = message.error()
            if error is not None and error.code() in undeserializable and engine.unreadable is not None:
                engine.unreadable(message.topic(), "consumer")

    @functools.wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        messages = given = original(self, *args, **kwargs)
        try:
            if not place.off:
                tell(messages)
                driven = consumers.drives.driven(consumers.of(self), _list_of(messages))
                given = _with_list(messages, driven)
        except Exception:
            place.failed()
        return given

    return poll
