"""What became of spans, log records and points on their way out.

started = exported + queued + spooled + dropped by reason.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.totals import Counter
from otel_pipeline.status import ExportStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.engine.totals import Attributes, CounterCell, ThreadCells
    from otel_pipeline.export.causes import Cause
    from otel_pipeline.export.destination import Signal


_PROCESSORS: Mapping[str, Attributes] = {
    signal: {semconv.OTEL_COMPONENT_TYPE: kind, semconv.OTEL_COMPONENT_NAME: f"{kind}/0"}
    for signal, kind in (("traces", "batching_span_processor"), ("logs", "batching_log_processor"))
}


@dataclass(frozen=True)
class Counts:
    """One look at an account. Where nothing moves at that moment, started = exported + queued + spooled + dropped."""

    started: int = 0
    """What ended, or was collected, and was given to us."""
    given: int = 0
    """Of these, what was given to the exporter."""
    exported: int = 0
    waiting: int = 0
    """In the processor's queue."""
    in_hand: int = 0
    """In the exporter's hands."""
    spooled: int = 0
    """In the spool: to be sent, by this process or by another one after it."""
    dropped_before: dict[str, int] = field(default_factory=dict)
    """What never came to the exporter, by reason, as `error.type` has it."""
    dropped_by_exporter: dict[str, int] = field(default_factory=dict)
    """What did not arrive, by reason."""
    as_lines: int = 0
    """Of the exported, what was written as lines since nobody took it."""
    removed: int = 0
    """Of the exported, what was written as lines that were removed since, to make room."""
    recovered: int = 0
    """Not of the started: what processes that had ended have left in the spool, and was sent by this one."""
    recovered_lost: int = 0
    """Of what they have left, what was lost here."""

    @property
    def queued(self) -> int:
        """What may still arrive."""
        return self.waiting + self.in_hand

    @property
    def dropped(self) -> dict[str, int]:
        """By reason, what is lost."""
        both = dict(self.dropped_before)
        for reason, count in self.dropped_by_exporter.items():
            both[reason] = both.get(reason, 0) + count
        return both

    @property
    def lost(self) -> int:
        """All that nobody will see."""
        return sum(self.dropped_before.values()) + sum(self.dropped_by_exporter.values()) + self.removed


class Account:
    """What passes one exporter of ours, counted. Safe in any thread; a forked child begins at zero.

    Args:
        signal: what is exported.
        destination: where it exports to, for people.
        component: the exporter, as the semantic conventions name it in metrics.
        lines: what writes lines in its place.
    """

    def __init__(
        self, signal: Signal, destination: str, component: Attributes, lines: Attributes = MappingProxyType({})
    ) -> None:
        self.signal: Signal = signal
        self.destination = destination
        self.exporter_attributes = component
        self.lines_attributes = lines
        self.processor_attributes = _PROCESSORS.get(signal, {})
        self.spools = False
        """Whether what passes is spooled."""
        self.queue_size: Callable[[], int] | None = None
        """How many wait in the processor's queue now; None where there is none, and the border counts what comes."""
        self.set_aside: Callable[[], int] = lambda: 0
        """How many of the spooled are set aside."""
        self.doubt: Callable[[], Cause | None] = lambda: None
        """Says why the export in hand has not arrived yet, as far as that is known; takes no time."""
        self._begin()
        forks.add(self._begin, Step.ZERO)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._taken = Counter("taken", "", "", limit=1, problem=lambda *_: None)
        self.taken: ThreadCells[CounterCell] = self._taken.local({})
        """Counts what the processor, or the reader, was given: `.cell.value += 1`."""
        self._given = self._in_hand = self._exported = self._as_lines = self._removed = 0
        self._spooled = self._recovered = self._recovered_lost = 0
        self._before: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self.export_began_s: float | None = None
        """When the export in hand began, as `time.monotonic()` has it."""
        self.last_success_s: float | None = None
        """s since the epoch."""
        self.last_error: tuple[float, Cause] | None = None
        """When, in s since the epoch, and why."""
        self.failing_since_s: float | None = None
        """s since the epoch; None while exports arrive."""

    def begin(self, count: int) -> None:
        """Take note that the exporter has been given so many."""
        with self._lock:
            self._given += count
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
                self.last_success_s, self.failing_since_s = time.time(), None

    def spooled(self, count: int) -> None:
        """Take note that so many of those in hand are in the spool."""
        with self._lock:
            self._in_hand -= count
            self._spooled += count

    def sent(self, count: int, *, of_others: bool) -> None:
        """Take note that so many of the spool have arrived; `of_others` are those that dead processes had left."""
        with self._lock:
            if of_others:
                self._recovered += count
            else:
                self._spooled -= count
                self._exported += count
            self.last_success_s, self.failing_since_s = time.time(), None

    def lost(self, count: int, reason: str, *, of_others: bool) -> None:
        """Count so many of the spool as lost."""
        with self._lock:
            if of_others:
                self._recovered_lost += count
            else:
                self._spooled -= count
                self._dropped[reason] = self._dropped.get(reason, 0) + count

    def dropped(self, count: int, reason: str) -> None:
        """Count so many of those in hand as lost."""
        with self._lock:
            self._in_hand -= count
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def dropped_before(self, count: int, reason: str) -> None:
        """Count so many as lost that never came to the exporter."""
        with self._lock:
            self._before[reason] = self._before.get(reason, 0) + count

    def removed(self, count: int) -> None:
        """Count so many as lost that were written as lines: these were removed to make room."""
        with self._lock:
            self._removed += count

    def count_failure(self, cause: Cause) -> None:
        """Take note that an export has not arrived."""
        with self._lock:
            now_s = time.time()
            self.last_error = now_s, cause
            if self.failing_since_s is None:
                self.failing_since_s = now_s

    def ended(self) -> None:
        """Take note that the export in hand is over."""
        self.export_began_s = None

    def status(self) -> ExportStatus:
        """Return what `status()` says of it."""
        counts, error = self.counts(), self.last_error
        doubt = self.doubt() if counts.in_hand or counts.spooled else None
        return ExportStatus(
            signal=self.signal,
            destination=self.destination,
            started=counts.started,
            exported=counts.exported,
            queued=counts.queued,
            spooled=counts.spooled,
            set_aside=self.set_aside(),
            dropped=counts.dropped,
            as_lines=counts.as_lines,
            removed=counts.removed,
            recovered=counts.recovered,
            recovered_lost=counts.recovered_lost,
            failing_since_s=self.failing_since_s,
            last_success_s=self.last_success_s,
            last_error_s=error[0] if error is not None else None,
            last_error=str(error[1]) if error is not None else "",
            trying=str(doubt) if doubt is not None else "",
        )

    def counts(self) -> Counts:
        """Return where everything is now."""
        with self._lock:
            return Counts(
                waiting=self.queue_size() if self.queue_size is not None else 0,
                given=self._given,
                exported=self._exported,
                in_hand=self._in_hand,
                spooled=self._spooled,
                recovered=self._recovered,
                recovered_lost=self._recovered_lost,
                dropped_before=dict(self._before),
                dropped_by_exporter=dict(self._dropped),
                as_lines=self._as_lines,
                removed=self._removed,
                started=int(self._taken.value({})),
            )
