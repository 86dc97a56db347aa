"""A failure of ours is counted, said once, and never reaches the application; a place that keeps failing stops."""

from __future__ import annotations

import logging
import sys
import traceback
from time import monotonic
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger("otel_pipeline")

OFF_AFTER = 100
"""Failures within `OFF_WITHIN_S` after which a place switches itself off."""
OFF_WITHIN_S = 60.0


class Guard:
    """Counts what went wrong inside the instrumentation.

    Safe to use from any thread: a count may miss one of two failures at the same instant, nothing else.
    """

    __slots__ = ("__weakref__", "_places", "_said", "counted", "errors", "problems")

    def __init__(self, counted: Callable[[str], None] | None = None) -> None:
        self.counted = counted
        self.errors: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self._said: set[str] = set()
        self._places: dict[str, Place] = {}
        forks.add(self.begin_at_zero, Step.ZERO)

    def begin_at_zero(self) -> None:
        """Count no failure of a parent's, in a forked child. What was said is said, and what is off stays off."""
        self.errors.clear()

    def place(self, name: str, *takes: Place) -> Place:
        """Give the place of this name, one for all who ask.

        Args:
            name: as `otel_pipeline.sdk.errors` has it.
            takes: places that are switched off with this one, since they are useless without it.
        """
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = Place(self, name)
        found.takes = tuple(dict.fromkeys((*found.takes, *takes)))
        return found

    def failed(self, place: str) -> None:
        """Count the exception that is being handled, and say the first one of a place."""
        try:
            self.count(place)
            if self.errors[place] == 1:
                error, _, frames = sys.exc_info()
                # Type and frames only: an exception's text may quote the application's data.
                _LOGGER.warning(
                    "otel_pipeline: %s failed with %s; the application is not affected\n%s",
                    place,
                    error.__name__ if error else "nothing",
                    "".join(traceback.format_tb(frames)),
                )
        except Exception:
            # The application's logging can raise as well, for example on a closed stream.
            return

    def count(self, place: str) -> None:
        """Count something that went wrong and needs no words, such as a header that cannot be read."""
        self.errors[place] = self.errors.get(place, 0) + 1
        if self.counted is not None:
            self.counted(place)

    def problem(self, key: str, message: str) -> None:
        """Say something once per key; it stays readable in `status()`."""
        if key in self._said:
            return
        self._said.add(key)
        self.problems[key] = message
        try:
            _LOGGER.warning("otel_pipeline: %s", message)
        except Exception:
            self.count("logging")


class Place:
    """One place where something of ours can fail. Code that works there first asks whether it is `off`.

    Where something fails again and again, the application pays for each try and gets nothing.
    """

    __slots__ = ("_guard", "_recent", "_since_s", "name", "off", "takes")

    def __init__(self, guard: Guard, name: str) -> None:
        self._guard = guard
        self._recent = 0
        self._since_s = monotonic()
        self.name = name
        self.off = False
        self.takes: tuple[Place, ...] = ()

    def failed(self) -> None:
        """Count the exception that is being handled. Never raises."""
        guard = self._guard
        guard.failed(self.name)
        now_s = monotonic()
        if now_s - self._since_s > OFF_WITHIN_S:
            self._recent, self._since_s = 0, now_s
        self._recent += 1
        if self._recent >= OFF_AFTER and not self.off:
            self.off = True
            for place in self.takes:
                place.off = True
            guard.problem(
                f"off.{self.name}",
                f"{self.name} failed {self._recent} times within a minute and is switched off until the next start; "
                "the first traceback is in the log",
            )
