"""A framework on top of a client only says where a message is processed; spans, headers and counts are the client's.

patches.replace(Subscriber, "process_message", processing(engine, lambda self, message: message.raw))
"""

from __future__ import annotations

import functools
import inspect
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.process import Processing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from otel_pipeline.engine.consumers import Make
    from otel_pipeline.engine.engine import Engine


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

    def around(framework: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AbstractContextManager[Any]:
        try:
            message = message_of(framework, *args, **kwargs) if engine.active and not place.off else None
            return nullcontext() if message is None else Processing(message, client_of(framework))
        except Exception:
            place.failed()
            return nullcontext()

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
                with around(self, args, kwargs):
                    return await original(self, *args, **kwargs)

            return awaited

        @functools.wraps(original)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            with around(self, args, kwargs):
                return original(self, *args, **kwargs)

        return called

    return make


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
