"""Metrics as plain numbers: hot code adds integers to cells, an exporter collects them from another thread.

A cell belongs to one thread at a time and takes no lock. Where several threads record the same series, each has a
cell of its own (`local`, or `cell(..., owner=...)`); cells whose owner is gone are folded: no count is lost, no cell
is kept.
"""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
Attributes: TypeAlias = Mapping[str, AttributeValue]
Problem: TypeAlias = Callable[[str, str], None]
GaugeRead: TypeAlias = Callable[[], Iterable[tuple[Attributes, float]]]

SERIES_LIMIT = 2000
OVERFLOW: Attributes = {"otel.metric.overflow": True}


Exemplar: TypeAlias = "tuple[float, int, SpanContext]"
"""A value, its time in ns since the epoch, and a recorded span that shows how it came about."""
Exemplars: TypeAlias = "Sequence[Exemplar | None]"


class CounterCell:
    """A number to add to, by one thread at a time: `cell.value += 1`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def clear(self) -> None:
        """Count from zero."""
        self.value = 0

    def absorb(self, other: CounterCell) -> None:
        """Add what the other counted."""
        self.value += other.value


class HistogramCell:
    """Buckets to record into, by one thread at a time."""

    __slots__ = ("above", "at", "bounds", "bucket_counts", "exemplars", "forward", "max", "min", "sum", "up_to")

    def __init__(self, bounds: tuple[float, ...], forward: Callable[[float], None] | None = None) -> None:
        self.bounds = bounds
        self.bucket_counts = [0] * (len(bounds) + 1)
        self.sum: float = 0
        self.min = inf
        self.max = -inf
        self.forward = forward
        self.at = 0
        """The bucket of the last value, where the next one mostly belongs too: values above `above`, up to `up_to`."""
        self.above = self.up_to = inf
        self.exemplars: Exemplars = ()
        """The newest of each bucket; empty before the first."""

    def clear(self) -> None:
        """Record from nothing."""
        self.bucket_counts[:] = [0] * len(self.bucket_counts)
        self.sum, self.min, self.max = 0, inf, -inf
        self.exemplars = ()

    def record(self, seconds: float) -> None:
        """Count one value; the bounds are inclusive above, as OpenTelemetry's are."""
        if not self.above < seconds <= self.up_to:
            self._find(seconds)
        self.bucket_counts[self.at] += 1
        self.sum += seconds
        if seconds < self.min:  # noqa: PLR1730 - calling min() costs twice as much
            self.min = seconds
        if seconds > self.max:  # noqa: PLR1730
            self.max = seconds
        if self.forward is not None:
            self.forward(seconds)

    def record_all(self, seconds: Sequence[float]) -> None:
        """Count several values, of which there is one at least."""
        low, high = min(seconds), max(seconds)
        if self.record_alike(len(seconds), sum(seconds), low, high):
            return
        if self.forward is not None:
            for each in seconds:
                self.record(each)
            return
        above, up_to, counts, total = inf, inf, self.bucket_counts, self.sum
        for each in seconds:
            if not above < each <= up_to:
                self._find(each)
                above, up_to, at = self.above, self.up_to, self.at
            counts[at] += 1
            total += each
        self.sum, self.min, self.max = total, min(self.min, low), max(self.max, high)

    def _find(self, seconds: float) -> None:
        at = self.at = bisect_left(self.bounds, seconds)
        if self.forward is None:  # Who counts in place, by these, forwards nothing.
            self.above = self.bounds[at - 1] if at else -inf
            self.up_to = self.bounds[at] if at < len(self.bounds) else inf

    def forget_bucket(self) -> None:
        """Make `record` look for the next value among all buckets, whatever the last one was."""
        self.above = self.up_to = inf

    def record_alike(self, count: int, total: float, low: float, high: float) -> bool:
        """Count values from `low` to `high` at once, whose sum is `total`; False where they are not in one bucket."""
        at = bisect_left(self.bounds, low)
        if self.forward is not None or at != bisect_left(self.bounds, high):
            return False
        self.bucket_counts[at] += count
        self.sum += total
        self.min = min(self.min, low)
        self.max = max(self.max, high)
        return True

    def exemplify(self, seconds: float, time_ns: int, span: SpanContext) -> None:
        """Keep a recorded span that was current when this value was recorded: it shows what such a value is like."""
        kept = self.exemplars
        if type(kept) is not list:
            kept = self.exemplars = [None] * len(self.bucket_counts)
        kept[bisect_left(self.bounds, seconds)] = seconds, time_ns, span

    def absorb(self, other: HistogramCell) -> None:
        """Add what the other recorded."""
        self.exemplars = newest(self.exemplars, other.exemplars)
        self.bucket_counts = [mine + theirs for mine, theirs in zip(self.bucket_counts, other.bucket_counts)]  # noqa: B905
        self.sum += other.sum
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)


