"""What became of spans, log records and points on their way out: started = exported + queued + dropped by reason."""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_pipeline.engine.totals import Counter

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.totals import CounterCell, ThreadCells
    from otel_pipeline.export.causes import Cause
    from otel_pipeline.export.destination import Signal


@dataclass(frozen=True)
class Counts:
    """One look at an account. Where nothing moves at that moment, the sum is exact."""

    started: int = 0
    exported: int = 0
    queued: int = 0
    """In the queue, or in the exporter's hands."""
    as_lines: int = 0
    """Of the exported, those that were written as lines since nobody took them."""
    dropped: dict[str, int] = field(default_factory=dict)
    """By reason, as `error.type` has it."""


class Account:
    """What passes one exporter of ours, counted. Safe in any thread; a forked child begins at zero.

    Args:
        signal: what is exported.
        exporter: its name, as `OTEL_TRACES_EXPORTER` has it.
        destination: where it exports to, for people.
    """

    def __init__(self, signal: Signal, exporter: str, destination: str) -> None:
        self.signal: Signal = signal
        self.exporter = exporter
        self.destination = destination
        self.queue_size: Callable[[], int] | None = None
        """How many wait in the processor's queue now; None where there is none, and the border counts what comes."""
        self._begin()
        if hasattr(os, "register_at_fork"):
            again = weakref.WeakMethod(self._begin)
            os.register_at_fork(after_in_child=lambda: (begin := again()) and begin())

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken = Counter("taken", "", "", limit=1, problem=lambda *_: None)
        self.taken: ThreadCells[CounterCell] = self._taken.local({})
        """Counts what the processor, or the reader, was given: `.cell.value += 1`."""
        self._in_hand = 0
        self._exported = self._as_lines = 0
        self._dropped: dict[str, int] = {}
        self.export_began_s: float | None = None
        """When the export in hand began, as `time.monotonic()` has it."""
        self.last_success_s: float | None = None
        """s since the epoch."""
        self.last_error: tuple[float, Cause] | None = None
        """When, in s since the epoch, and why."""
        self.failing = False
        """Whether the last export failed."""

    def begin(self, count: int) -> None:
        """Take note that the exporter has been given so many."""
        with self._lock:
            self._in_hand += count
            self.export_began_s = time.monotonic()

    def exported(self, count: int, *, as_lines: bool = False) -> None:
        """Take note that so many of those in hand have arrived."""
        with self._lock:
            self._in_hand -= count
            self._exported += count
            if as_lines:
                self._as_lines += count
            else:
                self.last_success_s, self.failing = time.time(), False

    def dropped(self, count: int, reason: str, *, in_hand: bool = True) -> None:
        """Count so many as lost; not `in_hand`: before they reached the exporter."""
        with self._lock:
            if in_hand:
                self._in_hand -= count
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def failed(self, cause: Cause) -> None:
        """Take note that an export has not arrived."""
        with self._lock:
            self.last_error, self.failing = (time.time(), cause), True

    def ended(self) -> None:
        """Take note that the export in hand is over."""
        self.export_began_s = None

    def counts(self) -> Counts:
        """Return where everything is now."""
        with self._lock:
            # The queue last: what is added to it meanwhile was counted before.
            dropped, exported, as_lines = dict(self._dropped), self._exported, self._as_lines
            queued = self._in_hand + (self.queue_size() if self.queue_size is not None else 0)
            return Counts(int(self._taken.value({})), exported, queued, as_lines, dropped)
