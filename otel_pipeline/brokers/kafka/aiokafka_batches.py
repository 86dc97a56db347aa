"""aiokafka's batches that the application builds: `create_batch()`, `append()`, `send_batch()`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from otel_pipeline.brokers.kafka.client import failed
from otel_pipeline.engine.built_batch import BuiltBatch
from otel_pipeline.engine.patching import DriftedError
from otel_pipeline.engine.send import sender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_pipeline.brokers.kafka.client import KafkaProducers
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.engine.send import Sending

_APPEND = ("self", "timestamp", "key", "value", "headers")
_SEND_BATCH = ("self", "batch", "topic", "partition")


def instrument(patches: Patches, producers: KafkaProducers) -> None:
    """Patch the three. Where one is not as known, messages of such batches have no context, and the status says so."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.producer.message_accumulator import BatchBuilder

    try:
        patches.check_signature(BatchBuilder.append, _APPEND)
        patches.check_signature(AIOKafkaProducer.create_batch, ("self",))
        patches.check_signature(AIOKafkaProducer.send_batch, _SEND_BATCH)
    except (AttributeError, DriftedError) as drifted:
        message = f"aiokafka: {drifted}; messages of batches that the application builds carry no context"
        producers.engine.guard.problem("aiokafka.batches", message)
        return
    building = Building(producers)
    patches.replace(AIOKafkaProducer, "create_batch", building.make_create_batch)
    patches.replace(BatchBuilder, "append", building.make_append)
    patches.replace(AIOKafkaProducer, "send_batch", building.make_send_batch)


class Building:
    """The batches that are being built, and the replacements of what builds them."""

    __slots__ = ("_batches", "_create", "_engine", "_place", "_producers")

    def __init__(self, producers: KafkaProducers) -> None:
        self._producers, self._engine = producers, producers.engine
        self._place: Place = producers.engine.guard.place("send")
        self._batches: WeakKeyDictionary[Any, BuiltBatch] = WeakKeyDictionary()
        self._create: Callable[[Any], Any] = lambda _producer: None
        """The client's own `create_batch`."""

    def make_create_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what begins one."""
        batches, engine, place, begin = self._batches, self._engine, self._place, sender(self._engine)

        self._create = original

        @functools.wraps(original)
        def create_batch(self: Any) -> Any:
            builder = original(self)
            try:
                if not place.off:
                    batches[builder] = BuiltBatch(engine, producer_of(self), begin)
            except Exception:
                place.failed()
            return builder

        producer_of = self._producers.of
        return create_batch

    def make_append(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what adds a message. The client's own batches, which `send()` fills, come here too."""
        batches, place = self._batches, self._place

        @functools.wraps(original)
        def append(self: Any, *, timestamp: Any, key: Any, value: Any, **headers: Any) -> Any:
            built, sending, sent = None, None, headers
            try:
                built = batches.get(self) if batches else None
                if built is not None:
                    sending = built.begin(key, value, headers.get("headers"))
                    if sending is not None and sending.headers is not None:
                        sent = {"headers": sending.headers}
            except Exception:
                place.failed()
            try:
                metadata = original(self, timestamp=timestamp, key=key, value=value, **sent)
            except BaseException:
                if built is not None and sending is not None:
                    place.told(built.refuse, sending)
                raise
            try:
                if built is not None:
                    _tell(built, sending, value, None if sent is headers else headers, taken=metadata is not None)
            except Exception:
                place.failed()
            return metadata

        return append

    def make_send_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what sends one."""
        batches, place, ended, leave_alone = self._batches, self._place, self._ended, self._leave_alone

        @functools.wraps(original)
        async def send_batch(self: Any, batch: Any, topic: Any, *, partition: Any) -> Any:
            built: BuiltBatch | None = None
            sendings: Sequence[Sending] = ()
            try:
                built = batches.get(batch)
                if built is not None:
                    sendings = built.address(topic, partition)
                    leave_alone(self, batch, topic, built)
            except Exception:
                place.failed()
            try:
                future = await original(self, batch, topic, partition=partition)
            except BaseException as error:
                if built is not None:
                    place.told(_failed, built, sendings, error)
                raise
            try:
                if built is not None:
                    del batches[batch]  # What `send()` adds to it from now on has its own context.
                    built.sent()
                    future.add_done_callback(functools.partial(ended, sendings))
            except Exception:
                place.failed()
            return future

        return send_batch

    def _leave_alone(self, client: Any, batch: Any, topic: Any, built: BuiltBatch) -> None:
        """Take what is ours out of a batch for an excluded destination."""
        if isinstance(topic, str) and self._engine.settings.excludes_destination(topic):
            _restore(self._create, client, batch, built.given)

    def _ended(self, sendings: Sequence[Sending], done: Any) -> None:
        """Finish all messages of a batch: its answer tells where the first of them is."""
        try:
            error = None if done.cancelled() else getattr(done, "_exception", None)
            answer = None if done.cancelled() or error is not None else done.result()
            for number, sending in enumerate(sendings):
                if answer is None:
                    sending.finish(None, None, error)
                else:
                    sending.finish(answer.partition, answer.offset + number)
        except Exception:
            self._place.failed()


def _tell(
    built: BuiltBatch, sending: Sending | None, value: Any, given: Mapping[str, Any] | None, *, taken: bool
) -> None:
    """Say what became of a message; `given` has the application's own headers where others were handed on."""
    if taken:
        built.given.append(None if given is None else list(given.get("headers") or ()))
    if sending is not None and taken:
        built.take(sending, value)
    elif sending is not None:
        built.refuse(sending)


def _restore(create: Callable[[Any], Any], producer: Any, batch: Any, given: list[Any]) -> None:
    """Take our headers out of a batch: what it has encoded is read, and encoded anew with the application's own."""
    if batch._buffer is not None or len(given) != batch.record_count() or all(each is None for each in given):
        return
    encoded = bytes(batch._builder.build())
    try:
        batch._builder = _encoded_anew(create(producer), encoded, given)
    except BaseException:
        batch._buffer = encoded  # It can be built only once.
        batch.close()
        raise
    given[:] = [None] * len(given)


def _encoded_anew(fresh: Any, encoded: bytes, given: Sequence[Any]) -> Any:
    from aiokafka.record.default_records import DefaultRecordBatch

    builder = fresh._builder
    for number, (record, headers) in enumerate(zip(DefaultRecordBatch(encoded), given, strict=True)):
        own = record.headers if headers is None else headers
        if builder.append(number, record.timestamp, record.key, record.value, own) is None:
            raise ValueError("a message that is smaller than before does not fit")
    return builder


def _failed(built: BuiltBatch, sendings: Sequence[Sending], error: BaseException) -> None:
    for sending in sendings:
        failed(sending, error)
    built.failed()
