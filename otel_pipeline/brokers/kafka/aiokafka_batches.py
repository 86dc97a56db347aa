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
    from collections.abc import Callable, Sequence

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

    __slots__ = ("_batches", "_engine", "_place", "_producers")

    def __init__(self, producers: KafkaProducers) -> None:
        self._producers, self._engine = producers, producers.engine
        self._place: Place = producers.engine.guard.place("send")
        self._batches: WeakKeyDictionary[Any, BuiltBatch] = WeakKeyDictionary()

    def make_create_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what begins one."""
        batches, engine, place, begin = self._batches, self._engine, self._place, sender(self._engine)

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
            metadata = original(self, timestamp=timestamp, key=key, value=value, **sent)
            try:
                if built is not None and sending is not None and metadata is not None:
                    built.take(sending, value)
            except Exception:
                place.failed()
            return metadata

        return append

    def make_send_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what sends one."""
        batches, place, ended = self._batches, self._place, self._ended

        @functools.wraps(original)
        async def send_batch(self: Any, batch: Any, topic: Any, *, partition: Any) -> Any:
            built: BuiltBatch | None = None
            sendings: Sequence[Sending] = ()
            try:
                built = batches.get(batch)
                if built is not None:
                    sendings = built.address(topic, partition)
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


def _failed(built: BuiltBatch, sendings: Sequence[Sending], error: BaseException) -> None:
    for sending in sendings:
        failed(sending, error)
    built.failed()
