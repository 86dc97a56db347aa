"""Work that is handed to a pool's threads while a message is in hand belongs to that message.

Patched: concurrent.futures.ThreadPoolExecutor.submit, which `map` and asyncio's `run_in_executor` use as well. Threads
do not inherit a context: without this, what they send and decide begins a trace of its own and has no age.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import event_loop
from otel_pipeline.engine.awaited_batch import FromLoop
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.delivery import DELIVERY_KEY, back_to
from otel_pipeline.engine.driven import LoopStep
from otel_pipeline.engine.guard import step_aside
from otel_pipeline.engine.prepared import inside

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from opentelemetry.context import Context

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches

_SUBMIT = ("self", "fn", "args", "kwargs")


def instrument(patches: Patches, engine: Engine) -> None:
    """Patch the class. Raises `DriftedError`, before anything is changed, when the signature is not the known one."""
    patches.check_signature(ThreadPoolExecutor.submit, _SUBMIT)
    patches.replace(ThreadPoolExecutor, "submit", functools.partial(_make_submit, engine, engine.guard.place("pool")))


def _make_submit(engine: Engine, place: Place, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = fn
        try:
            if engine.active and not place.off:
                loop, context = event_loop.running_loop(), get_current()
                if (type(context) is LoopStep or (context and DELIVERY_KEY in context)) and callable(fn):
                    work = functools.partial(run, context, fn)
                if inside.model is not None and callable(fn):
                    work = functools.partial(run_inside, inside.model, work)
                if loop is not None and callable(fn):
                    work = FromLoop(work)
                    work.loop = loop
        except Exception:
            place.failed()
        future: Future[Any] = original(self, work, *args, **kwargs)
        return future

    return submit


def run(context: Context, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call the function with what was in hand where it was submitted; the thread is as before afterwards."""
    before = None
    try:
        before = get_current()
        attach(context)  # Without a token: what the function leaves behind must not stay with the thread.
    except BaseException:
        step_aside("pool", back_to, before)
    try:
        result = function(*args, **kwargs)
    except BaseException:
        _leave(before)
        raise
    _leave(before)
    return result


def run_inside(model: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call the function for a model call that is waiting for it: what it calls is no call of its own."""
    before, inside.model = inside.model, model
    try:
        return function(*args, **kwargs)
    finally:
        inside.model = before


def _leave(before: Context | None) -> None:
    try:
        back_to(before)
    except BaseException:
        step_aside("pool", back_to, before)


RUN_CODE = run.__code__
"""Stands between a pool and what it was given."""
