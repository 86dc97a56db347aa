"""kafka-python.

Patched: KafkaProducer.send, .abort_transaction; ProducerBatch.try_append; KafkaConsumer.__iter__, .__next__, .poll,
.commit, .commit_async, .close. The signatures are the client's own, the same from 2.0.2 to 3.0; where one has changed,
the adapter stays off.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka import kafka_python_fetches, kafka_python_hazards, kafka_python_values
from otel_pipeline.engine.batch import leave_batch
from otel_pipeline.engine.clients import Consumer, Producer
from otel_pipeline.engine.consumer_loop import Iteration
from otel_pipeline.engine.engine import client_attributes, server_of
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.process import Client
from otel_pipeline.engine.processor import Processor
from otel_pipeline.engine.receive import receiver
from otel_pipeline.engine.send import Sending, sender
from otel_pipeline.engine.sequence import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.clients import PartitionState
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches

SYSTEM = "kafka"
FIELDS = MessageFields(
    destination=attrgetter("topic"),
    partition=attrgetter("partition"),
    offset=attrgetter("offset"),
    timestamp_ms=attrgetter("timestamp"),
    key=attrgetter("key"),
    value=attrgetter("value"),
    headers=attrgetter("headers"),
    body_bytes=attrgetter("serialized_value_size"),
)
_ACKNOWLEDGED = attrgetter("partition", "offset")
_ATTRIBUTE = "_otel_pipeline"
_HEADERS_SINCE = (0, 11)  # Message formats before it have none, and the client raises when it is given some.
_SEND = ("self", "topic", "value", "key", "headers", "partition", "timestamp_ms")
_POLL = ("self", "timeout_ms", "max_records", "update_offsets")
_APPEND = ("self", "timestamp_ms", "key", "value", "headers")


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch the client. `DriftedError` is raised, before anything is changed, when a signature is not the known one."""
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.consumer.fetcher import ConsumerRecord

    patches.check_signature(KafkaProducer.send, _SEND)
    patches.check_signature(KafkaConsumer.poll, _POLL)
    sequences = _instrument_sequence(patches, engine)
    _instrument_producer(patches, engine, KafkaProducer, sequences)
    _instrument_consumer(patches, engine, KafkaConsumer, ConsumerRecord)
    kafka_python_fetches.instrument(patches, engine)


def _client_id(client: Any) -> str | None:
    value = client.config.get("client_id")
    return value if isinstance(value, str) and value else None


def _instrument_sequence(patches: Patches, engine: Engine) -> Sequences | None:
    """Stamp under the partition's lock, in the one place that has it; without it no sequence is sent."""
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


