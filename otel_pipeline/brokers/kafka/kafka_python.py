"""kafka-python.

Patched: KafkaProducer.send, .abort_transaction; ProducerBatch.try_append; KafkaConsumer.__iter__, .__next__, .poll,
.commit, .commit_async, .seek, .seek_to_beginning, .seek_to_end, .close. The signatures are the client's own, the same
from 2.0.2 to 3.0; where one has changed, the adapter stays off.
"""

from __future__ import annotations

import functools
import importlib
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka import kafka_python_fetches
from otel_pipeline.brokers.kafka.client import NAMES, KafkaConsumers, KafkaProducers, Library, failed, tell_unreadable
from otel_pipeline.brokers.kafka.feeds import teller_of_assignments
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.receive import leave_batch, receiver
from otel_pipeline.engine.send import Sending, sender
from otel_pipeline.engine.sequence import Sequences
from otel_pipeline.engine.settle import settler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches

_HEADERS_SINCE = (0, 11)  # Message formats before it have none, and the client raises when it is given some.
_SEND = ("self", "topic", "value", "key", "headers", "partition", "timestamp_ms")
_POLL = ("self", "timeout_ms", "max_records", "update_offsets")
_APPEND = ("self", "timestamp_ms", "key", "value", "headers")
_SERIALIZE = frozenset({"_serialize", "_deserialize"})


def _cluster(client: Any) -> object:
    """Return the cluster's id from the metadata: the producer's own, or that of the consumer's network client."""
    metadata = getattr(client, "_metadata", None) or client._client.cluster
    return metadata.cluster_id


def _bypasses_poll(settings: Mapping[str, Any]) -> str | None:
    if not settings.get("legacy_iterator"):
        return None
    return "a consumer with legacy_iterator=True bypasses poll() and is left alone"


def _format_has_headers(settings: Mapping[str, Any]) -> bool:
    version = settings.get("api_version")
    return not isinstance(version, tuple) or version >= _HEADERS_SINCE


KAFKA_PYTHON = Library(
    name="kafka-python",
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
    settings=attrgetter("config"),
    cluster=_cluster,
    positions=kafka_python_fetches.positions,
    member=kafka_python_fetches.is_member,
    begun=kafka_python_fetches.follow,
    left_alone=_bypasses_poll,
    headers_allowed=_format_has_headers,
    # The sender is a daemon thread: it works on while the interpreter ends.
    delivers=lambda producer: bool(producer._accumulator._incomplete.all()),
)


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch the client. Raises `DriftedError`, before anything is changed, when a signature is not the known one."""
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.consumer.fetcher import ConsumerRecord

    patches.check_signature(KafkaProducer.send, _SEND)
    patches.check_signature(KafkaConsumer.poll, _POLL)
    producers = KafkaProducers(engine, KAFKA_PYTHON, _instrument_sequence(patches, engine))
    patches.replace(KafkaProducer, "send", functools.partial(_make_send, engine, producers))
    if hasattr(KafkaProducer, "abort_transaction"):
        patches.replace(KafkaProducer, "abort_transaction", producers.aborting())
    consumers = KafkaConsumers(engine, KAFKA_PYTHON, ConsumerRecord)
    patches.replace(KafkaConsumer, "__iter__", functools.partial(_make_iter, consumers))
    patches.replace(KafkaConsumer, "__next__", functools.partial(_make_next, consumers))
    patches.replace(KafkaConsumer, "poll", functools.partial(_make_poll, consumers))
    patches.replace(KafkaConsumer, "close", consumers.closing())
    for name in ("seek", "seek_to_beginning", "seek_to_end"):
        patches.replace(KafkaConsumer, name, consumers.seeking())
    patches.replace(KafkaConsumer, "commit", consumers.settling("commit"))
    patches.replace(KafkaConsumer, "commit_async", functools.partial(_make_commit_async, consumers))
    kafka_python_fetches.instrument(patches, consumers)


def _instrument_sequence(patches: Patches, engine: Engine) -> Sequences | None:
    """Stamp messages under the partition's lock, in the one place that holds it; without it no sequence is sent."""
    for module in ("kafka.producer.producer_batch", "kafka.producer.record_accumulator"):
        try:
            batch = importlib.import_module(module).ProducerBatch
            patches.check_signature(batch.try_append, _APPEND, more=("now",))
        except (ImportError, AttributeError, TypeError):
            continue
        sequences = Sequences(engine.guard)
        engine.given.append(sequences.given)
        patches.replace(batch, "try_append", functools.partial(_make_try_append, sequences))
        return sequences
    engine.guard.problem(
        "kafka_python.sequence",
        "kafka-python: ProducerBatch.try_append is not as known, so no sequence is sent and losses before the broker "
        "cannot be told",
    )
    return None


