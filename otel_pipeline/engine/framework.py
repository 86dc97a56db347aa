"""A framework on top of a client only says where a message is processed; spans, headers and counts are the client's.

patches.replace(Subscriber, "process_message", processing(engine, lambda self, message: message.raw))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.process import Processing
from otel_pipeline.engine.scope import NOTHING, decorate

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.consumers import Make
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.scope import Scope


def processing(
    engine: Engine, message_of: Callable[..., Any], client_of: Callable[[Any], Any] = lambda _framework: None
) -> Make:
    """Wrap the method of a framework that has the application's handler process a message, coroutine function or not.

    The handler runs inside the message's process span, wherever the framework calls it: another task, a pool's
    thread. What it raises is on the span. A message that the client's own loop has in hand still has only one span.

    Args:
        engine: counts what the two functions raise; the handler is then called as if we were not there.
        message_of: called as the method is; returns the client's own message, a list of them for one span linked to
            all, or None for what is no message.
        client_of: called with the framework's object; returns the client that the message came from, where several
            may read the same partition.
    """
    place = engine.guard.place("framework")

    def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Scope:
        message = message_of(*args, **kwargs) if engine.active and not place.off else None
        if message is None:
            return NOTHING
        begun = Processing(message, client_of(args[0]))
        begun.begin()
        return begun

    return lambda original: decorate(original, opened, lambda: place)


def take_over(engine: Engine, message: type, client: Any) -> None:
    """Make process spans for a client's messages in the framework's handler alone. Never raises.

    To be called when the framework has made its client, with the class of that client's messages: otherwise the
    client's loop would have a message in hand that waits in the framework's queue, or that another task handles.
    """
    try:
        known = engine.clients.get(message)
        if known is not None:
            consumer = known.consumer_of(client)
            consumer.iterator_spans, consumer.explicit = False, True
    except Exception:
        engine.guard.place("framework").failed()
