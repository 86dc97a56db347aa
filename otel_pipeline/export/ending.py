"""How a process ends, in two moments: the main thread's last line, and the end itself.

When the main thread ends, other threads may go on for hours: what is there is handed over, and nothing is stopped. The
end comes when they have ended as well, and after every `atexit` handler that was registered later than ours; clients
deliver their last messages in such handlers.
"""

from __future__ import annotations

import atexit
import threading
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakSet

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.handing_over import HandingOver

SENDS_SHARE = 0.75
"""Of the time that leaving may take, for messages that are on their way. The rest is for what is known of them."""
_LOOK_S = 0.01
_endings: WeakSet[Ending] = WeakSet()


class Ending:
    """Takes part in the end of the program; nothing here raises.

    Args:
        handing_over: does what may block.
        at_most_s: how long leaving the program may take.
    """

    def __init__(self, handing_over: HandingOver, at_most_s: float) -> None:
        self._handing_over = handing_over
        self._at_most_s = at_most_s
        self.sends_are_open: Callable[[], bool] = lambda: False
        """Whether clients are still delivering messages by themselves. Must not block."""
        self.left: Callable[[], object] = lambda: None
        """Called when the time is over, or all is done."""
        _register()
        _endings.add(self)

    def main_thread_ended(self) -> None:
        """Hand over what is there where somebody goes on, without waiting; else the end comes right away."""
        if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
            self._handing_over.ask()

    def leave(self) -> None:
        """Hand over everything and stop, within the time."""
        began_s = time.monotonic()
        stopping_for_s = self._handing_over.stopping_for_s
        if stopping_for_s is not None:
            began_s -= stopping_for_s  # By `shutdown()`, which has waited already.
        elif self._sends_are_open():
            self._handing_over.ask()
            while self._sends_are_open() and time.monotonic() < began_s + SENDS_SHARE * self._at_most_s:
                time.sleep(_LOOK_S)
        self._handing_over.stop(max(0.0, began_s + self._at_most_s - time.monotonic()))
        _endings.discard(self)
        with suppress(Exception):
            self.left()

    def _sends_are_open(self) -> bool:
        try:
            return self.sends_are_open()
        except Exception:
            return False


def when_leaving(act: Callable[[], object]) -> Callable[[], None]:
    """Call `act`, which must be short, when the program is left in order; in children of `multiprocessing` too.

    Returns what takes it back.
    """
    _register()
    number = next(_numbers)
    _acts[number] = act
    return lambda: _acts.pop(number, None) and None


_acts: dict[int, Callable[[], object]] = {}
_numbers = count()
_registered: list[object] = []


class _Program:
    """What `multiprocessing` wants to be told of."""


def _register() -> None:
    """Register once per process, at the first `instrument()`: whatever is registered later ends before us."""
    if _registered:
        return
    program = _Program()
    _registered.append(program)
    atexit.register(_leave)
    # Called before the interpreter waits for other threads. Private, and there since 3.9; `concurrent.futures` has it.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_main_thread_ended)
    from multiprocessing import util

    util.register_after_fork(program, _in_child)


def _in_child(_program: _Program) -> None:
    """Children of `multiprocessing` leave by `os._exit`: only its own finalizers run."""
    from multiprocessing import util

    # The registry of finalizers has been cleared just before: this one is the child's.
    util.Finalize(None, _leave, exitpriority=100)


def _main_thread_ended() -> None:
    forks.notice()
    for ending in list(_endings):
        ending.main_thread_ended()


def _leave() -> None:
    forks.notice()
    while _acts:
        _, act = _acts.popitem()
        with suppress(Exception):
            act()
    for ending in list(_endings):
        ending.leave()
