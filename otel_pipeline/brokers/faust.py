"""faust-streaming: an agent handles an event inside of its message's process span, where aiokafka is instrumented.

Patched: Stream.__aiter__, .take, .take_events, .take_with_timestamp, .noack_take; SensorDelegate.on_stream_event_in,
.on_stream_event_out; Agent._execute_actor; ProducerBuffer.put, Attachments.put; Topic.publish_message,
ThreadedProducer.publish_message; AIOKafkaConsumerThread._fetch_records. Messages are read from faust's own objects,
which have all that aiokafka's have.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.faust_streams import Handling
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.framework import take_over
from otel_pipeline.engine.patching import Around
from otel_pipeline.engine.process import Client
from otel_pipeline.engine.processor import Processor
from otel_pipeline.engine.receive import leave_batch, receiver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from opentelemetry.context import Context

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches

_EVENT = ("self", "tp", "offset", "stream", "event")
_EXECUTE = ("self", "coro", "aref")
_FETCH = ("self", "consumer", "active_partitions", "timeout", "max_records")
_TAKES = ("take", "take_events", "take_with_timestamp", "noack_take")


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch it. Raises `DriftedError`, before anything is changed, when a signature is not the known one."""
    from faust.agents.agent import Agent
    from faust.app._attached import Attachments
    from faust.sensors.base import SensorDelegate
    from faust.streams import Stream
    from faust.topics import Topic
    from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ThreadedProducer
    from faust.transport.producer import ProducerBuffer

    known = (
        (Stream.__aiter__, ("self",), ()),
        *((getattr(Stream, name), ("self", "max_", "within"), ("timestamp_field_name",)) for name in _TAKES),
        (SensorDelegate.on_stream_event_in, _EVENT, ()),
        (SensorDelegate.on_stream_event_out, (*_EVENT, "state"), ()),
        (Agent._execute_actor, _EXECUTE, ()),
        (AIOKafkaConsumerThread._fetch_records, _FETCH, ()),
        (ProducerBuffer.put, ("self", "fut"), ()),
        (Attachments.put, ("self", "message", "channel", "key", "value"), _OF_ATTACHMENTS),
        (Topic.publish_message, ("self", "fut", "wait"), ()),
        (ThreadedProducer.publish_message, ("self", "fut_other", "wait"), ()),
    )
    for function, expected, more in known:
        patches.check_signature(function, expected, more)
    place = engine.guard.place("framework")
    handling = Handling(engine, place)
    patches.replace(AIOKafkaConsumerThread, "_fetch_records", functools.partial(_make_fetch, engine))
    patches.replace(Stream, "__aiter__", handling.make_aiter)
    for name in _TAKES:
        patches.replace(Stream, name, handling.make_take)
    patches.replace(SensorDelegate, "on_stream_event_in", handling.make_event_in)
    patches.replace(SensorDelegate, "on_stream_event_out", handling.make_event_out)
    patches.replace(Agent, "_execute_actor", handling.make_execute)
    _instrument_later_sends(patches, engine, place)


_OF_ATTACHMENTS = (
    "partition",
    "timestamp",
    "headers",
    "schema",
    "key_serializer",
    "value_serializer",
    "callback",
)


def _timestamp_ms(message: Any) -> int:
    """Return the time that the client has in ms, of which faust makes seconds."""
    return round(message.timestamp * 1000) if message.timestamp is not None else 0


def _make_fetch(engine: Engine, original: Callable[..., Any]) -> Callable[..., Any]:
    """Tell what faust takes out of the client's own fetcher: it asks neither `getone` nor `getmany`."""
    from aiokafka.structs import ConsumerRecord
    from faust.types.tuples import ConsumerMessage

    place, monotonic_ns = engine.guard.place("receive"), engine.monotonic_ns
    received: list[Any] = []

    def begin(client: Any) -> Any:
        known = engine.clients.get(ConsumerRecord)
        if known is None or place.off or not engine.active:
            return None
        if ConsumerMessage not in engine.clients:
            fields = known.fields._replace(timestamp_ms=_timestamp_ms)
            received.append(receiver(engine, known.fields))
            engine.clients[ConsumerMessage] = Client(
                fields, Processor(engine, fields), known.consumer_of, known.unknown
            )
        take_over(engine, ConsumerRecord, client)
        return known.consumer_of(client)

    @functools.wraps(original)
    async def _fetch_records(self: Any, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        ours, began_ns = None, 0
        try:
            ours, began_ns = begin(consumer), monotonic_ns()
        except Exception:
            place.failed()
        records = await original(self, consumer, *args, **kwargs)
        try:
            if ours is not None and records:
                leave_batch(engine, ours)
                received[0](ours, tuple(records.values()), began_ns, None, False)
        except Exception:
            place.failed()
        return records

    return _fetch_records


def _instrument_later_sends(patches: Patches, engine: Engine, place: Place) -> None:
    """Send what faust keeps for later in the context in which the application has given it."""
    from weakref import WeakKeyDictionary

    from faust.app._attached import Attachments
    from faust.topics import Topic
    from faust.transport.drivers.aiokafka import ThreadedProducer
    from faust.transport.producer import ProducerBuffer

    contexts: MutableMapping[Any, Context] = WeakKeyDictionary()

    def buffered(_buffer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if engine.active:
            contexts[args[0] if args else kwargs["fut"]] = get_current()

    patches.replace(ProducerBuffer, "put", Around(place, buffered, lambda *_: None))
    patches.replace(Attachments, "put", functools.partial(_make_attach, engine, place, contexts))
    for owner in (Topic, ThreadedProducer):
        patches.replace(owner, "publish_message", functools.partial(_make_publish, place, contexts))


def _make_attach(
    engine: Engine, place: Place, contexts: MutableMapping[Any, Context], original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def put(*args: Any, **kwargs: Any) -> Any:
        future = original(*args, **kwargs)
        try:
            if engine.active and not place.off:
                contexts[future] = get_current()
        except Exception:
            place.failed()
        return future

    return put


def _make_publish(
    place: Place, contexts: MutableMapping[Any, Context], original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def publish_message(self: Any, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        context = None
        try:
            future = args[0] if args else kwargs.get("fut") or kwargs.get("fut_other")
            context = contexts.pop(future, None)
        except Exception:
            place.failed()
        sent: Awaitable[Any] = original(self, *args, **kwargs)
        return sent if context is None else _in_context(context, sent)

    return publish_message


async def _in_context(context: Context, sent: Awaitable[Any]) -> Any:
    before = get_current()
    attach(context)
    try:
        return await sent
    finally:
        attach(before)
