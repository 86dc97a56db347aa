"""FastStream: a handler runs inside of its message's process span, on whichever instrumented client the broker rests.

Patched: SubscriberUsecase.process_message, ._post_start; BaseTelemetryMiddleware.publish_scope, .consume_scope.
Messages of brokers whose client is not instrumented are none to us.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from otel_pipeline.engine.delivery import in_hand
from otel_pipeline.engine.framework import processing, take_over
from otel_pipeline.engine.patching import Around, DriftedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches

_PACKAGES = {"faststream.kafka.": "aiokafka", "faststream.confluent.": "confluent_kafka"}
"""The client's own package, by the beginning of the names of FastStream's modules for it."""


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch it. Raises `DriftedError`, before anything is changed, when a signature is not the known one."""
    from faststream._internal.endpoint.subscriber.usecase import SubscriberUsecase

    patches.check_signature(SubscriberUsecase.process_message, ("self", "msg"))
    patches.check_signature(SubscriberUsecase._post_start, ("self",))
    message_of = functools.partial(_message_of, engine)
    patches.replace(SubscriberUsecase, "process_message", processing(engine, message_of, _client_of))
    # Its own loop asks the client for messages, and may hand them to another task.
    around = Around(engine.guard.place("framework"), lambda *_: None, functools.partial(_take_over, engine))
    patches.replace(SubscriberUsecase, "_post_start", around)
    _instrument_middleware(patches, engine)


def _message_of(engine: Engine, _subscriber: Any, msg: Any) -> Any:
    """Return the client's message, or several of them; None for what is no message of an instrumented client."""
    if type(msg) in engine.clients:
        return msg
    several = isinstance(msg, (list, tuple)) and bool(msg) and type(msg[0]) in engine.clients
    return msg if several else None


def _clients(subscriber: Any) -> Iterator[Any]:
    """Yield what the subscriber reads with: its client, its workers', or the one in FastStream's own wrapper."""
    found = getattr(subscriber, "consumer_subgroup", None) or [getattr(subscriber, "consumer", None)]
    for client in found:
        if client is not None:
            yield getattr(client, "consumer", client)


def _client_of(subscriber: Any) -> Any:
    """Return the client that its messages come from; None where there are several: the partition tells which."""
    clients = list(_clients(subscriber))
    return clients[0] if len(clients) == 1 else None


def _take_over(engine: Engine, subscriber: Any, _begun: None, error: BaseException | None) -> None:
    if error is not None or not subscriber.calls:
        return  # Without handlers the application asks for messages itself.
    for client in _clients(subscriber):
        for message in engine.clients:
            if _package(message) == _package(type(client)):
                take_over(engine, message, client)


def _package(kind: type) -> str:
    """Return the package of a client's class; classes of C may name their own module alone."""
    package = kind.__module__.partition(".")[0]
    return "confluent_kafka" if package == "cimpl" else package


def _instrument_middleware(patches: Patches, engine: Engine) -> None:
    """Let FastStream's own telemetry give way to ours: otherwise there were two spans and two contexts per message."""
    try:
        from faststream.opentelemetry.middleware import BaseTelemetryMiddleware

        for name in ("publish_scope", "consume_scope"):
            patches.check_signature(getattr(BaseTelemetryMiddleware, name), ("self", "call_next", "msg"))
    except (ImportError, AttributeError, DriftedError) as drifted:
        message = f"FastStream: {drifted}; its own telemetry middleware is not followed: leave it out"
        engine.guard.problem("faststream.middleware", message)
        return
    patches.replace(BaseTelemetryMiddleware, "publish_scope", functools.partial(_make_publish_scope, engine))
    patches.replace(BaseTelemetryMiddleware, "consume_scope", functools.partial(_make_consume_scope, engine))


def _say(engine: Engine) -> None:
    engine.guard.problem(
        "faststream.telemetry",
        "FastStream's own telemetry middleware makes no spans and no metrics for clients that are instrumented: "
        "no message has two spans or two contexts",
    )


def _make_publish_scope(engine: Engine, original: Callable[..., Any]) -> Callable[..., Any]:
    place = engine.guard.place("framework")

    @functools.wraps(original)
    async def publish_scope(self: Any, call_next: Any, msg: Any) -> Any:
        gives_way = False
        try:
            if engine.active and not place.off:
                module = type(msg).__module__
                package = next((found for begins, found in _PACKAGES.items() if module.startswith(begins)), None)
                gives_way = package is not None and package in map(_package, engine.clients)
                if gives_way:
                    _say(engine)
                    if baggage := self.context.get_local("baggage"):
                        msg.headers.update(baggage.to_headers())
        except Exception:
            place.failed()
        return await (call_next(msg) if gives_way else original(self, call_next, msg))

    return publish_scope


def _make_consume_scope(engine: Engine, original: Callable[..., Any]) -> Callable[..., Any]:
    from faststream.opentelemetry import Baggage

    place = engine.guard.place("framework")

    @functools.wraps(original)
    async def consume_scope(self: Any, call_next: Any, msg: Any) -> Any:
        gives_way = False
        try:
            delivery = in_hand()
            gives_way = engine.active and not place.off and delivery is not None and delivery.is_here
            if gives_way:
                _say(engine)
        except Exception:
            place.failed()
        if not gives_way:
            return await original(self, call_next, msg)
        # What handlers may ask for by `CurrentSpan` and `CurrentBaggage`.
        with self.context.scope("span", get_current_span()), self.context.scope("baggage", Baggage.from_msg(msg)):
            return await call_next(msg)

    return consume_scope
