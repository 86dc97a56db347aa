"""How a send ends: by a future that is done, or by a callback with (error, message). No library is known here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.current_context import attach, get_current

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.send import Sending


def follow(engine: Engine, sending: Sending, future: Any) -> None:
    """End a send when its future is done; the future is asyncio's or `concurrent.futures`'. Never raises."""
    try:
        future.add_done_callback(functools.partial(_finish, engine, sending))
    except Exception:
        engine.guard.place("send.follow").failed()


def _finish(engine: Engine, sending: Sending, done: Any) -> None:
    try:
        if done.cancelled():
            sending.finish(None, None)  # The message is on its way all the same; nobody waits for the answer.
            return
        # Not `exception()`, which takes away asyncio's "exception was never retrieved" from who does not look.
        error = getattr(done, "_exception", None)
        answer = done.result() if error is None else error
        if answer is None:  # Nobody acknowledges with acks=0.
            sending.finish(None, None)
        else:
            sending(answer)
    except Exception:
        engine.guard.place("send.follow").failed()


class Delivered:
    """The callback of one message, for a library that calls back with (error, message): ours first, then theirs.

    However late the library calls back, the send took as long as the message says (`latency()`, s). The application's
    own callback is called once, in the context that its send was made in; what it returns or raises is the library's to
    have.

    Args:
        theirs: the application's callback, or None.
        failure: makes an exception of the library's error.
    """

    __slots__ = ("_context", "_engine", "_failure", "_sending", "_theirs")

    def __init__(
        self, engine: Engine, sending: Sending, theirs: Callable[..., Any] | None, failure: Callable[[Any], Exception]
    ) -> None:
        self._engine = engine
        self._sending = sending
        self._theirs = theirs
        self._failure = failure
        self._context = None if theirs is None else get_current()

    @property
    def _place(self) -> Place:
        return self._engine.guard.place("send.follow")

    def __call__(self, error: Any, message: Any) -> Any:
        """End the send, then call the application's callback, in the thread in which the library serves callbacks."""
        original, before = self._theirs, None
        try:
            self._tell(error, message)
        except Exception:
            self._place.failed()
        if original is None:
            return None
        try:
            before = get_current()
            if before is self._context:
                before = None  # Nothing is to be put in its place, and so nothing back.
            else:
                _back_to(self._context)
        except Exception:
            self._place.failed()
        try:
            answer = original(error, message)
        except BaseException:
            self._place.told(_back_to, before)
            raise
        try:
            _back_to(before)
        except Exception:
            self._place.failed()
        return answer

    def _tell(self, error: Any, message: Any) -> None:
        self._end(error, message.partition(), message.offset(), message.latency())

    def _end(self, error: Any, partition: int | None, offset: int | None, latency_s: float | None) -> None:
        sending = self._sending
        if latency_s is not None:
            sending.started_ns = self._engine.monotonic_ns() - int(latency_s * 1e9)
        if error is None:
            sending.finish(partition, offset)
        else:
            sending.finish(partition, None, self._failure(error))


def _back_to(context: Context | None) -> None:
    if context is not None:
        attach(context)
