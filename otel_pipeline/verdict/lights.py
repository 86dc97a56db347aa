"""The five lights of one flow, each from evidence alone (docs/design/lights.md).

Grey is no evidence, and never green. A red, amber or grey light says why, and what to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Literal

from otel_pipeline import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.verdict.evidence import Evidence, ObjectiveEvidence
    from otel_pipeline.verdict.history import Counts, Outcomes

State = Literal["grey", "green", "amber", "red"]
RANK: Mapping[State, int] = {"grey": 0, "green": 1, "amber": 2, "red": 3}
NAMES = ("fresh", "order", "pace", "contract", "environment")
BREAKING = ("field_missing", "type_changed", "became_null", "unreadable")
CAUGHT_UP_S = 10.0
_CERTAIN = 1.96
_DISORDER = 1e-4
_NICE_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True, slots=True)
class Light:
    """One light, as it is now."""

    state: State
    why: str
    look: str | None = None
    """What to look at, or to do."""
    n: int = 0
    """Cases that it was judged from."""
    window_s: float = 0.0
    """The time that they are from, s; 0 where it is not a share of cases."""
    figures: Mapping[str, float] = field(default_factory=dict)
    since_s: float = 0.0
    """When it took this state, s since the epoch."""


@dataclass(frozen=True, slots=True)
class Minimums:
    """How many cases a light needs."""

    fresh: int = 30
    order: int = 100


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a light is judged from."""

    evidence: Evidence
    settings: HealthSettings
    minimums: Minimums
    windows: Mapping[float, Counts]
    """What was counted within each window, the shortest first."""
    held_s: Mapping[str, float]
    """How long conditions have held, s: utilized, behind_and_stale."""
    events: Mapping[str, str | None]
    """missing, broken, not_allowed: red, amber or None."""

    def shortest(self, minimum: int, of: str) -> tuple[float, Counts]:
        """The shortest window with so many cases, else the longest."""
        found = [(window_s, counts) for window_s, counts in self.windows.items() if getattr(counts, of) >= minimum]
        return found[0] if found else list(self.windows.items())[-1]


def wilson_lower(bad: int, n: int) -> float:
    """The lower 95 % bound of the share of bad cases (E. B. Wilson, 1927)."""
    if n == 0:
        return 0.0
    share, z2 = bad / n, _CERTAIN**2
    middle = share + z2 / (2 * n)
    spread = _CERTAIN * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z2 / n))


def fresh(case: Case) -> Light:
    """Whether objectives are met. The worst of them counts."""
    freshness = case.evidence.freshness
    if not freshness.objectives:
        return _without_objective(case)
    lights = [_objective(case, at, objective) for at, objective in enumerate(freshness.objectives)]
    worst = max(lights, key=lambda light: RANK[light.state])
    quiet_s, expected_s = freshness.quiet_s, freshness.expect_every_s
    if expected_s is not None and quiet_s is not None and quiet_s > expected_s and worst.state != "red":
        return Light(
            "amber",
            f"no message for {_time(quiet_s)}, one is expected every {duration.written(expected_s)}",
            "whether its producers run",
            figures={"quiet_s": quiet_s},
        )
    return worst


