"""The health of the data of one pipeline: detectors on its engine, the verdict once a second, and the state file."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, get_args

from otel_pipeline import semconv
from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.detectors import clock, inputs
from otel_pipeline.detectors.clock_bound import ClockBound
from otel_pipeline.detectors.decisions import Decisions
from otel_pipeline.detectors.flows import Flows
from otel_pipeline.detectors.measures import LightName
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.late_loading import loading
from otel_pipeline.engine.measures import FLOW, Attribute, Measure
from otel_pipeline.verdict import require_fresh
from otel_pipeline.verdict.consumer_status import PACE, STATUSES, status
from otel_pipeline.verdict.document import Document
from otel_pipeline.verdict.heartbeat import Heartbeat
from otel_pipeline.verdict.report import Health, Process
from otel_pipeline.verdict.settings import VerdictSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Totals
    from otel_pipeline.verdict.case import Minimums
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.judging import Judging
    from otel_pipeline.verdict.state_file import StateFile
    from otel_pipeline.verdict.verdict import FlowHealth

_IMPORTED_AT = time.time()
MAX_WAIT_S = 0.5
HEALTH_LIGHT = Measure(
    "otel_pipeline.health.light",
    "gauge",
    "{state}",
    "The verdict of a process on one flow: 0 no evidence, 1 green, 2 amber, 3 red.",
    (*FLOW, semconv.KAFKA_CLUSTER_ID, Attribute("otel_pipeline.light", "Which light of a flow.", get_args(LightName))),
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
        self._place = engine.guard.place("health")
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
        self._has_sent = False
        engine.check_sent = self._check_sent
        decisions = Decisions(totals, self.flows.objectives, engine.metric_destination, self.flows.clock)
        inferences.decisions = decisions.of
        self._inferences = inferences
        inputs.activate(inputs.Inputs(totals, engine.guard))
        require_fresh.activate(self.flows.objectives.counter, engine.guard)
        self.clock = ClockBound()
        """The bound of this machine's clock; it has to be told of the Collector's answers."""
        clock.define(totals, self.clock)
        self._engine = engine
        self._judging: Judging | None = None
        self._is_judging = threading.Lock()
        self._latest: Health | None = None
        self._document = Document()
        self._heartbeat: Heartbeat | None = None
        self._file: StateFile | None = None
        self._stay: Callable[[], None] | None = None
        forks.add(self._begin_anew, Step.ZERO)
        # Last: metrics may be collected at any time.
        HEALTH_LIGHT.gauge(totals, self._lights)
        STATUS.gauge(totals, self._statuses)

    def begin(self, file: StateFile | None, when_leaving: Callable[[Callable[[], object]], Callable[[], None]]) -> None:
        """Judge once every `interval_s` from now on, and keep the result in the file.

        Args:
            file: None keeps it in memory alone.
            when_leaving: given (owner, function), has the function called when the program ends; returns its undoing.
        """
        self._file = file
        # From now on: the first message may come before the first beat.
        self.flows.looked_at = True
        self._heartbeat = Heartbeat(self.beat, self._interval_s, self._place)
        if file is not None:
            self._stay = when_leaving(self._leave)

    def stop(self) -> None:
        """Stop judging, in a process that goes on. The state file stays with the last verdict, where there is one."""
        self._stop(leaving=False)

    def _leave(self) -> None:
        self._stop(leaving=True)

    def _stop(self, *, leaving: bool) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
        text: str | None = None
        try:
            if self._file is not None and not self._place.off:
                last = self.judge(stopping=True, leaving=leaving)
                self._say_what_is_left(last)
                text = Document().text(last) if last.flows or last.producers else None
        except Exception:
            self._place.failed()
        if self._file is not None:
            self._file.close(text)  # In any case: what is left open tells of a process that does not answer.
        if self._stay is not None:
            self._stay()

    def _say_what_is_left(self, last: Health) -> None:
        """Tell whoever reads the log of messages that are perhaps lost: nobody else will."""
        if last.producers:
            from otel_pipeline.verdict.judging import left

            for destination, light in left(last):
                self._guard.problem(f"left.{destination}", f"{destination}: {light.why}; {light.look}")

    def beat(self) -> None:
        """Look at everything once."""
        if self._inferences.pending is not None:
            self._inferences.pending()
        self.flows.look()
        health = self.judge(idle_too=False)
        if self._file is not None and (self._document.is_due(health) or not self._file.is_there()):
            self._file.write(self._document.text(health))
        if self.looked is not None:
            self.looked(self._totals.series_count)

    def judge(self, *, idle_too: bool = True, stopping: bool = False, leaving: bool = False) -> Health:
        """Judge all flows and producers now, those in which nothing moves only where they are due or asked for.

        Args:
            idle_too: whether they are asked for.
            stopping: whether this is the last verdict.
            leaving: whether the process is at its end.
        """
        held = self._is_judging.acquire(timeout=MAX_WAIT_S)
        try:
            now = time.time()
            # What was judged here: where the wait was over, another thread may be judging at the same time.
            flows: tuple[FlowHealth, ...] = ()
            sent: tuple[FlowHealth, ...] = ()
            if self._judging is not None or self._has_sent or self.flows.every():
                flows, sent = self.load().judge(
                    time.monotonic(), now, idle_too=idle_too, stopping=stopping, leaving=leaving
                )
            process = Process(
                os.getpid(), self._started_at, self.settings.service_name, self._instance, self.settings.environment
            )
            latest = self._latest = Health(
                process,
                now,
                self._interval_s,
                flows,
                sent,
                self.clock.bound(),
                ended_at=now if stopping else None,
            )
            return latest
        finally:
            if held:
                self._is_judging.release()

    def load(self) -> Judging:
        """Load what judges, unless that is done: a program that has sent and received nothing needs none of it."""
        if self._judging is None:
            with loading():
                from otel_pipeline.verdict.judging import Judging

            self._judging = Judging(self.flows, self.contracts, self._engine)
        return self._judging

    def _check_sent(self, destination: str) -> Callable[[Any, int, Any], None] | None:
        """Begin with a destination, and note that there is one."""
        self._has_sent = True
        return self.contracts.check_sent(destination)

    def judge_anew(self, minimums: Minimums) -> None:
        """Judge by other minimums from now on, without what was remembered: for tests, which are short."""
        self.load().begin_anew(minimums)

    def evidence(self) -> list[Evidence]:
        """Gather what is known of each flow now."""
        return [each for each in self.load().gathering.evidence() if not each.of_producer]

    def sends(self) -> list[Evidence]:
        """Gather what is known now of what this process sends, by destination."""
        return [each for each in self.load().gathering.evidence() if each.of_producer]

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
        self._is_judging = threading.Lock()
        self.flows.begin_anew()
        self.contracts.begin_anew()
        if self._judging is not None:
            self._judging.begin_anew()
        self._latest, self._document = None, Document()

    def _statuses(self) -> Iterator[tuple[Attributes, float]]:
        for flow in self.health().flows:
            light = flow.lights.get(PACE)
            if light is None:
                continue
            for word in STATUSES:
                yield {**_attributes_of(flow), **STATUS.label(word).attributes}, float(status(light) == word)

    def _lights(self) -> Iterator[tuple[Attributes, float]]:
        health = self.health()
        if health.flows or health.producers:
            from otel_pipeline.verdict.judging import lights  # It is there.

            for flow, name, rank in lights(health):
                yield {**_attributes_of(flow), **HEALTH_LIGHT.label(name).attributes}, rank


def _attributes_of(flow: FlowHealth) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: flow.destination}
    if flow.group is not None:
        attributes[semconv.MESSAGING_CONSUMER_GROUP_NAME] = flow.group
    if flow.cluster is not None:
        attributes[semconv.KAFKA_CLUSTER_ID] = flow.cluster
    return attributes