def newest(mine: Exemplars, theirs: Exemplars) -> Exemplars:
    """Choose the newer exemplar of each bucket."""
    if not mine or not theirs:
        return tuple(mine or theirs)
    pairs = zip(mine, theirs, strict=True)
    return tuple(a if b is None or (a is not None and a[1] >= b[1]) else b for a, b in pairs)


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """What was recorded since the start; `bucket_counts` has one entry more than there are bounds."""

    count: int
    sum: float
    min: float
    max: float
    bucket_counts: tuple[int, ...]
    exemplars: Exemplars = ()


class _Cell(Protocol):
    def clear(self) -> None: ...
    def absorb(self, other: Any) -> None: ...


CellT = TypeVar("CellT", bound=_Cell)


class _Creation:
    """The one lock, for making and folding cells; never taken while recording.

    Reentrant, because the garbage collector may run a finalizer of ours, which records, while it is held.
    """

    def __init__(self) -> None:
        self.renew()
        forks.add(self.renew)

    def renew(self) -> None:
        self.lock = threading.RLock()


_creation = _Creation()


class _Alive:
    """Owns the cells of one thread: it goes when the thread goes."""

    __slots__ = ("__weakref__",)


class ThreadCells(threading.local, Generic[CellT]):
    """`.cell` is the calling thread's own cell of one series, made at its first use in that thread."""

    cell: CellT

    def __init__(self, make: Callable[[object], CellT]) -> None:
        self._alive = _Alive()
        self.cell = make(self._alive)


class _Series(Generic[CellT]):
    """The cells of one attribute set."""

    __slots__ = ("attributes", "cells", "folded", "folding", "local", "new_cell", "room", "shared")

    def __init__(self, attributes: Attributes, new_cell: Callable[[Attributes], CellT]) -> None:
        self.attributes = dict(attributes)
        self.new_cell = new_cell
        self.shared = new_cell(self.attributes)
        self.folded = new_cell(self.attributes)
        self.cells: dict[CellT, weakref.ref[object]] = {}
        self.folding = False
        self.room = 16
        self.local: ThreadCells[CellT] | None = None

    def owned(self, owner: object) -> CellT:
        cell = self.new_cell(self.attributes)
        with _creation.lock:
            self.cells[cell] = weakref.ref(owner)
            # Without a reader nobody folds, and a thread per request would pile up cells. Not when the collector of
            # garbage has interrupted a fold of this very series: it would be counted twice.
            if len(self.cells) > self.room and not self.folding:
                self.total()
                self.room = max(16, 2 * len(self.cells))
        return cell

    def fold(self) -> None:
        """Keep what cells hold whose owner is gone, but not the cells. The caller has the lock."""
        for cell in list(self.cells):
            if self.cells[cell]() is None:
                del self.cells[cell]
                self.folded.absorb(cell)

    def every_cell(self) -> list[CellT]:
        return [self.shared, *self.cells]

    def clear(self) -> None:
        """Begin at zero, in the cells that are in use."""
        self.folding = False
        for cell in (self.folded, *self.every_cell()):
            cell.clear()

    def total(self) -> CellT:
        with _creation.lock:
            self.folding = True
            try:
                self.fold()
                total = self.new_cell(self.attributes)
                for cell in (self.folded, *self.every_cell()):
                    total.absorb(cell)
            finally:
                self.folding = False
        return total


_Key: TypeAlias = "frozenset[tuple[str, Any]]"


def _key(attributes: Attributes) -> _Key:
    return frozenset((name, tuple(v) if isinstance(v, list) else v) for name, v in attributes.items())


