"""A failure of ours is counted, said once, and never reaches the application."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger("otel_pipeline")

OFF_AFTER = 100
"""Failures at one place after which that place switches itself off."""


class Guard:
    """Counts what went wrong inside the instrumentation.

    Safe to use from any thread: a count may miss one of two failures at the same instant, nothing else.
    """

    __slots__ = ("_said", "counted", "errors", "problems")

    def __init__(self, counted: Callable[[str], None] | None = None) -> None:
        self.counted = counted
        self.errors: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self._said: set[str] = set()

    def failed(self, place: str) -> bool:
        """Count the exception that is being handled; true when the place should switch itself off."""
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
            return False
        return self.errors[place] >= OFF_AFTER

    def count(self, place: str) -> None:
        """Count something that went wrong and needs no words, such as a header that cannot be read."""
        self.errors[place] = self.errors.get(place, 0) + 1
        if self.counted is not None:
            self.counted(place)

    def problem(self, key: str, message: str) -> None:
        """Say something once a key; it stays readable in `status()`."""
        if key in self._said:
            return
        self._said.add(key)
        self.problems[key] = message
        try:
            _LOGGER.warning("otel_pipeline: %s", message)
        except Exception:
            self.count("logging")
