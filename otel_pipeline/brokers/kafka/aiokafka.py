"""aiokafka.

Patched: AIOKafkaProducer.send; MessageBatch.append; AIOKafkaConsumer.start, .getone, .getmany, .__aiter__, .commit,
.seek, .seek_to_beginning, .seek_to_end, .seek_to_committed, .stop. What is missing stands in the registry.
"""

from __future__ import annotations

import functools
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka import aiokafka_batches, aiokafka_fetches
from otel_pipeline.brokers.kafka.acknowledgements import follow
from otel_pipeline.brokers.kafka.async_pull import AsyncPull
from otel_pipeline.brokers.kafka.client import (
    NAMES,
    KafkaConsumers,
    KafkaProducers,
    Library,
    failed,
    format_has_headers,
    tell_unreadable,
)
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.async_loop import AsyncIteration
from otel_pipeline.engine.driven import leave_loops
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.open_sends import OpenBatch
from otel_pipeline.engine.patching import Around, DriftedError
from otel_pipeline.engine.send import sender
from otel_pipeline.engine.sequence import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.engine.send import Sending

_SEND = ("self", "topic", "value", "key", "partition", "timestamp_ms", "headers")
_APPEND = ("self", "key", "value", "timestamp_ms")
_OURS = (pipeline_header.NAME,)
_GETONE = ("self", "partitions")
_GETMANY = ("self", "partitions", "timeout_ms", "max_records")
_DESERIALIZE = frozenset({"_consumer_record"})


def _settings(client: Any) -> Mapping[str, Any]:
    """Return what the client keeps of a producer's or a consumer's arguments."""
    consumes = hasattr(client, "_group_id")
    network = client._client if consumes else client.client
    found = {"bootstrap_servers": network._bootstrap_servers, "client_id": network._client_id}
    if consumes:
        names = ("group_id", "auto_offset_reset", "enable_auto_commit", "max_poll_interval_ms")
        return found | {name: getattr(client, f"_{name}", None) for name in names}
    # It repeats a request until it times out, and has one on its way for each partition.
    return found | {
        "api_version": getattr(network, "api_version", None),  # Up to 0.12: later ones speak nothing so old.
        "enable_idempotence": client._txn_manager is not None,
        "acks": client._sender._acks,
        "linger_ms": getattr(client._sender, "_linger_time", 0) * 1000,
        "delivery_timeout_ms": client._request_timeout_ms,  # What a batch has until it is given up.
        "retries": True,
        "max_in_flight_requests_per_connection": 1,
    }


def _open_batches(producer: Any) -> list[OpenBatch]:
    """List the batches that wait for more messages or their turn, and those on their way. Any thread."""
    accumulator = producer._message_accumulator
    waiting = [batch for batches in list(accumulator._batches.values()) for batch in list(batches)]
    every = (*waiting, *list(accumulator._pending_batches))
    return [OpenBatch(batch, batch.tp.topic, batch.record_count) for batch in every]


AIOKAFKA = Library(
    name="aiokafka",
    fields=MessageFields(
        destination=attrgetter("topic"),
        partition=attrgetter("partition"),
        offset=attrgetter("offset"),
        timestamp_ms=attrgetter("timestamp"),
        key=attrgetter("key"),
        value=attrgetter("value"),
        headers=attrgetter("headers"),
        body_bytes=attrgetter("serialized_value_size"),
        names=NAMES,
    ),
    settings=_settings,
    cluster=aiokafka_fetches.cluster,
    positions=aiokafka_fetches.positions,
    member=aiokafka_fetches.is_member,
    begun=aiokafka_fetches.follow,
    headers_allowed=format_has_headers,
    receives="getone",
    open_batches=_open_batches,
)


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch the client. Raises `DriftedError`, before anything is changed, when a signature is not the known one."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.structs import ConsumerRecord

    patches.check_signature(AIOKafkaProducer.send, _SEND)
    patches.check_signature(AIOKafkaConsumer.getone, _GETONE)
    patches.check_signature(AIOKafkaConsumer.getmany, _GETMANY)
    producers = KafkaProducers(engine, AIOKAFKA, _instrument_sequence(patches, engine))
    patches.replace(AIOKafkaProducer, "send", functools.partial(_make_send, engine, producers))
    patches.replace(AIOKafkaProducer, "abort_transaction", producers.aborting())
    aiokafka_batches.instrument(patches, producers)
    consumers = KafkaConsumers(engine, AIOKAFKA, ConsumerRecord)
    iteration = AsyncIteration(consumers.iteration, consumers.processor)
    iteration.own.add(AIOKafkaConsumer.__anext__.__code__)
    pull = AsyncPull(consumers, iteration, "aiokafka.", _DESERIALIZE)
    patches.replace(AIOKafkaConsumer, "getone", functools.partial(_make_getone, consumers, iteration, pull))
    patches.replace(AIOKafkaConsumer, "getmany", functools.partial(_make_getmany, consumers, iteration, pull))
    patches.replace(AIOKafkaConsumer, "__aiter__", functools.partial(_make_aiter, consumers, iteration))
    patches.replace(AIOKafkaConsumer, "commit", consumers.settling("commit"))
    for name in ("seek", "seek_to_beginning", "seek_to_end", "seek_to_committed"):
        patches.replace(AIOKafkaConsumer, name, consumers.seeking())

    def leave(consumer: Consumer) -> None:
        iteration.leave_all(consumer)
        pull.batches.leave_all(consumer)

    patches.replace(AIOKafkaConsumer, "stop", consumers.closing(leave))
    # Known before it asks for messages: it fetches from then on.
    begin = Around(engine.guard.place("client"), lambda client, _args, _kwargs: consumers.of(client), lambda *_: None)
    patches.replace(AIOKafkaConsumer, "start", begin)
    aiokafka_fetches.instrument_cluster(patches, engine.guard)
    aiokafka_fetches.instrument(patches, consumers)


