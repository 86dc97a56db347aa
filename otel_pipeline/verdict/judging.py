"""Judges what moves, with what is remembered of it. Loaded when there is something to judge (decision 40)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.verdict.delivered import DELIVERED, LEFT
from otel_pipeline.verdict.gathering import Gathering
from otel_pipeline.verdict.idle import Idle
from otel_pipeline.verdict.light import RANK
from otel_pipeline.verdict.sends import ProducerKey
from otel_pipeline.verdict.verdict import FlowHealth, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.contracts.contracts import Contracts
    from otel_pipeline.detectors.flows import Flows
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.verdict.case import Minimums
    from otel_pipeline.verdict.evidence import AnyKey
    from otel_pipeline.verdict.light import Light
    from otel_pipeline.verdict.report import Health


class Judging:
    """The verdict on all flows and producers. Judging is for one thread at a time."""

    def __init__(self, flows: Flows, contracts: Contracts, engine: Engine, minimums: Minimums | None = None) -> None:
        self.gathering = Gathering(flows, contracts, engine)
        self._flows = flows
        self._guard = engine.guard
        self.begin_anew(minimums)

    def begin_anew(self, minimums: Minimums | None = None) -> None:
        """Remember nothing: in a forked child, and for tests, which are short."""
        self._verdict = Verdict(self._flows.settings, minimums, self._flows.detectors, self._guard)
        self._idle = Idle()
        self._judged: dict[AnyKey, FlowHealth] = {}

    def judge(
        self, now_s: float, wall_s: float, *, idle_too: bool, stopping: bool, leaving: bool
    ) -> tuple[tuple[FlowHealth, ...], tuple[FlowHealth, ...]]:
        """Judge all flows, and producers; those in which nothing moves only where they are due or asked for."""
        idle, verdict = self._idle, self._verdict
        every = self.gathering.every(
            lambda key, mark: not idle_too and key in self._judged and idle.is_idle(key, mark, now_s),
            ended=leaving,
        )
        due = [each for each in every if each.evidence is not None]
        evidence = [each.evidence for each in due if each.evidence is not None]
        judged = verdict.judge(evidence, now_s, wall_s, last=stopping)
        found = {each.key: self._judged[each.key] for each in every if each.evidence is None}
        for each, flow in zip(due, judged, strict=True):
            before = self._judged.get(each.key)
            found[each.key] = before if before is not None and before == flow else flow
            if each.evidence is not None:
                idle.judged(each.key, each.mark, now_s, each.evidence, settled=verdict.is_settled(each.key))
        self._judged = {each.key: found[each.key] for each in every}
        flows: list[FlowHealth] = []
        sent: list[FlowHealth] = []
        for key, judgement in self._judged.items():
            (sent if isinstance(key, ProducerKey) else flows).append(judgement)
        return tuple(flows), tuple(sent)


def lights(health: Health) -> Iterator[tuple[FlowHealth, str, float]]:
    """Yield each flow and producer with the name of each light, and its state as a number."""
    for flow in (*health.flows, *health.producers):
        for name, light in flow.lights.items():
            yield flow, name, RANK[light.state]


def left(last: Health) -> Iterator[tuple[str, Light]]:
    """Yield, by destination, what a last verdict says of messages that are perhaps lost."""
    for sent in last.producers:
        light = sent.lights[DELIVERED.name]
        if light.row == LEFT:
            yield sent.destination, light
