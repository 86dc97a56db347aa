"""Leaving the program, and the children of `multiprocessing`: what was recorded is handed over within a deadline."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Ending:
    """Does the last work in a thread that was started in time: at exit none can be started any more (Python 3.12).

    Args:
        work: hands everything over and stops; may block.
        at_most_s: how long leaving the program may take.
    """

    def __init__(self, work: Callable[[], None], at_most_s: float) -> None:
        self._work = work
        self._at_most_s = at_most_s
        self._start()
        # Before the interpreter waits for other threads: `atexit` would be after.
        register = getattr(threading, "_register_atexit", None)
        if register is not None:
            register(self.leave)
        else:
            import atexit

            atexit.register(self.leave)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)
        _at_the_end_of_children(self, self.leave)

    def _start(self) -> None:
        self._wanted, self._done = threading.Event(), threading.Event()
        threading.Thread(target=self._wait, name="otel_pipeline.ending", daemon=True).start()

    def _wait(self) -> None:
        wanted, done = self._wanted, self._done
        wanted.wait()
        try:
            self._work()
        finally:
            done.set()

    def leave(self, at_most_s: float | None = None) -> bool:
        """Do the work now, once; false when it did not end in time."""
        self._wanted.set()
        return self._done.wait(self._at_most_s if at_most_s is None else at_most_s)


def when_leaving(owner: object, act: Callable[[], object]) -> Callable[[], None]:
    """Call `act`, which must be short, when the program is left in order; in children of `multiprocessing` too.

    Returns what takes it back, so that `owner` need not live until then.
    """
    import atexit

    atexit.register(act)
    _at_the_end_of_children(owner, act)
    return lambda: atexit.unregister(act)


def _at_the_end_of_children(owner: object, act: Callable[[], object]) -> None:
    """Call `act` in children of `multiprocessing`, which run only finalizers before `os._exit`, while `owner` lives."""
    from multiprocessing import util

    def in_child(_owner: object) -> None:
        # The registry of finalizers has been cleared just before: this one is the child's.
        util.Finalize(None, act, exitpriority=100)

    util.register_after_fork(owner, in_child)
