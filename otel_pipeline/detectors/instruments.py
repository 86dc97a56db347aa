"""The instruments that the tables ask for, and every call of a detector: what one raises harms no other."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from otel_pipeline.detectors.measures import Detector
    from otel_pipeline.detectors.watched_flow import FlowNow, WatchedFlow
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.measures import Measure
    from otel_pipeline.engine.totals import Attributes, Counter, Histogram, Totals

T = TypeVar("T")
ROUND_S = 1.0
"""A collection asks every instrument once, within this time."""
Reading: TypeAlias = "tuple[Attributes, float]"


class _Round(Generic[T]):
    """Reads once for all instruments of a collection, which asks each of them once; anew for one that asks again.

    Safe in any thread: readers that collect at the same time read more often than they have to.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._asked: set[Measure] = set()
        self._until_s = -1.0
        self._found: Any = None

    def read(self, measure: Measure) -> T:
        now_s = time.monotonic()
        if measure in self._asked or not now_s <= self._until_s:
            self._asked, self._until_s = set(), now_s + ROUND_S
            self._found = self._read()
        self._asked.add(measure)
        found: T = self._found
        return found


class Instruments:
    """Makes what the tables ask for.

    Args:
        tables: those that cannot be used are left out of `detectors`.
        now: every flow as it is now, for gauges.
        refresh: brings the sums up to date before counters are read.
    """

    def __init__(
        self,
        totals: Totals,
        tables: Iterable[Detector],
        guard: Guard,
        now: Callable[[], list[FlowNow]],
        refresh: Callable[[], object],
    ) -> None:
        self._totals = totals
        self._guard = guard
        self._flows = _Round(now)
        self._sums = _Round(refresh)
        self._histograms: dict[Measure, Histogram] = {}
        self._counters: dict[Measure, Counter] = {}
        self.detectors = tuple(table for table in tables if self._define(table))

    def _define(self, detector: Detector) -> bool:
        try:
            for measure in (*(label.measure for label in detector.counts), *detector.open_counts):
                if measure.instrument is not None:
                    counter = self._counters[measure] = measure.counter(self._totals)
                    counter.refresh = partial(self._sums.read, measure)
            for measure in detector.recorded:
                if measure.instrument == "histogram":
                    self._histograms[measure] = measure.histogram(self._totals)
            for measure, read in detector.flow_gauges.items():
                measure.gauge(self._totals, partial(self._of_every_flow, detector, measure, read))
        except Exception:
            detector.place(self._guard).failed()
            return False
        return True

    def attach(self, engine: Engine) -> None:
        """Make the gauges that are read from the engine."""
        for detector in self.detectors:
            for measure, read in detector.gauges.items():
                measure.gauge(self._totals, partial(self.all, detector, read, engine))

    def histogram(self, measure: Measure) -> Histogram:
        """Return the histogram that a detector records in."""
        return self._histograms[measure]

    def write(self, flow: WatchedFlow) -> None:
        """Bring the series of a flow up to date; they are made, at 0, when the flow is first seen."""
        for label, count in flow.counts().items():
            cell = flow.series.get(label)
            if cell is None and label.measure.instrument is not None:
                named = {**label.measure.among(flow.attributes), **label.attributes}
                cell = flow.series[label] = self._counters[label.measure].cell(named, owner=flow)
            if cell is not None:
                cell.value = count

    def ask(self, detector: Detector, function: Callable[..., T], *arguments: Any) -> T | None:
        """Call a detector's function; None where it raises, which is counted, or is switched off."""
        place = detector.place(self._guard)
        if place.off:
            return None
        try:
            return function(*arguments)
        except Exception:
            place.failed()
            return None

    def all(self, detector: Detector, read: Callable[..., Iterable[T]], *arguments: Any) -> list[T]:
        """List all that a detector's function yields; nothing where it raises."""
        return self.ask(detector, lambda: list(read(*arguments))) or []

    def _of_every_flow(
        self, detector: Detector, measure: Measure, read: Callable[[FlowNow], Iterable[Reading]]
    ) -> Iterator[Reading]:
        for now in self._flows.read(measure):
            for more, value in self.all(detector, read, now):
                yield {**measure.among(now.flow.attributes), **more}, value