def _objective(case: Case, at: int, objective: ObjectiveEvidence) -> Light:
    window_s, cases = _cases(case, at)
    known = cases.met + cases.missed
    n = known + cases.unknown
    target = f"{objective.name}: {_share(objective.objective)} under {_time(objective.threshold_s)}"
    staleness_s, lag = case.evidence.freshness.staleness_s, case.evidence.pace.lag
    if case.held_s.get("behind_and_stale", 0.0) >= CAUGHT_UP_S and staleness_s is not None:
        return Light(
            "red",
            f"the newest data processed is {_time(staleness_s)} old, and {lag} messages wait ({target})",
            "whether the consumer is stuck",
            n,
            window_s,
            {"staleness_s": staleness_s, "lag": float(lag or 0)},
        )
    if n == 0:
        return Light("grey", f"no {objective.subject} within a day ({target})", "whether anything is sent")
    if n < case.minimums.fresh:
        return Light("grey", f"only {n} {objective.subject} so far ({target})", None, n, window_s)
    if cases.unknown > n / 2:
        return Light(
            "grey",
            f"the age of {cases.unknown} of {n} {objective.subject} is not known ({target})",
            "clocks, and whether producers are instrumented",
            n,
            window_s,
        )
    budget = 1 - objective.objective
    worst, bad = wilson_lower(cases.missed, known), cases.missed
    state: State = "green"
    if bad >= 3 and worst > budget:  # noqa: PLR2004 - docs/design/lights.md
        state = "red" if worst > min(14.4 * budget, (1 + budget) / 2) else "amber"
    met = cases.met / known
    why = f"{_share(met)} of {known} {objective.subject} used data younger than {_time(objective.threshold_s)}"
    figures = {"met": float(cases.met), "missed": float(bad), "unknown": float(cases.unknown)}
    if case.evidence.freshness.age_p99_s is not None:
        figures["p99_s"] = case.evidence.freshness.age_p99_s
    if state == "green":
        return Light(state, why, None, n, window_s, figures)
    look = "the hop with the highest delivery age, then the keeping-pace light"
    return Light(state, f"{why}; {_share(objective.objective)} is the objective", look, n, window_s, figures)


def _cases(case: Case, at: int) -> tuple[float, Outcomes]:
    windows = [(window_s, counts.objectives[at]) for window_s, counts in case.windows.items()]
    return next((each for each in windows if sum(each[1]) >= case.minimums.fresh), windows[-1])


def _without_objective(case: Case) -> Light:
    p99_s, key = case.evidence.freshness.age_p99_s, case.evidence.key
    if p99_s is None:
        return Light(
            "grey", "no objective is set, and no age is known yet", "set one under objectives: (docs/health.md)"
        )
    threshold_s = next((nice for nice in _NICE_S if nice >= 1.5 * p99_s), 2 * p99_s)
    name = "".join(sign if sign.isalnum() else "_" for sign in key.destination) + "_fresh"
    group = f", group: {key.group}" if key.group else ""
    paste = (
        f"objectives: {{{name}: {{destination: {key.destination}{group}, "
        f"threshold: {duration.written(threshold_s)}, objective: 0.99}}}}"
    )
    why = f"no objective is set; 99 % are younger than {_time(p99_s)}"
    return Light("grey", why, f"to judge it, add {paste}", figures={"p99_s": p99_s})


def order(case: Case) -> Light:  # noqa: C901, PLR0911 - the table's rows from the worst on, read in one place
    """Whether each message came once and in order."""
    evidence = case.evidence.order
    if evidence.share_group:
        return Light("grey", "a share group promises no order")
    missing = {cause: count for cause, count in evidence.missing.items() if count and cause != "offset_reset"}
    event = case.events.get("missing")
    window_s, counts = case.shortest(case.minimums.order, "messages")
    n, disorder = counts.messages, counts.reordered + counts.duplicate
    figures = {
        "missing": float(sum(missing.values())),
        "open": float(evidence.open_gaps),
        "reordered": float(counts.reordered),
        "duplicate": float(counts.duplicate),
        "redelivered": float(counts.redelivered),
        "event_time_regression": float(counts.regressed),
        "at_risk": float(evidence.at_risk),
    }

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, n, window_s, figures)

    if event is not None:
        causes = ", ".join(f"{count} {_CAUSES[cause]}" for cause, count in missing.items())
        return light("red" if event == "red" else "amber", f"messages lost: {causes}", _where_lost(case, missing))
    disordered = f"{counts.reordered} reordered, {counts.duplicate} duplicate of {n} messages"
    if disorder >= 3 and wilson_lower(disorder, n) > _DISORDER:  # noqa: PLR2004 - docs/design/lights.md
        return light("red", disordered, _DISORDERED)
    if counts.headers_ok * 2 < counts.headers_ok + counts.headers_other:
        return light(
            "grey",
            f"only {counts.headers_ok} of {n} messages say which number they have",
            "instrument the producers, or name the original under mirrors: if a relay copies them",
        )
    if evidence.open_gaps:
        return light("amber", f"{evidence.open_gaps} messages have not come yet", "whether they come")
    if disorder:
        return light("amber", disordered, _DISORDERED)
    if counts.regressed:
        return light("amber", f"{counts.regressed} of {n} messages are older than one before them", _DISORDERED)
    if counts.concurrent_key:
        return light(
            "amber",
            f"{counts.concurrent_key} messages were processed beside another one with the same key",
            "how messages are handed to threads: one key, one thread",
        )
    if counts.redelivered >= 3 and counts.redelivered > 0.01 * n:  # noqa: PLR2004 - docs/design/lights.md
        return light("amber", f"{counts.redelivered} of {n} messages were delivered again", "rebalances and commits")
    if counts.offset_reset:
        return light(
            "amber",
            f"{counts.offset_reset} messages were skipped: the position was gone, and auto_offset_reset is latest",
            "retention of the topic, and how long the consumer was down",
        )
    if n < case.minimums.order:
        return light("grey", f"only {n} of {case.minimums.order} messages so far")
    return light("green", f"{n} messages in order, none missing")


