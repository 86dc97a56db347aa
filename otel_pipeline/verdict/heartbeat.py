"""Calls a function once a second, in a thread of its own, for as long as the process lives; in a forked child too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Place


class Heartbeat:
    """Calls `beat` until it is stopped. The thread is a daemon: it keeps no process from ending.

    Args:
        beat: what it raises is counted, and does not end the beating.
        interval_s: between two calls, s.
        place: counts a failure; once it is off, the beating ends.
    """

    def __init__(self, beat: Callable[[], None], interval_s: float, place: Place) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._place = place
        self._is_over = False
        self._stopped = threading.Event()
        forks.begin(self.start)

    def start(self) -> None:
        """Begin; in a forked child anew, since threads do not come along."""
        if self._is_over or forks.holds:
            return
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(self._stopped,), name="otel_pipeline.health", daemon=True).start()

    def stop(self) -> None:
        """End, without waiting for a call that is under way."""
        self._is_over = True
        self._stopped.set()

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval_s):
            try:
                self._beat()
            except BaseException:
                # `SystemExit` as well, and what somebody has thrown into the thread: it must not end silently.
                self._place.failed()
                if self._place.off:
                    return
