"""What is said when telemetry does not arrive: one line when that begins, one when it ends, per destination."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.export.causes import Cause
    from otel_pipeline.export.destination import Signal

_LOGGER = logging.getLogger("otel_pipeline")
_ITEMS = {"traces": ("span", "spans"), "metrics": ("point", "points"), "logs": ("log record", "log records")}
SAY_AGAIN_S = 60.0
"""A loss that comes back sooner is the same one, and no line is written for it: what flaps would fill a log."""


class _Loss:
    """What does not arrive at one destination, since when, and how much of it is lost."""

    def __init__(self) -> None:
        self.failing: dict[Signal, Cause] = {}
        self.lost: dict[Signal, int] = {}
        self.since_s: float | None = None
        self.said_s: float | None = None
        self.is_said = False


class Losses:
    """Knows of each destination whether something is being lost there. Safe in any thread; never raises."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._begin()
        if hasattr(os, "register_at_fork"):
            again = weakref.WeakMethod(self._begin)
            os.register_at_fork(after_in_child=lambda: (begin := again()) and begin())

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, _Loss] = {}

    def lost(self, destination: str, signal: Signal, cause: Cause, count: int, instead: str = "") -> None:
        """Take note that so many did not arrive; `instead` is where they were written, if they are not lost."""
        now_s = self._monotonic_s()
        with self._lock:
            loss = self._of.setdefault(destination, _Loss())
            if loss.since_s is None:
                loss.since_s = now_s
            loss.failing[signal] = cause
            loss.lost[signal] = loss.lost.get(signal, 0) + (0 if instead else count)
            says = not loss.is_said and (loss.said_s is None or now_s - loss.said_s >= SAY_AGAIN_S)
            if says:
                loss.is_said, loss.said_s = True, now_s
        if says:
            meanwhile = f"Meanwhile {instead}" if instead else "What is lost is counted: status()"
            why = str(cause)
            _say(f"{signal} do not arrive at {destination}: {why}{'' if why.endswith('?') else '.'} {meanwhile}")

    def arrived(self, destination: str, signal: Signal) -> None:
        """Take note that an export has arrived."""
        loss = self._of.get(destination)
        if loss is None or signal not in loss.failing:
            return
        with self._lock:
            loss.failing.pop(signal, None)
            if loss.failing or not loss.is_said:
                return
            text = self._summary(loss)
            loss.is_said, loss.since_s, loss.lost = False, None, {}
        _say(f"telemetry arrives at {destination} again; {text}")

    def ended(self) -> None:
        """Say what was lost until now: the process ends."""
        for destination, loss in list(self._of.items()):
            with self._lock:
                text = self._summary(loss) if loss.is_said and loss.failing and any(loss.lost.values()) else ""
                loss.is_said, loss.lost = False, {}
            if text:
                _say(f"the program ends while telemetry does not arrive at {destination}; {text}")

    def _summary(self, loss: _Loss) -> str:
        since_s = self._monotonic_s() - (loss.since_s or 0)
        lost = [f"{count:,} {_ITEMS[signal][count != 1]}" for signal, count in sorted(loss.lost.items()) if count]
        return f"lost in {since_s:,.0f} s: {', '.join(lost)}" if lost else f"nothing was lost in these {since_s:,.0f} s"


def _say(message: str) -> None:
    try:
        _LOGGER.warning("otel_pipeline: %s", message)
    except Exception:
        # The application's logging can raise as well, for example on a closed stream.
        return