_DISORDERED = "producers without idempotence, or a relay that repeats (client.hazard)"
_CAUSES = {
    "before_broker": "before the broker",
    "skipped": "skipped by the consumer",
    "expired": "deleted by retention before they were read",
    "offset_reset": "skipped by a reset of the offset",
    "unknown": "somewhere",
}


def _where_lost(case: Case, missing: Mapping[str, int]) -> str:
    if "expired" in missing:
        return "retention of the topic, and how long the consumer was down"
    refused = case.evidence.order.refused_sends
    if refused:
        errors = ", ".join(f"{count} x {error}" for error, count in sorted(refused.items()))
        return f"failed sends of this process: {errors}"
    return "errors of the producers (messaging.client.sent.messages by error.type), and relays between"


def pace(case: Case) -> Light:  # noqa: C901, PLR0911 - as above
    """Whether the consumer keeps up."""
    found = case.evidence.pace
    if not found.assigned:
        return Light("grey", "no partition is assigned to this process", "the group's other members")
    if found.lag is None or found.caught_up_age_s is None:
        return Light("grey", "no fetch has been answered yet", "whether the application polls")
    patience_s = max(case.settings.stuck_after_s, 3 * (found.processing_median_s or 0.0))
    figures = {"lag": float(found.lag), "caught_up_age_s": found.caught_up_age_s}
    if found.utilization is not None:
        figures["utilization"] = found.utilization
    if found.drain_time_s is not None:
        figures["drain_time_s"] = found.drain_time_s

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, figures=figures)

    if (found.unpolled_s or 0.0) > patience_s:
        return light("red", f"the application has not asked for a message for {_time(found.unpolled_s)}", _HANDLER)
    if (found.position_still_s or 0.0) > patience_s:
        still = f"{found.lag} messages wait, and the position has not moved for {_time(found.position_still_s)}"
        return light("red", still, _HANDLER)
    if (found.position_still_s or 0.0) > patience_s / 2:
        return light(
            "amber", f"{found.lag} messages wait, and the position has not moved for {_time(found.position_still_s)}"
        )
    if case.held_s.get("utilized", 0.0) >= 30:  # noqa: PLR2004 - docs/design/lights.md
        return light(
            "amber", f"works {_share(found.utilization or 0.0)} of the time", "add consumers before there is a backlog"
        )
    if found.growing:
        return light("amber", f"{found.lag} messages behind, and growing", "add consumers, or make handling faster")
    if found.rewound:
        return light("amber", "the position was set back", "whether somebody meant to read again")
    thresholds = [objective.threshold_s for objective in case.evidence.freshness.objectives]
    if found.caught_up_age_s >= max([*thresholds, CAUGHT_UP_S]):
        drain = "not draining" if found.drain_time_s is None else f"drained in {_time(found.drain_time_s)}"
        return light("amber", f"{found.lag} messages behind, {drain}", "how fast it works, and how much comes in")
    return light("green", f"{found.lag} messages behind, caught up {_time(found.caught_up_age_s)} ago")


