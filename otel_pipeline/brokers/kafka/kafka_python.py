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
from otel_pipeline.brokers.kafka.client import (
    NAMES,
    KafkaConsumers,
    KafkaProducers,
    Library,
    failed,
    format_has_headers,
    tell_unreadable,
)
from otel_pipeline.brokers.kafka.feeds import teller_of_assignments
from otel_pipeline.brokers.kafka.kafka_python_batches import SentBatches
from otel_pipeline.brokers.kafka.pull import Pull
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.open_sends import OpenBatch
from otel_pipeline.engine.send import Sending, sender
from otel_pipeline.engine.sequence import Sequences
from otel_pipeline.engine.settle import settler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches

_SEND = ("self", "topic", "value", "key", "headers", "partition", "timestamp_ms")
_POLL = ("self", "timeout_ms", "max_records", "update_offsets")
_APPEND = ("self", "timestamp_ms", "key", "value", "headers")
_SERIALIZE = frozenset({"_serialize", "_deserialize"})


def _cluster(client: Any) -> object:
    """Return the cluster's id from the metadata: the producer's own, or that of the consumer's network client."""
    metadata = getattr(client, "_metadata", None) or client._client.cluster
    return getattr(metadata, "cluster_id", None)  # Older ones have none.


def _bypasses_poll(settings: Mapping[str, Any]) -> str | None:
    if not settings.get("legacy_iterator"):
        return None
    return "a consumer with legacy_iterator=True bypasses poll() and is left alone"


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
    headers_allowed=format_has_headers,
    # The sender is a daemon thread: it works on while the interpreter ends.
    delivers=lambda producer: bool(producer._accumulator._incomplete.all()),
    open_batches=lambda producer: [
        OpenBatch(batch, batch.topic_partition.topic, batch.record_count)
        for batch in producer._accumulator._incomplete.all()
    ],
)


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch the client. Raises `DriftedError`, before anything is changed, when a signature is not the known one."""
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.consumer.fetcher import ConsumerRecord

    patches.check_signature(KafkaProducer.send, _SEND)
    patches.check_signature(KafkaConsumer.poll, _POLL)
    batches = SentBatches(engine)
    producers = KafkaProducers(engine, KAFKA_PYTHON, _instrument_sequence(patches, engine, batches))
    batches.instrument(patches)
    patches.replace(KafkaProducer, "send", functools.partial(_make_send, engine, producers, batches))
    if hasattr(KafkaProducer, "abort_transaction"):
        patches.replace(KafkaProducer, "abort_transaction", producers.aborting())
    consumers = KafkaConsumers(engine, KAFKA_PYTHON, ConsumerRecord)
    patches.replace(KafkaConsumer, "__iter__", consumers.iterating())
    patches.replace(KafkaConsumer, "__next__", consumers.handing_out())
    patches.replace(KafkaConsumer, "poll", functools.partial(_make_poll, consumers))
    patches.replace(KafkaConsumer, "close", consumers.closing())
    for name in ("seek", "seek_to_beginning", "seek_to_end"):
        patches.replace(KafkaConsumer, name, consumers.seeking())
    patches.replace(KafkaConsumer, "commit", consumers.settling("commit"))
    patches.replace(KafkaConsumer, "commit_async", functools.partial(_make_commit_async, consumers))
    kafka_python_fetches.instrument(patches, consumers)


def _instrument_sequence(patches: Patches, engine: Engine, batches: SentBatches) -> Sequences | None:
    """Stamp messages under the partition's lock, in the one place that holds it; without it no sequence is sent."""
    for module in ("kafka.producer.producer_batch", "kafka.producer.record_accumulator"):
        try:
            batch = importlib.import_module(module).ProducerBatch
            patches.check_signature(batch.try_append, _APPEND, more=("now",))
        except (ImportError, AttributeError, TypeError):
            continue
        sequences = Sequences(engine.guard)
        engine.given.append(sequences.given)
        patches.replace(batch, "try_append", functools.partial(_make_try_append, sequences, batches))
        return sequences
    engine.guard.problem(
        "kafka_python.sequence",
        "kafka-python: ProducerBatch.try_append is not as known, so no sequence is sent and losses before the broker "
        "cannot be told",
    )
    return None