def _instrument_producer(patches: Patches, engine: Engine, producer: type, sequences: Sequences | None) -> None:
    producer_of = _producers(engine, sequences)
    begin = sender(engine)
    place = engine.guard.place("send.follow", engine.guard.place("send"))

    def make_send(original: Callable[..., Any]) -> Callable[..., Any]:
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
            known = producer_of(self)
            sending = None if known is None else begin(known, topic, partition, key, value, headers)
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
                sending.finish(None, None, error)
                kafka_python_values.tell_of_failure(engine, error, "producer")
                raise
            _follow(place, sending, future)
            return future

        return send

    def make_abort(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def abort_transaction(self: Any) -> Any:
            try:
                return original(self)
            finally:
                # What was aborted is never delivered: under the old id its numbers would look lost.
                known = producer_of(self)
                if known is not None and known.identifier:
                    known.renew()

        return abort_transaction

    patches.replace(producer, "send", make_send)
    if hasattr(producer, "abort_transaction"):
        patches.replace(producer, "abort_transaction", make_abort)


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


def _producers(engine: Engine, sequences: Sequences | None) -> Callable[[Any], Producer | None]:
    """A function that gives the engine's side of a producer, made at its first message. It never raises."""
    place = engine.guard.place("kafka_python.producer")

    def producer_of(client: Any) -> Producer | None:
        known: tuple[Engine, Producer] | None = client.__dict__.get(_ATTRIBUTE)
        if known is not None and known[0] is engine:
            return known[1]
        if place.off:
            return None
        try:
            made = make(client)
            client.__dict__[_ATTRIBUTE] = (engine, made)
        except Exception:
            place.failed()
            return None
        return made

    def make(client: Any) -> Producer:
        client_id = _client_id(client)
        version = client.config.get("api_version")
        made = Producer(
            attributes=client_attributes(SYSTEM, server_of(client.config.get("bootstrap_servers"))),
            client_id=client_id,
            cluster_id=functools.partial(_cluster_id, weakref.ref(client), "_metadata"),
            headers_allowed=not isinstance(version, tuple) or version >= _HEADERS_SINCE,
            excluded=client_id is not None and engine.settings.excludes_client(client_id),
            numbers=sequences,
            read=_ACKNOWLEDGED,
        )
        if sequences is not None:
            weakref.finalize(client, lambda: sequences.forget(made.identifier)).atexit = False
        if not made.excluded:
            engine.hazards.update(
                (hazard, "kafka-python") for hazard in kafka_python_hazards.of_producer(client.config)
            )
        return made

    return producer_of


def _cluster_id(client: weakref.ref[Any], path: str) -> str | None:
    """The cluster's id, where this version of the client keeps it and has asked for it."""
    value: Any = client()
    for name in path.split("."):
        value = getattr(value, name, None)
    cluster = getattr(value, "cluster_id", None)
    return cluster if isinstance(cluster, str) else None


def _instrument_consumer(patches: Patches, engine: Engine, consumer: type, record: type) -> None:
    consumer_of = _consumers(engine)
    processor = Processor(engine, FIELDS)
    iteration = Iteration(engine, processor, FIELDS)
    unknown = Consumer(
        engine,
        FIELDS,
        attributes=client_attributes(SYSTEM, None),
        client_id=None,
        group=None,
        excluded=False,
        operation="poll",
    )
    engine.clients[record] = Client(FIELDS, processor, consumer_of, unknown)
    patches.replace(consumer, "__iter__", functools.partial(_make_iter, consumer_of, iteration))
    patches.replace(consumer, "__next__", functools.partial(_make_next, consumer_of, iteration))
    patches.replace(consumer, "poll", functools.partial(_make_poll, engine, consumer_of))
    patches.replace(consumer, "close", functools.partial(_make_close, consumer_of, iteration))
    for name in ("seek", "seek_to_beginning", "seek_to_end"):
        patches.replace(consumer, name, functools.partial(_make_seek, engine))
    patches.replace(consumer, "commit", functools.partial(_make_commit, engine, consumer_of))
    patches.replace(consumer, "commit_async", functools.partial(_make_commit_async, engine, consumer_of))


def _consumers(engine: Engine) -> Callable[[Any], Consumer]:
    """A function that gives the engine's side of a consumer, made at its first use. It never raises."""
    place = engine.guard.place("kafka_python.consumer")

    def consumer_of(client: Any) -> Consumer:
        known: Consumer | None = client.__dict__.get(_ATTRIBUTE)
        if known is not None and known.engine is engine:
            return known
        try:
            made = make(client)
        except Exception:
            place.failed()
            made = Consumer(engine, FIELDS, attributes={}, client_id=None, group=None, excluded=True, operation="poll")
        client.__dict__[_ATTRIBUTE] = made
        return made

    def make(client: Any) -> Consumer:
        client_id = _client_id(client)
        excluded = client_id is not None and engine.settings.excludes_client(client_id)
        if client.config.get("legacy_iterator"):
            excluded = True
            engine.guard.problem(
                "kafka_python.legacy_iterator",
                "kafka-python: a consumer with legacy_iterator=True bypasses poll() and is left alone",
            )
        made = Consumer(
            engine,
            FIELDS,
            attributes=client_attributes(SYSTEM, server_of(client.config.get("bootstrap_servers"))),
            client_id=client_id,
            group=client.config.get("group_id"),
            excluded=excluded,
            operation="poll",
            cluster_id=functools.partial(_cluster_id, weakref.ref(client), "_client.cluster"),
            positions=functools.partial(kafka_python_fetches.positions, weakref.ref(client)),
        )
        engine.add_consumer(made)
        kafka_python_fetches.belongs_to(client, made)
        if not excluded:
            engine.hazards.update(
                (hazard, "kafka-python") for hazard in kafka_python_hazards.of_consumer(client.config)
            )
        return made

    return consumer_of


def _make_iter(
    consumer_of: Callable[[Any], Consumer], iteration: Iteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def __iter__(self: Any) -> Any:  # noqa: N807
        consumer = consumer_of(self)
        if consumer.excluded or not consumer.engine.active:
            return original(self)
        return iteration.deliveries(original(self), consumer)

    return __iter__


def _make_next(
    consumer_of: Callable[[Any], Consumer], iteration: Iteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    leave, hand_out, raise_rejection = iteration.leave, iteration.hand_out, iteration.raise_rejection

    @functools.wraps(original)
    def __next__(self: Any) -> Any:  # noqa: N807
        consumer = consumer_of(self)
        leave(consumer)
        message = original(self)
        hand_out(consumer, message)
        if consumer.rejection is not None:
            raise_rejection(consumer)
        return message

    return __next__


def _make_poll(
    engine: Engine, consumer_of: Callable[[Any], Consumer], original: Callable[..., Any]
) -> Callable[..., Any]:
    received = receiver(engine, FIELDS)
    assigned = kafka_python_fetches.teller_of_assignments(engine.guard)
    monotonic_ns = engine.monotonic_ns

    @functools.wraps(original)
    def poll(self: Any, timeout_ms: Any = 0, max_records: Any = None, update_offsets: Any = True) -> Any:  # noqa: FBT002
        consumer = consumer_of(self)
        if consumer.batch is not None:
            leave_batch(engine, consumer)
        by_iterator = not update_offsets
        started_ns = monotonic_ns()
        consumer.polling.begin(started_ns, by_iterator=by_iterator)
        try:
            records = original(self, timeout_ms=timeout_ms, max_records=max_records, update_offsets=update_offsets)
        except Exception as error:
            received(consumer, (), started_ns, error, by_iterator)
            kafka_python_values.tell_of_failure(engine, error, "consumer")
            raise
        finally:
            consumer.polling.end(monotonic_ns())
        if records:
            assigned(self, consumer, records)
            received(consumer, tuple(records.values()), started_ns, None, by_iterator)
        return records

    return poll


def _make_close(
    consumer_of: Callable[[Any], Consumer], iteration: Iteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        consumer = consumer_of(self)
        iteration.leave(consumer)
        leave_batch(iteration.engine, consumer)
        try:
            return original(self, *args, **kwargs)
        finally:
            consumer.close()

    return close


def _make_seek(engine: Engine, original: Callable[..., Any]) -> Callable[..., Any]:
    place = engine.guard.place("seek")

    @functools.wraps(original)
    def seek(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if place.off:
            return result
        try:
            consumer = self.__dict__.get(_ATTRIBUTE)
            for state in () if consumer is None else list(consumer.partitions.values()):
                if state.observer is not None and _is_sought(state, args, kwargs):
                    state.observer.sought()
        except Exception:
            place.failed()
        return result

    return seek


def _is_sought(state: PartitionState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of seek, or of the others that take any number of partitions, means this one; without any, all."""
    named = [each for each in (*args, *kwargs.values()) if isinstance(each, tuple)]
    return not named or (state.destination, state.partition) in named


def _make_commit(
    engine: Engine, consumer_of: Callable[[Any], Consumer], original: Callable[..., Any]
) -> Callable[..., Any]:
    settled = engine.settler("commit")
    monotonic_ns = engine.monotonic_ns

    @functools.wraps(original)
    def commit(self: Any, *args: Any, **kwargs: Any) -> Any:
        started_ns = monotonic_ns()
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            settled(consumer_of(self), started_ns, error)
            raise
        settled(consumer_of(self), started_ns, None)
        return result

    return commit


def _make_commit_async(
    engine: Engine, consumer_of: Callable[[Any], Consumer], original: Callable[..., Any]
) -> Callable[..., Any]:
    settled = engine.settler("commit_async")
    monotonic_ns = engine.monotonic_ns

    @functools.wraps(original)
    def commit_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        started_ns = monotonic_ns()
        future = original(self, *args, **kwargs)
        try:
            consumer = consumer_of(self)
            future.add_callback(lambda _result: settled(consumer, started_ns, None))
            future.add_errback(lambda error: settled(consumer, started_ns, error))
        except Exception:
            engine.guard.place("settle").failed()
        return future

    return commit_async