def _instrument_sequence(patches: Patches, engine: Engine) -> Sequences | None:
    """Stamp a message where it joins its partition's batch: there is one event loop, so nothing comes in between."""
    try:
        from aiokafka.producer.message_accumulator import MessageBatch

        patches.check_signature(MessageBatch.append, _APPEND, more=("_create_future", "headers"))
    except (ImportError, AttributeError, DriftedError):
        engine.guard.problem(
            "aiokafka.sequence",
            "aiokafka: MessageBatch.append is not as known, so no sequence is sent and losses before the broker cannot "
            "be told",
        )
        return None
    sequences = Sequences(engine.guard)
    engine.given.append(sequences.given)
    patches.replace(MessageBatch, "append", functools.partial(_make_append, sequences))
    return sequences


def _make_append(sequences: Sequences, original: Callable[..., Any]) -> Callable[..., Any]:
    place = sequences.place

    @functools.wraps(original)
    def append(self: Any, key: Any, value: Any, timestamp_ms: Any, *rest: Any, **more: Any) -> Any:
        headers: Any = None
        stamped = None
        try:
            headers = more.get("headers")
            # Ours is the last, where there is one: this client's serializers write none.
            if headers and type(headers) is list and type(headers[-1]) is tuple and headers[-1][:1] == _OURS:
                stamped = sequences.stamp(headers, self.tp.topic, self.tp.partition)
        except Exception:
            place.failed()
        future = original(self, key, value, timestamp_ms, *rest, **more)
        if stamped is not None:
            try:
                sequences.settle(headers, stamped, taken=future is not None)
            except Exception:
                place.failed()
        return future

    return append


def _make_send(engine: Engine, producers: KafkaProducers, original: Callable[..., Any]) -> Callable[..., Any]:
    producer_of, begin, place = producers.of, sender(engine), engine.guard.place("send")

    def refused(sending: Sending, error: BaseException) -> None:
        failed(sending, error)
        tell_unreadable(engine, error, "producer", "aiokafka.", frozenset({"_serialize"}))

    @functools.wraps(original)
    async def send(
        self: Any,
        topic: Any,
        value: Any = None,
        key: Any = None,
        partition: Any = None,
        timestamp_ms: Any = None,
        headers: Any = None,
    ) -> Any:
        sending, sent = None, headers
        try:
            sending = begin(producer_of(self), topic, partition, key, value, headers)
            if sending is not None:
                sent = sending.headers
        except Exception:
            place.failed()
        try:
            future = await original(self, topic, value, key, partition, timestamp_ms, sent)
        except BaseException as error:
            if sending is not None:
                place.told(refused, sending, error)
            raise
        try:
            if sending is not None:
                follow(engine, sending, future)
        except Exception:
            place.failed()
        return future

    return send


def _make_getone(
    consumers: KafkaConsumers, iteration: AsyncIteration, pull: AsyncPull, original: Callable[..., Any]
) -> Callable[..., Any]:
    consumer_of, leave, hand_out, leave_batch = consumers.of, iteration.leave, iteration.hand_out, pull.batches.leave
    nobody, place = consumers.left_alone, consumers.receiving

    def failed(error: BaseException) -> None:
        tell_unreadable(consumers.engine, error, "consumer", "aiokafka.", _DESERIALIZE)

    async def getone(self: Any, *partitions: Any) -> Any:
        consumer, rejection = nobody, None
        try:
            consumer = consumer_of(self)
            leave(consumer)
            if consumer.loops:
                leave_loops(consumer, of_task=True)
            if consumer.task_batches is not None or consumer.batch is not None:
                leave_batch(consumer)
        except Exception:
            place.failed()
        try:
            message = await original(self, *partitions)
        except Exception as error:
            place.told(failed, error)
            raise
        try:
            rejection = hand_out(consumer, message)
            consumers.count_one(consumer, message)
        except Exception:
            place.failed()
        if rejection is not None:
            raise rejection
        return message

    iteration.own.add(getone.__code__)
    return functools.wraps(original)(getone)


def _make_getmany(
    consumers: KafkaConsumers, iteration: AsyncIteration, pull: AsyncPull, original: Callable[..., Any]
) -> Callable[..., Any]:
    consumer_of, nobody, place = consumers.of, consumers.left_alone, consumers.receiving

    async def getmany(self: Any, *partitions: Any, timeout_ms: Any = 0, max_records: Any = None) -> Any:
        consumer, began_ns = nobody, 0
        try:
            consumer = consumer_of(self)
            began_ns = pull.begin(consumer)
        except Exception:
            place.failed()
        try:
            records = await original(self, *partitions, timeout_ms=timeout_ms, max_records=max_records)
        except BaseException as error:
            place.told(pull.failed, consumer, error, began_ns)
            raise
        try:
            pull.end(consumer, records, began_ns)
        except Exception:
            place.failed()
        return records

    iteration.own.add(getmany.__code__)
    return functools.wraps(original)(getmany)


def _make_aiter(
    consumers: KafkaConsumers, iteration: AsyncIteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    place = consumers.engine.guard.place("iterate")

    @functools.wraps(original)
    def __aiter__(self: Any) -> Any:  # noqa: N807
        iterator = original(self)
        try:
            consumer = consumers.of(self)
            if not consumer.excluded and consumer.engine.active:
                return iteration.deliveries(iterator, consumer)
        except Exception:
            place.failed()
        return iterator

    return __aiter__