class _Recorded(Generic[CellT]):
    """What counters and histograms have in common: a bounded table of series."""

    def __init__(self, name: str, unit: str, description: str, *, limit: int, problem: Problem) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self.start_ns = time.time_ns()
        self._limit = limit
        self._problem = problem
        self._table: dict[_Key, _Series[CellT]] = {}
        self._inherited: dict[_Key, _Series[CellT]] = {}
        """In a forked child: series of its parent, until the child asks for them or counts in them."""
        self._overflow: _Series[CellT] | None = None

    def cell(self, attributes: Attributes, *, owner: object | None = None) -> CellT:
        """Return the cell to keep for these attributes.

        Without an owner it is the series' only shared one, for what a single thread records. With an owner (anything
        that can be weakly referenced) it is a new one for that owner alone, folded once the owner is gone.
        """
        series = self._series(attributes)
        return series.shared if owner is None else series.owned(owner)

    def local(self, attributes: Attributes) -> ThreadCells[CellT]:
        """Return the cells for what many threads record: keep the result, use its `.cell` for each value."""
        series = self._series(attributes)
        with _creation.lock:
            if series.local is None:
                series.local = ThreadCells(series.owned)
            return series.local

    def total(self, attributes: Attributes) -> CellT:
        """Return a cell with all that one attribute set has counted since the start."""
        return (self._inherited.get(_key(attributes)) or self._series(attributes)).total()

    def begin_at_zero(self) -> None:
        """Count for a forked child: what its parent has counted is exported there."""
        self.start_ns = time.time_ns()
        self._inherited.update(self._table)
        self._table.clear()
        for series in (*self._inherited.values(), *([self._overflow] if self._overflow is not None else ())):
            series.clear()

    def _take_over(self) -> None:
        """Own the series that the child has counted in: who holds a cell does not ask for it again."""
        for key, series in list(self._inherited.items()):
            if not self._is_zero(series.total()):
                self._table.setdefault(key, series)
                self._inherited.pop(key, None)

    def _is_zero(self, total: CellT) -> bool:
        raise NotImplementedError

    @property
    def series_count(self) -> int:
        """The number of attribute sets; it never falls."""
        if self._inherited:
            self._take_over()
        return len(self._table)

    def _new_cell(self, attributes: Attributes) -> CellT:
        raise NotImplementedError

    def _series(self, attributes: Attributes) -> _Series[CellT]:
        key = _key(attributes)
        series = self._table.get(key)
        if series is None:
            with _creation.lock:
                if key in self._table or len(self._table) < self._limit:
                    made = self._inherited.pop(key, None) or _Series(attributes, self._new_cell)
                    return self._table.setdefault(key, made)
            series = self._overflowing()
        return series

    def _overflowing(self) -> _Series[CellT]:
        with _creation.lock:
            first = self._overflow is None
            series = self._overflow = self._overflow or _Series(OVERFLOW, self._new_cell)
        if first:  # told without the lock: logging takes locks of its own
            self._problem(
                f"totals.overflow.{self.name}",
                f"{self.name} has {self._limit} attribute sets; the rest is counted under otel.metric.overflow=true",
            )
        return series

    def _every_series(self) -> list[_Series[CellT]]:
        if self._inherited:
            self._take_over()
        with _creation.lock:
            series = [self._table[key] for key in list(self._table)]
        return series if self._overflow is None else [*series, self._overflow]


class Counter(_Recorded[CounterCell]):
    """A sum that only grows. A series exists, at 0, from the moment that its cell is asked for."""

    refresh: Callable[[], object] | None = None
    """Called before the points are read: brings up to date what is counted elsewhere."""

    def _new_cell(self, attributes: Attributes) -> CounterCell:  # noqa: ARG002
        return CounterCell()

    def _is_zero(self, total: CounterCell) -> bool:
        return not total.value

    def value(self, attributes: Attributes) -> float:
        """Return what one attribute set has counted since the start."""
        return self.total(attributes).value

    def points(self) -> list[tuple[Attributes, float]]:
        """Return each attribute set and what was counted since the start."""
        if self.refresh is not None:
            try:
                self.refresh()
            except Exception as error:
                self._problem(f"totals.refresh.{self.name}", f"{self.name} may be behind: {type(error).__name__}")
        return [(series.attributes, series.total().value) for series in self._every_series()]


class Histogram(_Recorded[HistogramCell]):
    """How values are spread over buckets."""

    refresh: Callable[[], object] | None = None
    """Called before the points are read: brings exemplars. Does not raise."""

    def __init__(
        self, name: str, unit: str, description: str, *, bounds: Sequence[float], limit: int, problem: Problem
    ) -> None:
        super().__init__(name, unit, description, limit=limit, problem=problem)
        self.bounds = tuple(bounds)
        self._sink: Callable[[float, Attributes], None] | None = None

    def _new_cell(self, attributes: Attributes) -> HistogramCell:
        return HistogramCell(self.bounds, self._forward(attributes))

    def _forward(self, attributes: Attributes) -> Callable[[float], None] | None:
        sink = self._sink
        return None if sink is None else lambda seconds: sink(seconds, attributes)

    def forward_to(self, sink: Callable[[float, Attributes], None] | None) -> None:
        """Hand every value to `sink(seconds, attributes)` too: the slow path, for SDKs that take no ready points."""
        with _creation.lock:
            self._sink = sink
            for series in self._every_series():
                for cell in series.every_cell():
                    cell.forward = self._forward(series.attributes)
                    cell.above = cell.up_to = inf

    def _is_zero(self, total: HistogramCell) -> bool:
        return not any(total.bucket_counts)

    def points(self) -> list[tuple[Attributes, HistogramPoint]]:
        """Return each attribute set that has values, cumulative since the start."""
        if self.refresh is not None:
            self.refresh()
        totals = [(series.attributes, series.total()) for series in self._every_series()]
        # The count is taken from the buckets, so that both always agree, whatever is recorded meanwhile.
        return [
            (
                attributes,
                HistogramPoint(count, total.sum, total.min, total.max, tuple(total.bucket_counts), total.exemplars),
            )
            for attributes, total in totals
            if (count := sum(total.bucket_counts))
        ]