_HANDLER = "what the handler waits for: a thread dump of the process says it"


def contract(case: Case) -> Light:
    """Whether values have the shape that was agreed on."""
    found = case.evidence.contract
    if found.source is None:
        learned = f"{found.learned} of {found.learn_messages} messages learned" if found.learned else "not watched"
        return Light("grey", learned, "otel-pipeline contract record keeps it in a file", found.learned)
    window_s, counts = case.shortest(1, "checked")
    figures = {
        "checked": float(counts.checked),
        **{kind: float(n) for kind, n in found.violations.items() if n},
        **found.fields,
    }
    where = ", ".join(found.differing_paths[:5])

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, counts.checked, window_s, figures)

    event = case.events.get("broken")
    if event is not None:
        broken = {kind: found.violations[kind] for kind in BREAKING if found.violations.get(kind)}
        kinds = ", ".join(f"{count} x {kind}" for kind, count in broken.items())
        return light("red" if event == "red" else "amber", f"{kinds}: {where}", "the producer's last release")
    if counts.checked == 0:
        return light("grey", "no value was checked within a day")
    if counts.changed:
        kinds = ", ".join(kind for kind in ("field_added", "int_to_float") if found.violations.get(kind))
        return light("amber", f"{kinds}: {where}", "whether consumers are ready (otel-pipeline contract diff)")
    if found.sides_differ:
        return light("amber", "this process sends another shape than it receives", "otel-pipeline contract diff")
    return light("green", f"{counts.checked} values checked against the contract ({found.source})")


def environment(case: Case) -> Light:
    """Whether messages began where they may."""
    found = case.evidence.environments
    window_s, counts = case.shortest(1, "messages")
    labelled = counts.headers_ok + counts.headers_other
    foreign = {
        origin: count for (origin, policy), count in found.foreign.items() if count and policy in {"flag", "reject"}
    }
    figures = {"unlabelled": float(counts.unlabelled), **{origin: float(count) for origin, count in foreign.items()}}

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, counts.messages, window_s, figures)

    if found.own is None:
        return light("grey", "the environment of this process is not known", "set deployment.environment.name")
    event = case.events.get("not_allowed")
    if event is not None:
        origins = ", ".join(f"{count} from {origin}" for origin, count in foreign.items())
        return light(
            "red" if event == "red" else "amber",
            f"messages of other environments: {origins}",
            "which producer writes here; allow it under destinations: foreign if it may",
        )
    if counts.headers_ok * 2 < labelled or not counts.messages:
        return light(
            "grey",
            f"only {counts.headers_ok} of {counts.messages} messages say where they began",
            "instrument the producers",
        )
    if counts.unlabelled >= 3 and counts.unlabelled > 0.01 * counts.messages:  # noqa: PLR2004 - docs/design/lights.md
        return light(
            "amber", f"{counts.unlabelled} messages name no environment", "set deployment.environment.name there"
        )
    allowed = sorted({origin for (origin, policy), count in found.foreign.items() if count and policy == "allow"})
    also = f", allowed: {', '.join(allowed)}" if allowed else ""
    return light("green", f"{counts.messages} messages of {found.own}{also}")


def _share(share: float) -> str:
    """Four digits at most, and 100 % only where it is all of them."""
    percent = 100 * share
    text = f"{percent:.3g}" if percent < 99 else f"{percent:.4g}"  # noqa: PLR2004 - nines count
    return f"{text if share == 1 or text != '100' else '99.99'} %"


def _time(time_s: float | None) -> str:
    """A duration for people."""
    if time_s is None:
        return "an unknown time"
    if time_s < 1:
        return f"{time_s * 1000:.0f} ms"
    if time_s < 120:  # noqa: PLR2004 - two minutes
        return f"{time_s:.3g} s"
    return f"{time_s / 60:.0f} min" if time_s < 7200 else f"{time_s / 3600:.1f} h"  # noqa: PLR2004 - two hours
