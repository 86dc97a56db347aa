"""Measures how old data from elsewhere was when a message was worked on with it: feature stores, caches, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.measures import Detector
from otel_pipeline.engine.engine import OTHER
from otel_pipeline.engine.measures import Attribute, Measure
from otel_pipeline.engine.origin import MAX_AGE_MS

if TYPE_CHECKING:
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.totals import CounterCell, HistogramCell, ThreadCells, Totals

MAX_INPUTS = 100
_NAME = Attribute("otel_pipeline.input.name", "Name of data from elsewhere, as `flow.input` was told it.")
INPUT_AGE = Measure(
    "otel_pipeline.input.age",
    "histogram",
    "s",
    "Age of data from elsewhere when it was taken for the message in hand.",
    (_NAME,),
)
UNKNOWN = Measure(
    "otel_pipeline.input.unknown_ages",
    "counter",
    "{input}",
    "Data from elsewhere whose age was not known: nor is that of the decision then.",
    (_NAME,),
)
DETECTOR = Detector("inputs", recorded=(INPUT_AGE, UNKNOWN))


class Inputs:
    """Counts inputs by name, the first so many of them. Safe in any thread."""

    def __init__(self, totals: Totals, guard: Guard) -> None:
        self._ages, self._unknown = INPUT_AGE.histogram(totals), UNKNOWN.counter(totals)
        self._guard = guard
        self._known: dict[str, tuple[ThreadCells[HistogramCell], ThreadCells[CounterCell]]] = {}

    def taken(self, name: str, age_ms: int | None) -> None:
        """Count one, which is so old; None where that is not known, or cannot be."""
        ages, unknown = self._known.get(name) or self._cells_of(name)
        if age_ms is None or not 0 <= age_ms <= MAX_AGE_MS:
            unknown.cell.value += 1
        else:
            ages.cell.record(age_ms / 1000)

    def _cells_of(self, name: str) -> tuple[ThreadCells[HistogramCell], ThreadCells[CounterCell]]:
        if len(self._known) >= MAX_INPUTS and name != OTHER:
            self._guard.problem(
                "inputs", f"more than {MAX_INPUTS} names of inputs: the others are counted under {OTHER!r}"
            )
            return self._known.get(OTHER) or self._cells_of(OTHER)
        attributes = {_NAME.key: name}
        found = self._known[name] = self._ages.local(attributes), self._unknown.local(attributes)
        return found


_inputs: Inputs | None = None


def activate(inputs: Inputs | None) -> None:
    """Set where inputs are counted; called by `instrument()` and `uninstrument()`."""
    global _inputs  # noqa: PLW0603 - one pipeline per process
    _inputs = inputs


def taken(name: str, age_ms: int | None) -> None:
    """Count an input of the message in hand; nothing where nothing is instrumented."""
    if _inputs is not None:
        _inputs.taken(name, age_ms)
