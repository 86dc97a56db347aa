"""The health of the data of one pipeline: detectors on its engine, the verdict once a second, and the state file."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.detectors import clock
from otel_pipeline.detectors.clock_bound import ClockBound
from otel_pipeline.detectors.decisions import Decisions
from otel_pipeline.detectors.flows import Flows
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.measures import FLOW, Attribute, Measure
from otel_pipeline.verdict import require_fresh
from otel_pipeline.verdict.case import Minimums
from otel_pipeline.verdict.document import Document
from otel_pipeline.verdict.gathering import Gathering
from otel_pipeline.verdict.heartbeat import Heartbeat
from otel_pipeline.verdict.idle import Idle
from otel_pipeline.verdict.light import RANK
from otel_pipeline.verdict.lights import NAMES
from otel_pipeline.verdict.pace import PACE, STATUSES, status
from otel_pipeline.verdict.report import Health, Process
from otel_pipeline.verdict.settings import VerdictSettings
from otel_pipeline.verdict.verdict import FlowHealth, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.detectors.watched_flow import FlowKey
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Totals
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.state_file import StateFile

_IMPORTED_AT = time.time()
MAX_WAIT_S = 0.5
HEALTH_LIGHT = Measure(
    "otel_pipeline.health.light",
    "gauge",
    "{state}",
    "The verdict of a process on one flow: 0 no evidence, 1 green, 2 amber, 3 red.",
    (*FLOW, semconv.KAFKA_CLUSTER_ID, Attribute("otel_pipeline.light", "Which light of a flow.", NAMES)),
)
STATUS = Measure(
    "otel_pipeline.consumer.status",
    "gauge",
    "{state}",
    "1 for the state that a consumer is in, as its light for keeping pace says it.",
    (*FLOW, semconv.KAFKA_CLUSTER_ID, Attribute("otel_pipeline.state", "In which state a consumer is.", STATUSES)),
)
MEASURES = (HEALTH_LIGHT, STATUS)


class Monitoring:
    """What watches the data. `health()` is safe in any thread and never raises; nothing here blocks the application."""

    def __init__(
        self,
        engine: Engine,
        inferences: Inferences,
        totals: Totals,
        settings: HealthSettings,
        *,
        instance: str,
        load_contract: Callable[[str], Contract | None],
    ) -> None:
        self.settings = settings
        self._interval_s = settings.configured.of(VerdictSettings).interval_s
        self.looked: Callable[[int], object] | None = None
        """Called after each look with the number of series: new ones are to be exported soon. Must not block."""
        self._totals = totals
        self._guard = engine.guard
        self._instance = instance
        self._started_at = _IMPORTED_AT
        self.contracts = Contracts(totals, settings.configured, load=load_contract, problem=engine.guard.problem)
        self.flows = Flows(
            totals,
            settings,
            guard=engine.guard,
            clock_ms=lambda: engine.clock_ns() // 1_000_000,
            work_ns=engine.monotonic_ns,
            values=self.contracts,
        )
        self.flows.attach(engine)
        self.contracts.attach(engine)
        inferences.decided = Decisions(totals, self.flows.objectives, engine.metric_destination).decided
        require_fresh.activate(self.flows.objectives.counter, engine.guard)
        self.clock = ClockBound()
        """The bound of this machine's clock; it has to be told of the Collector's answers."""
        clock.define(totals, self.clock)
        HEALTH_LIGHT.gauge(totals, self._lights)
        STATUS.gauge(totals, self._statuses)
        self._gathering = Gathering(self.flows, self.contracts, engine)
        self._flows_judged: dict[FlowKey, FlowHealth] = {}
        self.judge_anew(Minimums())
        self._judging = threading.Lock()
        self._latest: Health | None = None
        self._document = Document()
        self._heartbeat: Heartbeat | None = None
        self._file: StateFile | None = None
        self._stay: Callable[[], None] | None = None
        forks.add(self._begin_anew, Step.ZERO)

    def begin(self, file: StateFile | None, when_leaving: Callable[[Callable[[], object]], Callable[[], None]]) -> None:
        """Judge once every `interval_s` from now on, and keep the result in the file.

        Args:
            file: None keeps it in memory alone.
            when_leaving: given (owner, function), has the function called when the program ends; returns its undoing.
        """
        self._file = file
        self._heartbeat = Heartbeat(self.beat, self._interval_s, self._guard.place("health"))
        if file is not None:
            self._stay = when_leaving(self.stop)

    def stop(self) -> None:
        """Stop judging, and remove the state file."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._file is not None:
            self._file.close()
        if self._stay is not None:
            self._stay()

    def beat(self) -> None:
        """Look at everything once."""
        self.flows.look()
        health = self.judge(idle_too=False)
        if self._file is not None and (self._document.is_due(health) or not self._file.is_there()):
            self._file.write(self._document.text(health))
        if self.looked is not None:
            self.looked(self._totals.series_count)

    def judge(self, *, idle_too: bool = True) -> Health:
        """Judge all flows now, those in which nothing moves only where they are due or asked for."""
        held = self._judging.acquire(timeout=MAX_WAIT_S)
        try:
            now = time.time()
            flows = self._judged_now(time.monotonic(), now, idle_too=idle_too)
            process = Process(
                os.getpid(), self._started_at, self.settings.service_name, self._instance, self.settings.environment
            )
            self._latest = Health(process, now, self._interval_s, flows, self.clock.bound())
            return self._latest
        finally:
            if held:
                self._judging.release()

    def _judged_now(self, now_s: float, wall_s: float, *, idle_too: bool) -> tuple[FlowHealth, ...]:
        idle, verdict = self._idle, self._verdict
        every = self._gathering.every(
            lambda key, mark: not idle_too and key in self._flows_judged and idle.is_idle(key, mark, now_s)
        )
        due = [each for each in every if each.evidence is not None]
        judged = verdict.judge([each.evidence for each in due if each.evidence is not None], now_s, wall_s)
        found = {each.key: self._flows_judged[each.key] for each in every if each.evidence is None}
        for each, flow in zip(due, judged, strict=True):
            before = self._flows_judged.get(each.key)
            found[each.key] = before if before is not None and before == flow else flow
            if each.evidence is not None:
                idle.judged(each.key, each.mark, now_s, each.evidence, settled=verdict.is_settled(each.key))
        self._flows_judged = {each.key: found[each.key] for each in every}
        return tuple(self._flows_judged.values())

    def judge_anew(self, minimums: Minimums) -> None:
        """Judge by other minimums from now on, without what was remembered: for tests, which are short."""
        self._verdict = Verdict(self.settings, minimums, self.flows.detectors, self._guard)
        self._idle = Idle()
        self._flows_judged = {}

    def evidence(self) -> list[Evidence]:
        """Gather what is known of each flow now."""
        return self._gathering.evidence()

    def health(self) -> Health:
        """Return the verdict of the last second, or judge now where nobody judges regularly."""
        latest = self._latest
        if latest is None or self._heartbeat is None or time.time() - latest.written_at > 2 * self._interval_s:
            return self.judge()
        return latest

    def rename(self, instance: str) -> None:
        """Say another `service.instance.id` from now on: a forked child is none of its parent."""
        self._instance = instance
        if self._file is not None:
            self._file.instance = instance

    def _begin_anew(self) -> None:
        """Know nothing of the data, in a forked child: what its parent has seen, the parent tells."""
        self._started_at = time.time()
        self._judging = threading.Lock()
        self.flows.begin_anew()
        self.contracts.begin_anew()
        self._verdict.begin_anew()
        self._idle, self._flows_judged = Idle(), {}
        self._latest, self._document = None, Document()

    def _statuses(self) -> Iterator[tuple[Attributes, float]]:
        for flow in self.health().flows:
            light = flow.lights.get(PACE.name)
            if light is None:
                continue
            for word in STATUSES:
                yield {**_attributes_of(flow), **STATUS.label(word).attributes}, float(status(light) == word)

    def _lights(self) -> Iterator[tuple[Attributes, float]]:
        for flow in self.health().flows:
            attributes = _attributes_of(flow)
            for name, light in flow.lights.items():
                yield {**attributes, **HEALTH_LIGHT.label(name).attributes}, RANK[light.state]


def _attributes_of(flow: FlowHealth) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: flow.destination}
    if flow.group is not None:
        attributes[semconv.MESSAGING_CONSUMER_GROUP_NAME] = flow.group
    if flow.cluster is not None:
        attributes[semconv.KAFKA_CLUSTER_ID] = flow.cluster
    return attributes
