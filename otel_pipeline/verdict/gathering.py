"""Ties together what detectors, contracts and the engine know of each flow: the evidence of the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline import semconv
from otel_pipeline.detectors.freshness import DATA_AGE
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.evidence import Evidence, Freshness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.contracts.contracts import Contracts
    from otel_pipeline.detectors.flow_pace import Pace
    from otel_pipeline.detectors.flows import Flows
    from otel_pipeline.detectors.watched_flow import FlowNow
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.measures import Label
    from otel_pipeline.engine.totals import HistogramCell


class Gathered(NamedTuple):
    """One flow."""

    key: FlowKey
    mark: Any
    """Equal to that of before where nothing has moved since; None where that cannot be told."""
    evidence: Evidence | None
    """None where the flow is idle."""


class Gathering:
    """Reads all flows. Safe in any thread."""

    def __init__(self, flows: Flows, contracts: Contracts, engine: Engine) -> None:
        self._flows = flows
        self._contracts = contracts
        self._engine = engine

    def evidence(self) -> list[Evidence]:
        """Gather what is known of each flow now."""
        return [each.evidence for each in self.every(lambda _key, _mark: False) if each.evidence is not None]

    def every(self, is_idle: Callable[[FlowKey, Any], bool]) -> list[Gathered]:
        """Gather what is known of each flow now, but for those that are idle: told by the flow and its mark."""
        refused: dict[str, dict[str, int]] | None = None
        queued: dict[str, int] = {}
        found = []
        for now in self._flows.now():
            flow = now.flow
            key, destination = flow.key, flow.key.destination
            # Where messages are expected, that none comes is of interest, too.
            mark = None if flow.settings.expect_every_s is not None else flow.mark()
            evidence = None
            if not is_idle(key, mark):
                self._flows.refresh_one(flow)
                if refused is None:
                    refused, queued = self._refused_sends(), self._queued()
                evidence = self._of_flow(now, refused.get(destination, {}))
                evidence.queued = queued.get(destination, 0)
            found.append(Gathered(key, mark, evidence))
        read = {each.key.destination for each in found}
        for name in self._contracts.sent_to():
            if name not in read:
                key, counts = FlowKey(None, name, None), self._contracts.counts(name, "producer")
                found.append(Gathered(key, counts, None if is_idle(key, counts) else self._only_sent(key, counts)))
        return found

    def _of_flow(self, now: FlowNow, refused: dict[str, int]) -> Evidence:
        flow = now.flow
        destination = flow.key.destination
        objectives = [counts.evidence() for counts in (*flow.objectives, *list(flow.decisions.values()))]
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
                replaying=flow.replaying,
                delay=flow.delay,
                clock_step_s=self._flows.clock.step_s if self._flows.clock.off else None,
            ),
            pace=self._pace(now),
            contract=self._contracts.evidence(destination, "consumer"),
            ordered=flow.settings.ordered,
            open_places=flow.open_places(),
            missing_places=flow.missing_places(),
            at_risk=flow.at_risk(),
            refused_sends=refused,
        )

    def _only_sent(self, key: FlowKey, counts: Mapping[Label, int]) -> Evidence:
        contract = self._contracts.evidence(key.destination, "producer")
        return Evidence(key, Sums(counts), only_sent=True, contract=contract)

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
