"""Ties together what detectors, contracts and the engine know of each flow: the evidence of the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.detectors.freshness import DATA_AGE
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.evidence import Evidence, Freshness

if TYPE_CHECKING:
    from otel_pipeline.contracts.contracts import Contracts
    from otel_pipeline.detectors.flow_pace import Pace
    from otel_pipeline.detectors.flows import Flows
    from otel_pipeline.detectors.watched_flow import FlowNow
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.totals import HistogramCell


class Gathering:
    """Reads all flows. Safe in any thread."""

    def __init__(self, flows: Flows, contracts: Contracts, engine: Engine) -> None:
        self._flows = flows
        self._contracts = contracts
        self._engine = engine

    def evidence(self) -> list[Evidence]:
        """Gather what is known of each flow now."""
        self._flows.refresh()
        refused, queued = self._refused_sends(), self._queued()
        found = [self._of_flow(now, refused.get(now.flow.key.destination, {})) for now in self._flows.now()]
        for each in found:
            each.queued = queued.get(each.key.destination, 0)
        read = {each.key.destination for each in found}
        return found + [self._only_sent(name) for name in self._contracts.sent_to() if name not in read]

    def _of_flow(self, now: FlowNow, refused: dict[str, int]) -> Evidence:
        flow = now.flow
        destination = flow.key.destination
        objectives = [counts.evidence() for counts in (*flow.objectives, *list(flow.decisions))]
        counts = Sums(flow.latest)
        for objective in objectives:
            counts.update(objective.counts())
        counts.update(self._contracts.counts(destination, "consumer"))
        return Evidence(
            key=flow.key,
            counts=counts,
            environment=self._flows.settings.environment,
            freshness=Freshness(
                objectives=objectives,
                age_p99_s=_quantile(self._flows.histogram(DATA_AGE).total(DATA_AGE.among(flow.attributes)), 0.99),
                staleness_s=now.staleness_s,
                quiet_s=now.quiet_s,
                expect_every_s=flow.settings.expect_every_s,
            ),
            pace=self._pace(now),
            contract=self._contracts.evidence(destination, "consumer"),
            at_risk=flow.at_risk(),
            refused_sends=refused,
        )

    def _only_sent(self, destination: str) -> Evidence:
        return Evidence(
            FlowKey(None, destination, None),
            Sums(self._contracts.counts(destination, "producer")),
            only_sent=True,
            contract=self._contracts.evidence(destination, "producer"),
        )

    def _pace(self, now: FlowNow) -> Pace:
        """Read the pace, with how long handling takes: by processing spans, else by the time between two polls."""
        pace, attributes = now.pace, now.flow.process_attributes
        cell = self._engine.process_duration.total(attributes) if attributes else None
        handled = 0 if cell is None else sum(cell.bucket_counts)
        if cell is not None and handled:
            for each in pace.consumers:
                if not each.only_polled:
                    each.handled, each.longest_s = handled, cell.max
                    each.p95_s = _quantile(cell, 0.95) or 0.0
        return pace

    def _refused_sends(self) -> dict[str, dict[str, int]]:
        """Count the failed sends of this process by destination and error type."""
        refused: dict[str, dict[str, int]] = {}
        for attributes, count in self._engine.sent.points():
            error = attributes.get(semconv.ERROR_TYPE)
            if error is not None:
                errors = refused.setdefault(str(attributes.get(semconv.MESSAGING_DESTINATION_NAME)), {})
                errors[str(error)] = errors.get(str(error), 0) + int(count)
        return refused

    def _queued(self) -> dict[str, int]:
        """Count, by destination, the messages that clients have been given and whose outcome is not known yet."""
        queued: dict[str, int] = {}
        for tell in self._engine.queued:
            for destination, count in tell().items():
                queued[destination] = queued.get(destination, 0) + count
        return queued


def _quantile(cell: HistogramCell, share: float) -> float | None:
    """Return the upper bound of the quantile's bucket, s, but never more than the highest value."""
    counts = cell.bucket_counts
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip((*cell.bounds, cell.max), counts, strict=True):
        seen += count
        if seen >= share * total:
            return min(bound, cell.max)
    return cell.max
