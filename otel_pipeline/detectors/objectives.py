"""Counts how often freshness objectives are met. Exact: no buckets round the ages."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.detectors.settings import Objective
    from otel_pipeline.engine.measures import Label, Window
    from otel_pipeline.engine.totals import Attributes, Counter, CounterCell, ThreadCells, Totals

_NAME = Attribute("otel_pipeline.slo.name", "Name of a freshness objective.")
_MET = Attribute("otel_pipeline.slo.met", "Whether the objective was met.", ("true", "false", "unknown"))
SLO_EVENTS = Measure(
    "otel_pipeline.slo.events",
    "counter",
    "{event}",
    "Cases that met a freshness objective, missed it, or are of unknown age.",
    (_NAME, _MET),
)
SLO_OBJECTIVE = Measure(
    "otel_pipeline.slo.objective", "gauge", "1", "The share of cases that an objective asks for.", (_NAME,)
)
MEASURES = (SLO_EVENTS, SLO_OBJECTIVE)


@dataclass(slots=True)
class ObjectiveEvidence:
    """One freshness objective: how many cases met it."""

    name: str
    threshold_s: float
    objective: float
    subject: str = "messages"
    """`messages`, or `decisions` of a model."""
    met: int = 0
    missed: int = 0
    unknown: int = 0

    def counts(self) -> dict[Label, int]:
        """Return the same as counts, to be compared over time."""
        return dict(zip(self._labels(), (self.met, self.missed, self.unknown), strict=True))

    def within(self, window: Window) -> tuple[int, int, int]:
        """Count those met, missed and unknown within a time."""
        met, missed, unknown = (window[label] for label in self._labels())
        return met, missed, unknown

    def _labels(self) -> list[Label]:
        return [SLO_EVENTS.label(self.name, met) for met in _MET.values]


class ObjectiveCounts:
    """How often a freshness objective was met. Safe in any thread."""

    __slots__ = ("_attributes", "_counter", "_met", "_missed", "_unknown", "objective", "threshold_ms")

    def __init__(self, objective: Objective, counter: Counter) -> None:
        self.objective = objective
        self.threshold_ms = objective.threshold_s * 1000
        self._counter = counter
        self._attributes = [SLO_EVENTS.label(objective.name, met).attributes for met in _MET.values]
        self.begin_anew()

    def begin_anew(self) -> None:
        """Make all three counts at 0 from the start: a series that is born above it raises no alert."""
        self._met: ThreadCells[CounterCell]
        self._missed: ThreadCells[CounterCell]
        self._unknown: ThreadCells[CounterCell]
        self._met, self._missed, self._unknown = (self._counter.local(each) for each in self._attributes)

    def count(self, age_ms: float | None) -> None:
        """Count one case; None where the age is not known, or negative."""
        if age_ms is None:
            self._unknown.cell.value += 1
        elif age_ms <= self.threshold_ms:
            self._met.cell.value += 1
        else:
            self._missed.cell.value += 1

    def evidence(self) -> ObjectiveEvidence:
        """Return what was counted so far."""
        objective = self.objective
        subject = "messages" if objective.model is None else "decisions"
        met, missed, unknown = (int(self._counter.value(each)) for each in self._attributes)
        return ObjectiveEvidence(
            objective.name, objective.threshold_s, objective.objective, subject, met, missed, unknown
        )


class Objectives:
    """All objectives that are set."""

    def __init__(self, objectives: Iterable[Objective], totals: Totals) -> None:
        self.counter = SLO_EVENTS.counter(totals)
        self._all = tuple(ObjectiveCounts(objective, self.counter) for objective in objectives)
        SLO_OBJECTIVE.gauge(totals, self._shares)

    def begin_anew(self) -> None:
        """Count none, in a forked child."""
        for counts in self._all:
            counts.begin_anew()

    def of_flow(self, destination: str, group: str | None) -> tuple[ObjectiveCounts, ...]:
        """Return those that look at the messages of this destination and group."""
        return tuple(
            counts
            for counts in self._all
            if counts.objective.destination is not None
            and fnmatchcase(destination, counts.objective.destination)
            and counts.objective.group in {None, group}
        )

    def of_models(self) -> tuple[ObjectiveCounts, ...]:
        """Return those that look at decisions."""
        return tuple(counts for counts in self._all if counts.objective.model is not None)

    def _shares(self) -> Iterator[tuple[Attributes, float]]:
        for counts in self._all:
            yield SLO_OBJECTIVE.label(counts.objective.name).attributes, counts.objective.objective
