"""What is said when telemetry does not arrive: one line when that begins, one when it ends, per destination."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        forks.add(self._begin, Step.ZERO)

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
            meanwhile = f"Meanwhile {instead}." if instead else "What is lost is counted: status()"
            _say(f"{signal} do not arrive at {destination}: {_sentence(cause)} {meanwhile}")

    def arrived(self, destination: str, signal: Signal) -> None:
        """Take note that an export has arrived."""
        loss = self._of.get(destination)
        if loss is None or signal not in loss.failing:
            return
        now_s = self._monotonic_s()
        with self._lock:
            loss.failing.pop(signal, None)
            if loss.failing or not loss.is_said:
                return
            lost, lasted_s = _listed(loss.lost), now_s - (loss.since_s or now_s)
            loss.is_said, loss.since_s, loss.lost = False, None, {}
        _say(f"telemetry arrives at {destination} again; {lost} lost in {lasted_s:,.0f} s")

    def ended(self, destination: str, left: Sequence[tuple[Signal, int, Cause]]) -> None:
        """Say what was lost at a destination, with what is left that has not arrived: the process ends."""
        now_s = self._monotonic_s()
        with self._lock:
            loss = self._of.setdefault(destination, _Loss())
            for signal, count, cause in left:
                loss.failing[signal] = cause
                loss.lost[signal] = loss.lost.get(signal, 0) + count
            if not loss.failing or not any(loss.lost.values()):
                return
            lost, lasted_s = _listed(loss.lost), now_s - (loss.since_s or now_s)
            cause, was_said = next(iter(loss.failing.values())), loss.is_said
            self._of[destination] = _Loss()
        if was_said:
            _say(f"the program ends, and telemetry does not arrive at {destination}; {lost} lost in {lasted_s:,.0f} s")
        else:
            _say(f"the program ends, and {lost} did not arrive at {destination}: {_sentence(cause)}")


def kept(destination: str, waiting: Sequence[tuple[Signal, int, Cause]], where: str) -> None:
    """Say what waits on the disk when the program ends, and who sends it."""
    if waiting:
        found = _listed({signal: count for signal, count, _ in waiting})
        why = _sentence(waiting[0][2])
        _say(f"the program ends, and {found} did not arrive at {destination}: {why} Nothing is lost: {where}")


def _listed(lost: dict[Signal, int]) -> str:
    return (
        ", ".join(f"{count:,} {_ITEMS[signal][count != 1]}" for signal, count in sorted(lost.items()) if count)
        or "nothing was"
    )


def _sentence(cause: Cause) -> str:
    words = str(cause)
    return words if words.endswith("?") else f"{words}."


def _say(message: str) -> None:
    try:
        _LOGGER.warning("otel_pipeline: %s", message)
    except Exception:
        # The application's logging can raise as well, for example on a closed stream.
        return
