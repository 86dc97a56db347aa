"""SIGTERM, where the application has left it at its default: hand over for a moment, then end by it all the same.

A handler written in Python runs in the main thread, between two of its instructions. In a child of `multiprocessing`,
where nobody asked for ours, a main thread that is inside of a long call in C must not make it outlive its signal: the
wake-up descriptor tells a thread of ours, which ends the process then.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable

HAND_OVER_S = 0.5
"""How long a process goes on after the signal at most, where its main thread can be interrupted; else twice as long."""


class Sigterm:
    """The handler of this process. Nothing here raises.

    Args:
        hand_over: called with the time that it may take, s; must not raise.
    """

    def __init__(self, hand_over: Callable[[float], object]) -> None:
        self._hand_over = hand_over
        self._taken = threading.Event()
        self._wakeup: tuple[int, int] | None = None
        forks.add(self._forget)

    def chain(self, *, watched: bool) -> bool:
        """Take the signal, where it is at its default and this is the main thread; false where it is not.

        Args:
            watched: only with a thread that ends the process where the main thread does not take the signal in time.
        """
        try:
            if not self.may_chain():
                return False
            if watched and not self._watch():
                return False
            signal.signal(signal.SIGTERM, self._handle)
        except Exception:
            return False  # No such signal, or not this interpreter's to take.
        return True

    @staticmethod
    def may_chain() -> bool:
        """Tell whether the signal is at its default, and this is the thread that may change that."""
        is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        return is_default and threading.current_thread() is threading.main_thread()

    def release(self) -> None:
        """Give the signal back, where nobody has taken it meanwhile."""
        with suppress(Exception):
            if self._is_ours():
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _is_ours(self) -> bool:
        return getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is self

    def _handle(self, number: int, _frame: Any) -> None:
        self._taken.set()
        self._hand_over(HAND_OVER_S)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _watch(self) -> bool:
        """Start a thread that learns of each signal as soon as it comes; false where somebody else is told already."""
        from ctypes import pythonapi

        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
            os.close(reads)
            os.close(writes)
            return False
        self._wakeup = reads, writes
        threading.Thread(
            target=self._end, args=(reads, pythonapi.PyOS_setsig), name="otel_pipeline.sigterm", daemon=True
        ).start()
        return True

    def _end(self, reads: int, set_handler: Callable[[int, None], object]) -> None:
        wanted = bytes((signal.SIGTERM,))
        while True:
            try:
                number = os.read(reads, 1)
            except OSError:
                return
            if not number:
                return
            if number == wanted and self._is_ours() and not self._taken.wait(HAND_OVER_S):
                break
        self._hand_over(HAND_OVER_S)
        # `signal.signal` is the main thread's alone.
        set_handler(signal.SIGTERM, None)
        os.kill(os.getpid(), signal.SIGTERM)

    def _forget(self) -> None:
        """Tell the parent's thread of no signal, in a forked child; who wants to hand over there chains anew."""
        self._taken = threading.Event()
        if self._wakeup is None:
            return
        (reads, writes), self._wakeup = self._wakeup, None
        self.release()
        with suppress(Exception):
            known = signal.set_wakeup_fd(-1)
            if known not in (-1, writes):
                signal.set_wakeup_fd(known)  # Somebody else's meanwhile.
        for descriptor in (reads, writes):
            with suppress(OSError):
                os.close(descriptor)