def _make_try_append(sequences: Sequences, batches: SentBatches, original: Callable[..., Any]) -> Callable[..., Any]:
    place, expected = sequences.place, batches.expected

    @functools.wraps(original)
    def try_append(self: Any, timestamp_ms: Any, key: Any, value: Any, headers: Any, **now: Any) -> Any:
        stamped = sending = None
        try:
            if headers:
                stamped = sequences.stamp(headers, self.topic_partition.topic, self.topic_partition.partition)
        except Exception:
            place.failed()
        future = original(self, timestamp_ms, key, value, headers, **now)
        try:
            if future is None:
                if stamped is not None:
                    sequences.settle(headers, stamped, taken=False)
                return future
            if stamped is not None:
                stamped[1].last += 1  # As `settle` does.
            sending = expected.pop(id(headers), None)
            if sending is not None:
                batches.add(self, future, sending)
        except Exception:
            if sending is None:
                place.failed()
            else:
                expected[id(headers)] = sending  # It is followed by itself.
                batches.place.failed()
        return future

    return try_append


def _make_send(  # noqa: C901 - the client's call between what is done before and after, read in one place
    engine: Engine, producers: KafkaProducers, batches: SentBatches, original: Callable[..., Any]
) -> Callable[..., Any]:
    known, producer_of, begin = producers.by_id.get, producers.of, sender(engine)
    beginning, following = engine.guard.place("send"), engine.guard.place("send.follow")
    together, expected = batches.place, batches.expected

    def refused(sending: Sending, error: BaseException) -> None:
        failed(sending, error)
        tell_unreadable(engine, error, "producer", "kafka.", _SERIALIZE)

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
        sending, sent, awaited = None, headers, False
        try:
            sending = begin(known(id(self)) or producer_of(self), topic, partition, key, value, headers)
            if sending is not None:
                sent = sending.headers
                if batches.is_known and not together.off and sent is not headers:
                    expected[id(sent)] = sending
                    awaited = True
        except Exception:
            beginning.failed()
        # By their names from the headers on: another instrumentation below may read them in an order of its own.
        try:
            future = original(self, topic, value, key, headers=sent, partition=partition, timestamp_ms=timestamp_ms)
        except BaseException as error:
            # What stands in a batch is on its way all the same: its answer tells of it.
            if sending is not None and not (awaited and expected.pop(id(sent), None) is None):
                beginning.told(refused, sending, error)
            raise
        if sending is None:
            return future
        try:
            if awaited and expected.pop(id(sent), None) is None:
                return future  # It stands in a batch.
            # The client calls back from its own thread. 3.x adds both under one lock; older ones have `add_both` only.
            add = getattr(future, "_add_cb_eb", None)
            if add is not None:
                add(sending, sending)
            else:
                future.add_both(sending)
        except Exception:
            following.failed()
        return future

    return send


def _make_poll(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    known, consumer_of, nobody = consumers.by_id.get, consumers.of, consumers.left_alone
    tell_assigned = teller_of_assignments(consumers.engine.guard, attrgetter("_subscription.assignment"))
    pull, place = Pull(consumers, tell_assigned, "kafka.", _SERIALIZE), consumers.receiving

    @functools.wraps(original)
    def poll(self: Any, timeout_ms: Any = 0, max_records: Any = None, update_offsets: Any = True) -> Any:  # noqa: FBT002
        consumer, by_iterator = nobody, False
        try:
            consumer, by_iterator = known(id(self)) or consumer_of(self), not update_offsets
            again = pull.begin(self, consumer, by_iterator=by_iterator)
            if again is not None:
                return again
        except Exception:
            place.failed()
        try:
            records = original(self, timeout_ms=timeout_ms, max_records=max_records, update_offsets=update_offsets)
        except BaseException as error:
            place.told(pull.failed, consumer, error, by_iterator)
            raise
        try:
            pull.end(self, consumer, records, by_iterator=by_iterator)
        except BaseException:
            place.failed(pull.interrupted, consumer, records, by_iterator, only_theirs=True)
        return records

    return poll


def _make_commit_async(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    engine, settled = consumers.engine, settler(consumers.engine, "commit_async")
    monotonic_ns, place = engine.monotonic_ns, engine.guard.place("settle")

    @functools.wraps(original)
    def commit_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        started_ns: int | None = None
        try:
            started_ns = monotonic_ns()
        except Exception:
            place.failed()
        future = original(self, *args, **kwargs)
        try:
            if started_ns is not None and not place.off:
                consumer = consumers.of(self)
                future.add_callback(functools.partial(settled, consumer, started_ns, None))
                future.add_errback(functools.partial(settled, consumer, started_ns))
        except Exception:
            place.failed()
        return future

    return commit_async
