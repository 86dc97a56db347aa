"""The verdict: the lights of each flow and of what is sent, judged once a second from what the detectors counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from otel_pipeline.engine.guard import Guard
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import Case, Minimums
from otel_pipeline.verdict.contract import CONTRACT
from otel_pipeline.verdict.history import WINDOWS_S, Event, History
from otel_pipeline.verdict.light import RANK
from otel_pipeline.verdict.lights import OF_FLOWS, OF_PRODUCERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.detectors.measures import Detector
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.verdict.evidence import AnyKey, Evidence
    from otel_pipeline.verdict.light import Light, State

BETTER_AFTER_S = 30.0
WORSE_AFTER = 2


@dataclass(frozen=True, slots=True)
class FlowHealth:
    """One flow: where messages come from, who reads them, and the five lights. Or what is sent to a destination."""

    cluster: str | None
    destination: str
    group: str | None
    """None where no group reads, and of what is sent."""
    state: State
    """The worst of the lights; grey where nothing is worse and one has no evidence."""
    lights: Mapping[str, Light]
    """By name: fresh, order, pace, contract, environment; of what is sent: delivered, and contract where it has one."""


class Verdict:
    """Judges all flows. Used by one thread at a time.

    Args:
        settings: what the configuration says.
        minimums: how many cases a light needs.
        detectors: those whose rules are asked beside the lights' own.
        guard: counts and reports a detector whose rule has raised.
    """

    def __init__(
        self,
        settings: HealthSettings,
        minimums: Minimums | None = None,
        detectors: Iterable[Detector] = (),
        guard: Guard | None = None,
    ) -> None:
        self._settings = settings
        self._minimums = minimums or Minimums()
        self._rules = _Rules(detectors, guard or Guard())
        self._flows: dict[AnyKey, _FlowVerdict] = {}

    def begin_anew(self) -> None:
        """Remember nothing, in a forked child."""
        self._flows.clear()

    def judge(
        self, evidence: Iterable[Evidence], now_s: float, wall_s: float, *, last: bool = False
    ) -> tuple[FlowHealth, ...]:
        """Judge each flow and producer; to be called once a second.

        Args:
            evidence: of all of them.
            now_s: monotonic.
            wall_s: since the epoch.
            last: whether no second look follows, for which what gets worse would have to wait.
        """
        judged = []
        for each in evidence:
            flow = self._flows.get(each.key)
            if flow is None:
                flow = _FlowVerdict(self._settings, self._minimums, self._rules, each)
                self._flows[each.key] = flow
            judged.append(flow.judge(each, now_s, wall_s, last=last))
        return tuple(judged)

    def is_settled(self, key: AnyKey) -> bool:
        """Tell whether no light of a flow that was judged is about to change its colour."""
        return self._flows[key].is_settled


class _Rules:
    """The rows that detectors add to lights."""

    def __init__(self, detectors: Iterable[Detector], guard: Guard) -> None:
        self._rules = [(each.place(guard), rule) for each in detectors for rule in each.rules]

    def judge(self, name: str, light: Light, case: Case) -> Light:
        """Return the light of this name with the first row that holds, unless it is amber or worse already."""
        if RANK[light.state] >= RANK["amber"]:
            return light
        for place, rule in self._rules:
            if rule.light != name or place.off:
                continue
            try:
                row = rule.judge(case.windows)
            except Exception:
                place.failed()
                continue
            if row is not None:
                return replace(
                    light, state=row.state, why=row.why, look=row.look, figures={**light.figures, **row.figures}
                )
        return light


class _FlowVerdict:
    """What has to be remembered about one flow or producer."""

    def __init__(self, settings: HealthSettings, minimums: Minimums, rules: _Rules, first: Evidence) -> None:
        self._tables = OF_PRODUCERS if first.of_producer else OF_FLOWS
        self._settings = settings
        self._minimums = minimums
        self._rules = rules
        self._history = History()
        self._events = {name: (Event(), count) for table in self._tables for name, count in table.events.items()}
        self._held_since_s: dict[str, float] = {}
        self._shown = {table.name: _Shown() for table in self._tables}

    def judge(self, evidence: Evidence, now_s: float, wall_s: float, *, last: bool) -> FlowHealth:
        counts = self._history.counts(evidence.counts)
        self._history.add(now_s, counts)
        for event, count in self._events.values():
            happened = count(counts, evidence)
            if happened is not None:
                event.look(now_s, happened)
        case = Case(
            evidence=evidence,
            total=counts,
            settings=self._settings,
            minimums=self._minimums,
            windows={window_s: self._history.within(now_s, counts, window_s) for window_s in WINDOWS_S},
            held_s=self._held(evidence, now_s),
            events={name: event.state(now_s) for name, (event, _) in self._events.items()},
            wall_s=wall_s,
        )
        shown: dict[str, Light] = {
            table.name: self._shown[table.name].show(
                self._rules.judge(table.name, table.read(case), case), now_s, wall_s, last=last
            )
            for table in self._tables
            if table is not CONTRACT or not evidence.of_producer or evidence.values_checked
        }
        key = evidence.key
        return FlowHealth(key.cluster, key.destination, key.group, _overall(shown), MappingProxyType(shown))

    @property
    def is_settled(self) -> bool:
        """Whether no light is about to change its colour."""
        return all(shown.is_settled for shown in self._shown.values())

    def _held(self, evidence: Evidence, now_s: float) -> dict[str, float]:
        """Measure how long conditions have held without a break, s."""
        conditions = {name: holds(evidence) for table in self._tables for name, holds in table.held.items()}
        held = {}
        for name, holds in conditions.items():
            if holds:
                held[name] = now_s - self._held_since_s.setdefault(name, now_s)
            else:
                self._held_since_s.pop(name, None)
        return held


class _Shown:
    """A light's colour does not flicker: it gets worse after two evaluations, and better after 30 s.

    Its words are always those of now.
    """

    def __init__(self) -> None:
        self._light: Light | None = None
        self._worse = 0
        self._better_since_s: float | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it shows what was judged last."""
        return not self._worse and self._better_since_s is None

    def show(self, judged: Light, now_s: float, wall_s: float, *, last: bool) -> Light:
        shown = self._light
        if last:
            self._worse = WORSE_AFTER - 1
        if shown is None or RANK[judged.state] == RANK[shown.state] or self._is_due(judged, shown, now_s):
            self._worse, self._better_since_s = 0, None
            since_s = shown.since_s if shown is not None and shown.state == judged.state else wall_s
            shown = self._light = judged.since(since_s)
        elif self._better_since_s is not None:
            until = words.clock(wall_s + BETTER_AFTER_S - (now_s - self._better_since_s))
            why = f"{shown.state} until {until}, now: {judged.why}"
            return replace(judged, state=shown.state, since_s=shown.since_s, why=why)
        return shown

    def _is_due(self, judged: Light, shown: Light, now_s: float) -> bool:
        # From and to grey at the second look: what is not known is not shown as known for half a minute.
        if "grey" in (judged.state, shown.state) and shown.state in ("grey", "green"):
            self._worse += 1
            return self._worse >= WORSE_AFTER
        if RANK[judged.state] > RANK[shown.state]:
            self._better_since_s = None
            self._worse += 1
            return self._worse >= WORSE_AFTER
        self._worse = 0
        if self._better_since_s is None:
            self._better_since_s = now_s
        return now_s - self._better_since_s >= BETTER_AFTER_S


def _overall(shown: Mapping[str, Light]) -> State:
    states: set[State] = {light.state for light in shown.values()}
    for state in ("red", "amber", "grey"):
        if state in states:
            return state
    return "green"
