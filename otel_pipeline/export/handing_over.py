"""What may block for long, flushing and stopping providers, is done by one thread that is started in time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable


class HandingOver:
    """Flushes when it is asked to, and stops in the end. Safe in any thread; nobody waits longer than he says.

    Who asks while a flush is under way shares the next one: however often a Collector that hangs is flushed to, there
    is one thread. It is started here, since at exit none can be started any more (Python 3.12).

    Args:
        flush: hands over what was recorded so far; may block. What it raises is a flush that failed.
        stop: the last work, done once; may block.
    """

    def __init__(self, flush: Callable[[], bool], stop: Callable[[], None]) -> None:
        self._flush = flush
        self._stop = stop
        self._stopping_since_s: float | None = None
        forks.begin(self.begin)

    def begin(self) -> None:
        """Start the thread; in a forked child anew, since threads do not come along."""
        self._changed = threading.Condition()
        self._asked = self._begun = self._done = self._succeeded = 0
        self._stopped = threading.Event()
        if self._stopping_since_s is not None:
            self._stopped.set()  # What a parent has begun to stop is not to be begun anew.
            return
        self._passing: threading.Thread | None = None
        """Hands over and ends, where no thread may stay."""
        if forks.holds:
            return
        threading.Thread(target=self._run, name="otel_pipeline.handing_over", daemon=True).start()

    @property
    def stopping_for_s(self) -> float | None:
        """Since when the last work has been asked for, s; None before."""
        return None if self._stopping_since_s is None else time.monotonic() - self._stopping_since_s

    def ask(self) -> int:
        """Start handing over what was recorded until now, without waiting; the number is for `wait`."""
        with self._changed:
            if self._stopping_since_s is None:
                self._asked = self._begun + 1
                self._changed.notify_all()
            number = self._begun + 1
            if forks.holds and self._passing is None and self._stopping_since_s is None:
                self._passing = threading.Thread(
                    target=self._run, kwargs={"passes": True}, name="otel_pipeline.handing_over", daemon=True
                )
                self._passing.start()
        return number

    def wait(self, number: int, timeout_s: float) -> bool:
        """Wait for what was asked for; false when it failed, or was not done in time."""
        ends_s = time.monotonic() + timeout_s
        with self._changed:
            self._changed.wait_for(lambda: self._done >= number or self._stopped.is_set(), timeout_s)
            succeeded, passing = self._succeeded >= number, self._passing
        if passing is not None:
            passing.join(max(0.0, ends_s - time.monotonic()))
        return succeeded

    def stop(self, timeout_s: float) -> bool:
        """Do the last work now, once; false when it did not end in time."""
        forks.release()
        with self._changed:
            if self._stopping_since_s is None:
                self._stopping_since_s = time.monotonic()
            self._changed.notify_all()
        return self._stopped.wait(timeout_s)

    def _run(self, *, passes: bool = False) -> None:
        changed, stopped = self._changed, self._stopped
        while True:
            with changed:
                changed.wait_for(lambda: passes or self._stopping_since_s is not None or self._asked > self._begun)
                if passes and (self._stopping_since_s is not None or self._asked <= self._begun):
                    self._passing = None
                    return
                if self._stopping_since_s is not None:
                    break
                self._begun = number = self._asked
            try:
                succeeded = self._flush()
            except BaseException:  # Whatever it is: without this thread nothing is handed over at the end.
                succeeded = False
            with changed:
                self._done = number
                if succeeded:
                    self._succeeded = number
                changed.notify_all()
        try:
            self._stop()
        finally:
            stopped.set()
            with changed:
                changed.notify_all()
