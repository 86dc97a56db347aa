"""How a process ends, in two moments: the main thread's last line, and the end itself.

When the main thread ends, other threads may go on for hours: what is there is handed over, and nothing is stopped. The
end comes when they have ended as well, and after every `atexit` handler that was registered later than ours; clients
deliver their last messages in such handlers.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakSet

from otel_pipeline.engine.forks import forks
from otel_pipeline.engine.import_hooks import when_imported
from otel_pipeline.export.sigterm import HAND_OVER_S, Sigterm

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.handing_over import HandingOver

SENDS_SHARE = 0.75
"""Of the time that leaving may take, for messages that are on their way. The rest is for what is known of them."""
_LOOK_S = 0.01
_SPAWNED = "--multiprocessing-fork"
"""An argument of every interpreter that `multiprocessing` starts for a child."""
_LAST = -1000
"""Below every priority that `multiprocessing` itself gives a finalizer."""
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
        # Where no hook tells of it: the parent was not instrumented, or `spawn` has made the child.
        if _has_parent() or _is_spawned():
            _in_child(self)

    def main_thread_ended(self) -> None:
        """Hand over what is there where somebody goes on, without waiting; else the end comes right away."""
        if _others():
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

    def ask(self) -> int:
        """Start handing over what is there, without waiting; the number is for `wait`."""
        return self._handing_over.ask()

    def wait(self, number: int, at_most_s: float) -> bool:
        """Wait for what was asked for."""
        return self._handing_over.wait(number, max(0.0, at_most_s))

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
_child_pid = 0


class _Program:
    """What `multiprocessing` wants to be told of."""


def _register() -> None:
    """Register once per process, at the first `instrument()`: whatever is registered later ends before us."""
    if not _registered:
        program = _Program()
        _registered.append(program)
        atexit.register(leave)
        # Called before the interpreter waits for other threads. Private, and there since 3.9, for `concurrent.futures`.
        register = getattr(threading, "_register_atexit", None)
        if register is not None:
            register(_main_thread_ended)
        when_imported("multiprocessing.util", lambda util: util.register_after_fork(program, _in_child))


def _in_child(_program: object) -> None:
    """Take part in the end of a child of `multiprocessing`, which most often leaves by `os._exit`."""
    global _child_pid  # noqa: PLW0603 - once per process
    if not _endings:
        return
    sigterm.chain(watched=True)
    if _child_pid != os.getpid() and not _is_spawned():
        from multiprocessing import util

        _child_pid = os.getpid()
        # The registry of finalizers has been cleared just before: this one is the child's, and the last of all.
        util.Finalize(None, _child_ends, exitpriority=_LAST)


def _has_parent() -> bool:
    """Tell whether `multiprocessing` has started this process; it is not imported for a program without it."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def _is_spawned() -> bool:
    """Tell whether this child has an interpreter of its own, and ends as any program does."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_globals.get("__name__") in {"multiprocessing.popen_fork", "multiprocessing.forkserver"}:
            return False
        frame = frame.f_back
    return _SPAWNED in sys.orig_argv


def _child_ends() -> None:
    """End after the last thread: what comes after the finalizers is only that they are waited for."""
    if not _others():
        leave()
        return
    _main_thread_ended()
    try:
        threading.Thread(target=_leave_after_others, name="otel_pipeline.ending", daemon=False).start()
    except RuntimeError:
        leave()


def _leave_after_others() -> None:
    while others := _others():
        others[0].join()
    leave()


def _others() -> list[threading.Thread]:
    """Return the threads that are waited for when the main thread has ended."""
    own = (threading.main_thread(), threading.current_thread())
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in own]


def _main_thread_ended() -> None:
    forks.notice()
    for ending in list(_endings):
        ending.main_thread_ended()


def leave() -> None:
    """Leave now: the process ends, and nothing of it comes after this. Within the time; never raises."""
    forks.notice()
    for ending in list(_endings):
        with suppress(Exception):
            ending.leave()
    _say_goodbye()  # Last: what was sent may be answered until now.


def _say_goodbye() -> None:
    while _acts:
        _, act = _acts.popitem()
        with suppress(Exception):
            act()


def _hand_over(at_most_s: float) -> None:
    """Hand over what is there: the process is about to be ended by a signal."""
    ends_s = time.monotonic() + at_most_s
    asked = [(ending, ending.ask()) for ending in list(_endings)]
    # Not here: what the signal has interrupted may hold a lock of a client's, which is asked for what is open.
    goodbye = threading.Thread(target=_say_goodbye, name="otel_pipeline.goodbye", daemon=True)
    with suppress(RuntimeError):  # The interpreter ends, and takes no thread any more.
        goodbye.start()
        goodbye.join(max(0.0, ends_s - time.monotonic()))
    for ending, number in asked:
        ending.wait(number, ends_s - time.monotonic())


def before_signal() -> None:
    """Hand over what is there, for as long as SIGTERM may: somebody is about to raise a signal. Never raises."""
    with suppress(Exception):
        forks.notice()
        _hand_over(HAND_OVER_S)


sigterm = Sigterm(_hand_over)
"""The one of this process."""
