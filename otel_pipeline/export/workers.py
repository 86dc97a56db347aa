"""The SDK's threads that export: one that has died of whatever exception is started again, and counted."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _Worker(NamedTuple):
    """Where the SDK keeps a thread, in one of its versions."""

    thread: str
    run: str
    is_over: Callable[[Any], bool]


_WORKERS = (
    _Worker("_worker_thread", "worker", lambda owner: bool(owner._shutdown)),
    _Worker("worker_thread", "worker", lambda owner: bool(owner.done)),
    _Worker("_worker_thread", "worker", lambda owner: bool(owner.done)),
    _Worker("_daemon_thread", "_ticker", lambda owner: bool(owner._shutdown_event.is_set())),
)
"""Of batch processors as they are now and were before 1.33, and of metric readers."""


def start_again(parts: Iterable[Any], failed: Callable[[str], None]) -> int:
    """Start the threads anew that have died; return how many. To be called each second; never raises.

    Args:
        parts: our processors and readers.
        failed: told of the place, for each.
    """
    if forks.holds:
        return 0
    return sum(_start_again(getattr(part, "_batch_processor", part), failed) for part in parts)


def _start_again(owner: Any, failed: Callable[[str], None]) -> bool:
    for worker in _WORKERS:
        try:
            thread, run, is_over = getattr(owner, worker.thread), getattr(owner, worker.run), worker.is_over(owner)
        except AttributeError:
            continue
        if thread is None or thread.is_alive() or thread.ident is None or is_over:
            return False
        made = threading.Thread(target=run, name=thread.name, daemon=True)
        setattr(owner, worker.thread, made)
        with suppress(RuntimeError):  # The interpreter ends.
            made.start()
            failed("export.worker")
            return True
    return False
