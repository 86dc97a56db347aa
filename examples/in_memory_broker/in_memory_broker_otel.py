"""otel_pipeline's adapter for the broker in memory; docs/contributing.md walks through it.

Patched: Publisher.publish; Subscriber.receive, .ack, .close.
"""

from __future__ import annotations

import functools
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.clients import Consumer, Producer
from otel_pipeline.engine.consumers import Consumers
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.producers import Producers
from otel_pipeline.engine.send import sender
from otel_pipeline.engine.thread_sequence import ThreadSequences
from otel_pipeline.registry import Adapter

if TYPE_CHECKING:
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches

ADAPTER = Adapter(
    name="in-memory-broker",
    module="in_memory_broker_otel",
    package="in_memory_broker",
    versions=">=1,<2",
)
SYSTEM = {"messaging.system.name": "in_memory"}
FIELDS = MessageFields(
    destination=attrgetter("topic"),
    partition=lambda _message: 0,
    offset=attrgetter("number"),
    timestamp_ms=attrgetter("sent_ms"),
    key=lambda _message: None,
    headers=attrgetter("headers"),
    value=attrgetter("body"),
    body_bytes=lambda message: len(message.body),
)


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch the client library."""
    from in_memory_broker import Message, Publisher, Subscriber

    patches.check_signature(Publisher.publish, ("self", "topic", "body", "headers"))
    patches.check_signature(Subscriber.receive, ("self", "timeout"))
    patches.replace(Publisher, "publish", functools.partial(_make_publish, engine))

    def made(client: Subscriber) -> Consumer:
        return Consumer(engine, FIELDS, attributes=SYSTEM, client_id=client.name, operation="receive")

    consumers = Consumers(engine, FIELDS, Message, made, attributes=SYSTEM, operation="receive")
    patches.replace(Subscriber, "receive", consumers.receiving_one())
    patches.replace(Subscriber, "ack", consumers.settling("ack"))
    patches.replace(Subscriber, "close", consumers.closing())


def _make_publish(engine: Engine, original: Any) -> Any:
    producers = Producers(engine, lambda _client: Producer(attributes=SYSTEM))
    begin, sequences = sender(engine, "publish"), ThreadSequences(engine.guard)

    @functools.wraps(original)
    def publish(self: Any, topic: Any, body: Any, headers: Any = None) -> int:
        sending = begin(producers.of(self), topic, None, None, body, headers)
        if sending is None:
            return original(self, topic, body, headers)
        given = sequences.stamp(sending.headers, topic)
        try:
            number = original(self, topic, body, sending.headers)
        except BaseException as error:
            sequences.settle(given, taken=False)
            sending.finish(None, None, error)
            raise
        sending.finish(None, number)
        return number

    return publish
