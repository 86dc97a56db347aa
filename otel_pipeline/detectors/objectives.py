"""Counts how often freshness objectives are met. Exact: no buckets round the ages."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.engine.measures import FLOW, Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.detectors.settings import Objective
    from otel_pipeline.engine.measures import Label, Window
    from otel_pipeline.engine.totals import Attributes, Counter, CounterCell, ThreadCells, Totals

_NAME = Attribute("otel_pipeline.slo.name", "Name of a freshness objective.")
_MET = Attribute("otel_pipeline.slo.met", "Whether the objective was met.", ("true", "false", "unknown", "replayed"))
SLO_EVENTS = Measure(
    "otel_pipeline.slo.events",
    "counter",
    "{event}",
    "Cases that met a freshness objective, or did not, or were of unknown age, or were read again.",
    (*FLOW, semconv.KAFKA_CLUSTER_ID, _NAME, _MET),
)
SLO_OBJECTIVE = Measure(
    "otel_pipeline.slo.objective", "gauge", "1", "The share of cases that an objective asks for.", (_NAME,)
)
MEASURES = (SLO_EVENTS, SLO_OBJECTIVE)


@dataclass(slots=True)
class ObjectiveEvidence:
    """One freshness objective of one flow: how many cases met it."""

    name: str
    threshold_s: float
    objective: float
    subject: str = "messages"
    """messages, or decisions of a model."""
    met: int = 0
    missed: int = 0
    unknown: int = 0
    replayed: int = 0
    """Cases that were processed before, and count for neither side."""

    def counts(self) -> dict[Label, int]:
        """Return the same figures by label, to be followed over time."""
        return dict(zip(_labels(self.name), (self.met, self.missed, self.unknown, self.replayed), strict=True))

    def within(self, window: Window) -> tuple[int, int, int]:
        """Return how many were met, missed and unknown within a window."""
        met, missed, unknown, _ = (window[label] for label in _labels(self.name))
        return met, missed, unknown


@cache
def _labels(name: str) -> list[Label]:
    """Return the labels of an objective, which are asked for a few times a second in each flow."""
    return [SLO_EVENTS.label(name, met) for met in _MET.values]


class ObjectiveCounts:
    """How often a freshness objective was met in one flow. Safe in any thread.

    Args:
        objective: what is asked for.
        counter: counts the cases.
        flow: attributes of the flow that they belong to; none for decisions that rest on no message.
    """

    __slots__ = ("_attributes", "_counter", "_met", "_missed", "_replayed", "_unknown", "objective", "threshold_ms")

    def __init__(self, objective: Objective, counter: Counter, flow: Attributes = MappingProxyType({})) -> None:
        self.objective = objective
        self.threshold_ms = objective.threshold_s * 1000
        self._counter = counter
        known = SLO_EVENTS.among(flow)
        self._attributes = [{**known, **SLO_EVENTS.label(objective.name, met).attributes} for met in _MET.values]
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin all counts at 0: a series that is born above it raises no alert."""
        self._met: ThreadCells[CounterCell]
        self._missed: ThreadCells[CounterCell]
        self._unknown: ThreadCells[CounterCell]
        self._replayed: ThreadCells[CounterCell]
        self._met, self._missed, self._unknown, self._replayed = map(self._counter.local, self._attributes)

    def count(self, age_ms: float | None) -> None:
        """Count one case; None where the age is not known, or negative."""
        if age_ms is None:
            self._unknown.cell.value += 1
        elif age_ms <= self.threshold_ms:
            self._met.cell.value += 1
        else:
            self._missed.cell.value += 1

    def count_at_least(self, age_ms: float) -> None:
        """Count one case of which only a lower bound of the age is known."""
        self.count(age_ms if age_ms > self.threshold_ms else None)

    def count_replayed(self) -> None:
        """Count one case that was processed before."""
        self._replayed.cell.value += 1

    def evidence(self) -> ObjectiveEvidence:
        """Return what was counted so far."""
        objective = self.objective
        subject = "messages" if objective.model is None else "decisions"
        counted = (int(self._counter.value(each)) for each in self._attributes)
        return ObjectiveEvidence(objective.name, objective.threshold_s, objective.objective, subject, *counted)


class Objectives:
    """All objectives that are set."""

    def __init__(self, objectives: Iterable[Objective], totals: Totals) -> None:
        self.counter = SLO_EVENTS.counter(totals)
        self._all = tuple(objectives)
        models = (objective for objective in self._all if objective.model is not None)
        self._of_models = tuple(ObjectiveCounts(objective, self.counter) for objective in models)
        SLO_OBJECTIVE.gauge(totals, self._shares)

    def begin_anew(self) -> None:
        """Count none, in a forked child, whose flows begin anew by themselves."""
        for counts in self._of_models:
            counts.begin_anew()

    def of_flow(self, destination: str, group: str | None, attributes: Attributes) -> tuple[ObjectiveCounts, ...]:
        """Make the counts of one flow for those that look at the messages of its destination and group.

        Each flow is counted by itself: a pattern must not turn one destination red for another's lateness.
        """
        return tuple(
            ObjectiveCounts(objective, self.counter, attributes)
            for objective in self._all
            if objective.destination is not None
            and fnmatchcase(destination, objective.destination)
            and objective.group in {None, group}
        )

    def of_models(self) -> tuple[ObjectiveCounts, ...]:
        """Return the counts of those that look at decisions, for decisions that rest on no message."""
        return self._of_models

    def _shares(self) -> Iterator[tuple[Attributes, float]]:
        for objective in self._all:
            yield SLO_OBJECTIVE.label(objective.name).attributes, objective.objective
