"""Ties together what detectors, contracts and the engine know of flows and producers: the evidence of the verdict."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.detectors.freshness import DATA_AGE
from otel_pipeline.detectors.shares import quantile
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.evidence import Evidence, Freshness
from otel_pipeline.verdict.sends import ProducerKey, ProducersNow, Sends

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from otel_pipeline.contracts.contracts import Contracts
    from otel_pipeline.detectors.flow_pace import Pace
    from otel_pipeline.detectors.flows import Flows
    from otel_pipeline.detectors.watched_flow import FlowNow
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.verdict.evidence import AnyKey


class Gathered(NamedTuple):
    """One flow, or what is sent to one destination."""

    key: AnyKey
    mark: Any
    """Equal to that of before where nothing has moved since; None where that cannot be told."""
    evidence: Evidence | None
    """None where it is idle."""


class Gathering:
    """Reads all flows and producers. Safe in any thread."""

    def __init__(self, flows: Flows, contracts: Contracts, engine: Engine) -> None:
        self._flows = flows
        self._contracts = contracts
        self._engine = engine
        self._producers = ProducersNow(engine)

    def evidence(self) -> list[Evidence]:
        """Gather what is known of each flow and producer now."""
        return [each.evidence for each in self.every(lambda _key, _mark: False) if each.evidence is not None]

    def every(self, is_idle: Callable[[AnyKey, Any], bool], *, ended: bool = False) -> list[Gathered]:
        """Gather what is known of each flow and producer now, but for those that are idle.

        Args:
            is_idle: tells by the key and the mark.
            ended: whether the process is at its end.
        """
        found = []
        sends = self._producers.look(time.monotonic())
        for now in self._flows.now():
            flow = now.flow
            key, destination = flow.key, flow.key.destination
            # Where messages are expected, that none comes is of interest, too.
            mark = None if flow.settings.expect_every_s is not None else flow.mark()
            evidence = None
            if not is_idle(key, mark):
                self._flows.refresh_one(flow)
                evidence = self._of_flow(now)
                for to, sent in sends.items():
                    if to.destination == destination:
                        evidence.queued += sent.open
                        for error, count in sent.errors.items():
                            evidence.refused_sends[error] = evidence.refused_sends.get(error, 0) + count
            found.append(Gathered(key, mark, evidence))
        checked, known = list(self._contracts.sent_to()), {key.destination for key in sends}
        sends.update({ProducerKey(None, name): Sends() for name in checked if name not in known})
        for to, sent in sends.items():
            sent.ended = ended
            if to.destination in checked:
                sent.counts.update(self._contracts.counts(to.destination, "producer"))
            # What is open gets old.
            moved = None if sent.open else sent.counts
            found.append(Gathered(to, moved, None if is_idle(to, moved) else self._of_producer(to, sent, checked)))
        return found

    def _of_flow(self, now: FlowNow) -> Evidence:
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
                age_p99_s=quantile(self._flows.histogram(DATA_AGE).total(DATA_AGE.among(flow.attributes)), 0.99),
                staleness_s=now.staleness_s,
                quiet_s=now.quiet_s,
                expect_every_s=flow.settings.expect_every_s,
                replaying=flow.replaying,
                delay=flow.delay,
                clock_step_s=self._flows.clock.step_s if self._flows.clock.off else None,
                clock_right_s=self._flows.clock.right_for_s(),
            ),
            pace=self._pace(now),
            contract=self._contracts.evidence(destination, "consumer"),
            ordered=flow.settings.ordered,
            open_places=flow.open_places(),
            missing_places=flow.missing_places(),
            at_risk=flow.at_risk(),
        )

    def _of_producer(self, key: ProducerKey, sends: Sends, checked: Container[str]) -> Evidence:
        evidence = Evidence(key, sends.counts, sends=sends)
        if key.destination in checked:
            evidence.contract, evidence.values_checked = self._contracts.evidence(key.destination, "producer"), True
        return evidence

    def _pace(self, now: FlowNow) -> Pace:
        """Read the pace, with how long handling takes: by processing spans, else by the time between two polls."""
        pace, attributes = now.pace, now.flow.process_attributes
        cell = self._engine.process_duration.total(attributes) if attributes else None
        handled = 0 if cell is None else sum(cell.bucket_counts)
        if cell is not None and handled:
            for each in pace.consumers:
                if not each.only_polled:
                    each.handled, each.longest_s = handled, cell.max
                    each.p95_s = quantile(cell, 0.95) or 0.0
        return pace
