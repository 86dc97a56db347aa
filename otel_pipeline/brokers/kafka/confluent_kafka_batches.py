"""confluent-kafka's `produce_batch`, which gives no headers, and AIOProducer, which sends nothing in any other way.

Each message is produced by itself instead, with headers; that takes 1.15 times as long. What `produce_batch` has words
of its own for is left to it.
"""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches

_CONTEXT = "otel_pipeline.context"
"""Where a message of AIOProducer's has the context that it was sent in: it is produced later, in a pool's thread."""
_BODY = (str, bytes, type(None))
_NOT_SUPPORTED = "timestamp"
_UNASSIGNED = -1


def instrument(patches: Patches, engine: Engine, kind: type) -> None:
    """Patch the producers' class where it has the method, since 2.12, and what buffers messages in front of it."""
    if not hasattr(kind, "produce_batch"):
        return
    patches.replace(kind, "produce_batch", functools.partial(_make_produce_batch, engine, kind))
    place = engine.guard.place("send.batch")

    def patch_buffer(module: Any) -> None:
        patches.check_signature(module.ProducerBatchManager.add_message, ("self", "msg_data", "future"))
        patches.replace(module.ProducerBatchManager, "add_message", functools.partial(_make_add_message, place))

    patches.when_imported("confluent_kafka.aio.producer._producer_batch_processor", patch_buffer)


def _make_add_message(place: Place, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def add_message(self: Any, msg_data: Any, future: Any) -> Any:
        try:
            if not place.off:
                msg_data[_CONTEXT] = contextvars.copy_context()
        except Exception:
            place.failed()
        return original(self, msg_data, future)

    return add_message


def _read(
    topic: Any, messages: Any, partition: Any = _UNASSIGNED, callback: Any = None, on_delivery: Any = None
) -> list[tuple[Any, tuple[Any, ...]]] | None:
    """Return (context, arguments of `produce`) of each message; None where the batch is not as it should be."""
    if type(messages) is not list or not isinstance(topic, str):
        return None
    usual, found = on_delivery if callback is None else callback, []
    for message in messages:
        if type(message) is not dict or _NOT_SUPPORTED in message:
            return None
        value, key, to = message.get("value"), message.get("key"), message.get("partition", partition)
        if not isinstance(value, _BODY) or not isinstance(key, _BODY) or type(to) is not int:
            return None
        told = message.get("callback")
        found.append((message.get(_CONTEXT), (topic, value, key, to, usual if told is None else told)))
    return found


def _make_produce_batch(engine: Engine, kind: type, original: Callable[..., Any]) -> Callable[..., Any]:
    place = engine.guard.place("send.batch")

    def planned(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what produces each message; None where nothing is to be done, or the client is to refuse it."""
        if place.off or not engine.active:
            return None
        try:
            found = _read(*args, **kwargs)
        except TypeError:
            return None
        if found is None:
            return None
        produce: Any = vars(kind)["produce"]  # Not a subclass's: that may serialize.
        return [
            functools.partial(produce, client, *call)
            if context is None
            else functools.partial(context.copy().run, produce, client, *call)
            for context, call in found
        ]

    @functools.wraps(original)
    def produce_batch(self: Any, *args: Any, **kwargs: Any) -> Any:
        plan = None
        try:
            plan = planned(self, args, kwargs)
        except Exception:
            place.failed()
        if plan is None:
            return original(self, *args, **kwargs)
        return _produced(args[1] if len(args) > 1 else kwargs["messages"], plan)

    return produce_batch


def _produced(messages: list[dict[str, Any]], plan: list[Callable[[], Any]]) -> int:
    """Produce each; count those that the client has taken, and note the error of each other one as it would."""
    from confluent_kafka import KafkaError, KafkaException

    queued = 0
    for message, function in zip(messages, plan, strict=True):
        try:
            function()
        except BufferError:
            code = KafkaError._QUEUE_FULL
        except KafkaException as error:
            code = error.args[0].code()
        else:
            queued += 1
            continue
        message["_error"] = KafkaError(code, f"Message failed: {KafkaError(code).str()}")
    return queued
