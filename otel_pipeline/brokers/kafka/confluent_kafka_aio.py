"""confluent-kafka's AIOConsumer: a pool's threads call a Consumer; what comes is in hand in the task that awaits it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.async_loop import AsyncIteration
from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.driven import leave_loops
from otel_pipeline.engine.patching import Around

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.brokers.kafka.confluent_kafka_clients import ConsumerHandle, ConsumerHandles
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.patching import Patches


def instrument(patches: Patches, consumers: KafkaConsumers, handles: ConsumerHandles, message: type) -> None:
    """Patch the class when it is imported."""

    def patch(module: Any) -> None:
        iteration = AsyncIteration(consumers.iteration, consumers.processor)
        kind = module.AIOConsumer
        patches.replace(kind, "poll", functools.partial(_make_poll, consumers, handles, iteration))
        patches.replace(kind, "consume", _consuming(consumers, handles, iteration))
        patches.replace(kind, "close", _closing(consumers, iteration))
        clients = consumers.engine.clients
        usual = clients[message].consumer_of

        def consumer_of(client: Any) -> Consumer:
            found: Consumer = usual(client._consumer if isinstance(client, kind) else client)
            return found

        clients[message] = clients[message]._replace(consumer_of=consumer_of)

    patches.when_imported("confluent_kafka.aio._AIOConsumer", patch)


def _make_poll(
    consumers: KafkaConsumers, handles: ConsumerHandles, iteration: AsyncIteration, original: Callable[..., Any]
) -> Callable[..., Any]:
    consumer_of, leave, hand_out = consumers.of, iteration.leave, iteration.hand_out
    nobody, place = consumers.left_alone, consumers.receiving

    async def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        consumer, rejection = nobody, None
        try:
            handles.with_consumer(self._consumer, consumers).awaited = True
            consumer = consumer_of(self._consumer)
            leave(consumer)
            if consumer.loops:
                leave_loops(consumer, of_task=True)
        except Exception:
            place.failed()
        message = await original(self, *args, **kwargs)
        try:
            if message is not None and message.error() is None:
                rejection = hand_out(consumer, message)
                consumers.count_one(consumer, message)
        except Exception:
            place.failed()
        if rejection is not None:
            raise rejection
        return message

    iteration.own.add(poll.__code__)
    return functools.wraps(original)(poll)


def _consuming(consumers: KafkaConsumers, handles: ConsumerHandles, iteration: AsyncIteration) -> Around:
    """Leave what the task had; what it is given is told in a pool's thread, in the task's context."""

    def before(client: Any, _args: Any, _kwargs: Any) -> ConsumerHandle:
        handle = handles.with_consumer(client._consumer, consumers)
        consumer = consumers.of(client._consumer)
        iteration.leave(consumer)
        leave_loops(consumer, of_task=True)
        handle.awaited, handle.context = True, get_current()
        return handle

    def after(_client: Any, handle: ConsumerHandle, _error: BaseException | None) -> None:
        handle.context = None

    return Around(consumers.engine.guard.place("receive"), before, after)


def _closing(consumers: KafkaConsumers, iteration: AsyncIteration) -> Around:
    def before(client: Any, _args: Any, _kwargs: Any) -> None:
        consumer = consumers.known(client._consumer)
        if consumer is not None:
            iteration.leave_all(consumer)
            leave_loops(consumer)

    return Around(consumers.engine.guard.place("close"), before, lambda *_: None)