def _make_try_append(sequences: Sequences, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def try_append(self: Any, timestamp_ms: Any, key: Any, value: Any, headers: Any, **now: Any) -> Any:
        if not headers:
            return original(self, timestamp_ms, key, value, headers, **now)
        partition = self.topic_partition
        stamped = sequences.stamp(headers, partition.topic, partition.partition)
        future = original(self, timestamp_ms, key, value, headers, **now)
        if stamped is not None:
            sequences.settle(headers, stamped, taken=future is not None)
        return future

    return try_append


def _make_send(engine: Engine, producers: KafkaProducers, original: Callable[..., Any]) -> Callable[..., Any]:
    known, producer_of, begin = producers.by_id.get, producers.of, sender(engine)
    place = engine.guard.place("send.follow")

    @functools.wraps(original)
    def send(
        self: Any,
        topic: Any,
        value: Any = None,
        key: Any = None,
        headers: Any = None,
        partition: Any = None,
        timestamp_ms: Any = None,
    ) -> Any:
        sending = begin(known(id(self)) or producer_of(self), topic, partition, key, value, headers)
        if sending is None:
            return original(
                self, topic, value=value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms
            )
        try:
            future = original(
                self,
                topic,
                value=value,
                key=key,
                headers=sending.headers,
                partition=partition,
                timestamp_ms=timestamp_ms,
            )
        except BaseException as error:
            failed(sending, error)
            tell_unreadable(engine, error, "producer", "kafka.", _SERIALIZE)
            raise
        _follow(place, sending, future)
        return future

    return send


def _follow(place: Place, sending: Sending, future: Any) -> None:
    """End the span when the broker has answered. The client calls back from its own thread."""
    try:
        # 3.x adds both under one lock; older ones have the public method only.
        add = getattr(future, "_add_cb_eb", None)
        if add is not None:
            add(sending, sending)
        else:
            future.add_both(sending)
    except Exception:
        place.failed()


def _make_iter(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __iter__(self: Any) -> Any:  # noqa: N807
        consumer = consumers.of(self)
        if consumer.excluded or not consumer.engine.active:
            return original(self)
        return consumers.iteration.deliveries(original(self), consumer)

    return __iter__


def _make_next(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    known, consumer_of, iteration = consumers.by_id.get, consumers.of, consumers.iteration
    leave, hand_out, raise_rejection = iteration.leave, iteration.hand_out, iteration.raise_rejection

    @functools.wraps(original)
    def __next__(self: Any) -> Any:  # noqa: N807
        consumer = known(id(self)) or consumer_of(self)
        leave(consumer)
        message = original(self)
        hand_out(consumer, message)
        if consumer.rejection is not None:
            raise_rejection(consumer)
        return message

    return __next__


def _make_poll(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    known, consumer_of, engine = consumers.by_id.get, consumers.of, consumers.engine
    received, monotonic_ns = receiver(engine, consumers.fields), engine.monotonic_ns
    tell_assigned = teller_of_assignments(engine.guard, attrgetter("_subscription.assignment"))

    @functools.wraps(original)
    def poll(self: Any, timeout_ms: Any = 0, max_records: Any = None, update_offsets: Any = True) -> Any:  # noqa: FBT002
        consumer = known(id(self)) or consumer_of(self)
        if consumer.batch is not None:
            leave_batch(engine, consumer)
        by_iterator = not update_offsets
        started_ns = monotonic_ns()
        consumer.polling.begin(started_ns, by_iterator=by_iterator)
        try:
            records = original(self, timeout_ms=timeout_ms, max_records=max_records, update_offsets=update_offsets)
        except Exception as error:
            received(consumer, (), started_ns, error, by_iterator)
            tell_unreadable(engine, error, "consumer", "kafka.", _SERIALIZE)
            raise
        finally:
            consumer.polling.end(monotonic_ns())
        if records:
            tell_assigned(self, consumer, records)
            received(consumer, tuple(records.values()), started_ns, None, by_iterator)
        return records

    return poll


def _make_commit_async(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    engine, settled = consumers.engine, settler(consumers.engine, "commit_async")
    monotonic_ns, place = engine.monotonic_ns, engine.guard.place("settle")

    @functools.wraps(original)
    def commit_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        started_ns = monotonic_ns()
        future = original(self, *args, **kwargs)
        if place.off:
            return future
        try:
            consumer = consumers.of(self)
            future.add_callback(lambda _result: settled(consumer, started_ns, None))
            future.add_errback(lambda error: settled(consumer, started_ns, error))
        except Exception:
            place.failed()
        return future

    return commit_async
