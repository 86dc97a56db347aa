"""Which task of asyncio runs here, asked without importing asyncio for a program that does not use it."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import repeat
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.import_hooks import when_imported

if TYPE_CHECKING:
    from collections.abc import Callable

running_loop: Callable[[], Any] = repeat(None).__next__
"""Returns the event loop that runs in this thread, or None. Look it up here each time: it becomes asyncio's own when
the program imports asyncio."""
task_of: Callable[[Any], Any] = lambda _loop: None  # noqa: E731 - becomes asyncio's own, as above
"""Returns the task that a running loop is at, or None."""
is_future: Callable[[object], bool] = lambda _found: False  # noqa: E731 - as above
"""Tells whether something is a future of asyncio's."""


def _imported(asyncio: Any) -> None:
    global running_loop, task_of, is_future  # noqa: PLW0603 - asyncio is one
    task_of, is_future = asyncio.current_task, asyncio.isfuture
    running_loop = asyncio._get_running_loop


if "asyncio" in sys.modules:
    # Waits for a thread that is importing it.
    _imported(import_module("asyncio"))
else:
    when_imported("asyncio", _imported)
