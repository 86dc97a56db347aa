"""Metrics leave soon after a series is born, not only at the interval's end.

A counter that a backend first sees above 0 raises no `increase()`: what a new destination counts in its first seconds
would alert nobody.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.metrics.export import MetricReader

AT_MOST_EVERY_S = 5.0
TIMEOUT_S = 5.0


class EarlyExport:
    """Has readers collect and export once there are new series. For use by one thread, the heartbeat's.

    The exporting is done by a daemon thread of its own, one at a time: a Collector that does not answer holds up
    neither the heartbeat nor the end of the program. The first export, of what there is when the program starts, begins
    no pause: the first destination often comes right after it.

    Args:
        readers: asked at each export for those that are to export now.
        failed: told of an exception that a reader raised.
        monotonic_s: clock for the pauses, s.
    """

    def __init__(
        self,
        readers: Callable[[], Sequence[MetricReader]],
        failed: Callable[[Exception], object],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readers = readers
        self._failed = failed
        self._monotonic_s = monotonic_s
        self._begin()
        forks.add(self._begin, Step.ZERO)

    def _begin(self) -> None:
        """Forget what was exported; in a forked child the thread of its parent is not alive."""
        self._exported = 0
        self._last_s = float("-inf")
        self._thread: threading.Thread | None = None

    def look(self, series: int) -> None:
        """Note how many series there are now, and export when there are new ones; never blocks."""
        now = self._monotonic_s()
        busy = self._thread is not None and self._thread.is_alive()
        if series == self._exported or busy or now - self._last_s < AT_MOST_EVERY_S:
            return
        readers = self._readers()
        if not readers:
            return
        if self._exported:
            self._last_s = now
        self._exported = series
        self._thread = threading.Thread(target=self._export, args=(readers,), name="otel_pipeline.early", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None  # The program is ending: its last export takes everything along.

    def _export(self, readers: Sequence[MetricReader]) -> None:
        for reader in readers:
            try:
                reader.force_flush(timeout_millis=TIMEOUT_S * 1000)
            except Exception as error:
                self._failed(error)
