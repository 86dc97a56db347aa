"""Loads modules in a thread of ours while the application runs.

A child that is forked in the middle of an import would wait for that module for ever: a fork waits for the import.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WAIT_S = 1.0
"""For which a fork waits: loading takes tens of ms."""
_loading = threading.RLock()


@contextmanager
def loading() -> Iterator[None]:
    """Import within this `with`, where the thread is not the application's."""
    with _loading:
        yield


def _before_fork() -> None:
    _loading.acquire(timeout=MAX_WAIT_S)


def _in_parent() -> None:
    with suppress(RuntimeError):  # The wait was over.
        _loading.release()


def _in_child() -> None:
    global _loading  # noqa: PLW0603 - the parent's is held
    _loading = threading.RLock()


forks.around(_before_fork, _in_parent)
forks.add(_in_child)