class Gauge:
    """Values that are read when somebody collects."""

    def __init__(self, name: str, unit: str, description: str, problem: Problem) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self._problem = problem
        self._reads: tuple[GaugeRead, ...] = ()

    def add(self, read: GaugeRead) -> None:
        """Call `read` too: each part of a program may contribute series."""
        if read not in self._reads:
            self._reads = (*self._reads, read)

    def remove(self, read: GaugeRead) -> None:
        """Stop calling `read`."""
        self._reads = tuple(known for known in self._reads if known != read)

    def points(self) -> list[tuple[Attributes, float]]:
        """Read all now; a function that fails leaves out its own series only."""
        points: list[tuple[Attributes, float]] = []
        for read in self._reads:
            try:
                points.extend(read())
            except Exception as error:
                self._problem(f"totals.gauge.{self.name}", f"{self.name} cannot be read: {type(error).__name__}")
        return points


Instrument: TypeAlias = Counter | Histogram | Gauge
InstrumentT = TypeVar("InstrumentT", Counter, Histogram, Gauge)


class Totals:
    """All instruments of one pipeline. A name is defined once; defining it again gives the same instrument."""

    def __init__(self, *, limit: int = SERIES_LIMIT, problem: Problem = lambda key, message: None) -> None:  # noqa: ARG005
        self.counters: list[Counter] = []
        self.histograms: list[Histogram] = []
        self.gauges: list[Gauge] = []
        self.exemplars = False
        """Whether anybody exports them: nothing is kept otherwise."""
        self._limit = limit
        self._problem = problem
        self._by_name: dict[str, Instrument] = {}
        self._callbacks: list[Callable[[Instrument], None]] = []
        forks.add(self.begin_at_zero, Step.ZERO)

    def begin_at_zero(self) -> None:
        """Count for a forked child."""
        for counter in self.counters:
            counter.begin_at_zero()
        for histogram in self.histograms:
            histogram.begin_at_zero()

    def counter(self, name: str, unit: str, description: str) -> Counter:
        """Return the counter of this name."""
        return self._define(
            Counter,
            self.counters,
            name,
            lambda: Counter(name, unit, description, limit=self._limit, problem=self._problem),
        )

    def histogram(self, name: str, unit: str, description: str, bounds: Sequence[float]) -> Histogram:
        """Return the histogram of this name; its bounds are those of its first definition."""
        return self._define(
            Histogram,
            self.histograms,
            name,
            lambda: Histogram(name, unit, description, bounds=bounds, limit=self._limit, problem=self._problem),
        )

    def gauge(self, name: str, unit: str, description: str, read: GaugeRead) -> Gauge:
        """Return the gauge of this name, which from now on calls `read` too."""
        gauge = self._define(Gauge, self.gauges, name, lambda: Gauge(name, unit, description, self._problem))
        gauge.add(read)
        return gauge

    @property
    def series_count(self) -> int:
        """The number of series of all counters and histograms; it never falls. Cheap, in any thread."""
        return sum(each.series_count for each in self.counters) + sum(each.series_count for each in self.histograms)

    def on_new(self, callback: Callable[[Instrument], None]) -> Callable[[], None]:
        """Call back with each instrument, including those that exist already; returns a function that stops it."""
        with _creation.lock:
            self._callbacks.append(callback)
            known = list(self._by_name.values())
        for instrument in known:
            callback(instrument)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def _define(
        self, kind: type[InstrumentT], known: list[InstrumentT], name: str, make: Callable[[], InstrumentT]
    ) -> InstrumentT:
        with _creation.lock:
            found = self._by_name.get(name)
            if isinstance(found, kind):
                return found
            if found is not None:
                raise ValueError(f"{name} is already a {type(found).__name__.lower()}, not a {kind.__name__.lower()}")
            instrument = make()
            self._by_name[name] = instrument
            known.append(instrument)
            callbacks = self._callbacks[:]
        for callback in callbacks:
            callback(instrument)
        return instrument
