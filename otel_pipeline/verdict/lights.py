"""The five lights of one flow, each from evidence alone (docs/design/lights.md).

Grey is no evidence, and never green. A red, amber or grey light says why, and what to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from otel_pipeline import duration
from otel_pipeline.contracts.measures import BREAKS, DIFFERENCES, by_kind, checked
from otel_pipeline.detectors.environments import FOREIGN, UNLABELLED, is_allowed
from otel_pipeline.detectors.keys_in_hand import CONCURRENT_KEY
from otel_pipeline.detectors.measures import LightName
from otel_pipeline.detectors.order import (
    BEFORE_BROKER,
    BY_DESTINATION,
    DUPLICATE,
    EXPIRED,
    OFFSET_RESET,
    OPEN,
    REDELIVERED,
    REORDERED,
    SKIPPED,
    UNNUMBERED,
    UNPLACED,
)
from otel_pipeline.detectors.partition import COVERAGE, HEADER_OK, MESSAGES
from otel_pipeline.detectors.shares import wilson_lower
from otel_pipeline.detectors.times import EVENT_TIME_REGRESSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.detectors.objectives import ObjectiveEvidence
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.engine.measures import Label, Window
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.history import Counts

State = Literal["grey", "green", "amber", "red"]
RANK: Mapping[State, int] = {"grey": 0, "green": 1, "amber": 2, "red": 3}
NAMES = get_args(LightName)
CAUGHT_UP_S = 10.0
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
    """The time that the cases are from, s; 0 where the light is not judged by a share of cases."""
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
    total: Counts
    """What was counted since the flow began."""
    settings: HealthSettings
    minimums: Minimums
    windows: Mapping[float, Counts]
    """What was counted within each window, the shortest first."""
    held_s: Mapping[str, float]
    """How long conditions have held, s: utilized, behind_and_stale."""
    events: Mapping[str, str | None]
    """missing, broken, not_allowed: red, amber or None."""

    def shortest(self, minimum: int, of: Callable[[Counts], int]) -> tuple[float, Counts]:
        """Return the shortest window with at least `minimum` cases, else the longest."""
        found = [(window_s, counts) for window_s, counts in self.windows.items() if of(counts) >= minimum]
        return found[0] if found else list(self.windows.items())[-1]


def _messages(counts: Counts) -> int:
    return counts[MESSAGES]


def lost(counts: Window) -> dict[Label, int]:
    """Count the messages that never came although nobody wanted that, by where they were lost."""
    return {label: count for label in _LOST if (count := counts[label])}


def broken(counts: Window) -> dict[str, int]:
    """Count the differences from the contract that break a reader, by their kind."""
    found = by_kind(counts)
    return {kind: found[kind] for kind in BREAKS if kind in found}


def not_allowed(counts: Window) -> dict[str, int]:
    """Count the messages from environments that the configuration does not allow, by their origin."""
    return {origin: count for (origin, policy), count in counts.of(FOREIGN).items() if count and not is_allowed(policy)}


def fresh(case: Case) -> Light:
    """Judge whether objectives are met. The worst of them counts."""
    freshness = case.evidence.freshness
    if not freshness.objectives:
        return _without_objective(case)
    lights = [_objective(case, objective) for objective in freshness.objectives]
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


def _objective(case: Case, objective: ObjectiveEvidence) -> Light:
    minimum = case.minimums.fresh
    window_s, counts = case.shortest(minimum, lambda counts: sum(objective.within(counts)))
    met, missed, unknown = objective.within(counts)
    known = met + missed
    n = known + unknown
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
    if n < minimum:
        return Light("grey", f"only {n} {objective.subject} so far ({target})", None, n, window_s)
    if unknown > n / 2:
        return Light(
            "grey",
            f"the age of {unknown} of {n} {objective.subject} is not known ({target})",
            "clocks, and whether producers are instrumented",
            n,
            window_s,
        )
    budget = 1 - objective.objective
    worst = wilson_lower(missed, known)
    state: State = "green"
    if missed >= 3 and worst > budget:  # noqa: PLR2004 - docs/design/lights.md
        state = "red" if worst > min(14.4 * budget, (1 + budget) / 2) else "amber"
    why = f"{_share(met / known)} of {known} {objective.subject} used data younger than {_time(objective.threshold_s)}"
    figures = {"met": float(met), "missed": float(missed), "unknown": float(unknown)}
    if case.evidence.freshness.age_p99_s is not None:
        figures["p99_s"] = case.evidence.freshness.age_p99_s
    if state == "green":
        return Light(state, why, None, n, window_s, figures)
    look = "the hop with the highest delivery age, then the keeping-pace light"
    return Light(state, f"{why}; {_share(objective.objective)} is the objective", look, n, window_s, figures)


def _without_objective(case: Case) -> Light:
    p99_s, key = case.evidence.freshness.age_p99_s, case.evidence.key
    if p99_s is None:
        return Light(
            "grey", "no objective is set, and no age is known yet", "set one under objectives: (docs/design/lights.md)"
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
    """Judge whether each message came once and in order."""
    missing, waiting = lost(case.total), case.total[OPEN]
    event = case.events.get("missing")
    window_s, counts = case.shortest(case.minimums.order, _messages)
    n, disorder = counts[MESSAGES], counts[REORDERED] + counts[DUPLICATE]
    figures = {
        "missing": float(sum(missing.values())),
        OPEN.measure.name: float(waiting),
        **{str(label): float(counts[label]) for label in (REORDERED, DUPLICATE, REDELIVERED, EVENT_TIME_REGRESSION)},
        "at_risk": float(case.evidence.at_risk),
    }

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, n, window_s, figures)

    if event is not None:
        causes = ", ".join(f"{count} {_LOST[label]}" for label, count in missing.items())
        return light("red" if event == "red" else "amber", f"messages lost: {causes}", _where_lost(case, missing))
    disordered = f"{counts[REORDERED]} {REORDERED}, {counts[DUPLICATE]} {DUPLICATE} of {n} messages"
    if disorder >= 3 and wilson_lower(disorder, n) > _DISORDER:  # noqa: PLR2004 - docs/design/lights.md
        return light("red", disordered, _DISORDERED)
    if counts[UNPLACED]:
        return light("grey", f"{counts[UNPLACED]} of {n} messages were read by extract(): {_UNPLACED}", _PLACED)
    if counts[HEADER_OK] * 2 < sum(counts.of(COVERAGE).values()):
        return light(
            "grey",
            f"only {counts[HEADER_OK]} of {n} messages say which number they have",
            "instrument the producers, or name the original under mirrors: if a relay copies them",
        )
    if waiting:
        return light("amber", f"{waiting} messages have not come yet", "whether they come")
    if disorder:
        return light("amber", disordered, _DISORDERED)
    if counts[EVENT_TIME_REGRESSION]:
        older = f"{counts[EVENT_TIME_REGRESSION]} of {n} messages are older than one before them"
        return light("amber", older, _DISORDERED)
    if counts[CONCURRENT_KEY]:
        return light(
            "amber",
            f"{counts[CONCURRENT_KEY]} messages were processed beside another one with the same key",
            "how messages are handed to threads: one key, one thread",
        )
    if counts[REDELIVERED] >= 3 and counts[REDELIVERED] > 0.01 * n:  # noqa: PLR2004 - docs/design/lights.md
        return light("amber", f"{counts[REDELIVERED]} of {n} messages were delivered again", "rebalances and commits")
    if counts[OFFSET_RESET]:
        return light(
            "amber",
            f"{counts[OFFSET_RESET]} messages were skipped: the position was gone, and auto_offset_reset is latest",
            "retention of the topic, and how long the consumer was down",
        )
    if n < case.minimums.order:
        return light("grey", f"only {n} of {case.minimums.order} messages so far")
    unjudged = counts[BY_DESTINATION] + counts[UNNUMBERED]
    if unjudged > _UNJUDGED * n:
        return light(
            "grey",
            f"{n} messages in order; whether any is missing is not known: {unjudged} have no number of their partition",
            "the producers: what they could not deliver they know themselves",
        )
    return light("green", f"{n} messages in order, none missing")


_UNPLACED = "their place in the log is not known"
_PLACED = "which clients are instrumented (docs/what-is-patched.md)"
_UNJUDGED = 0.1
"""Share of messages whose loss nobody could see, above which the light is not green."""
_DISORDERED = "producers without idempotence, or a relay that repeats (client.hazard)"
_LOST: Mapping[Label, str] = {
    BEFORE_BROKER: "before the broker",
    SKIPPED: "skipped by the consumer",
    EXPIRED: "deleted by retention before they were read",
}


def _where_lost(case: Case, missing: Mapping[Label, int]) -> str:
    if EXPIRED in missing:
        return "retention of the topic, and how long the consumer was down"
    refused = case.evidence.refused_sends
    if refused:
        errors = ", ".join(f"{count} x {error}" for error, count in sorted(refused.items()))
        return f"failed sends of this process: {errors}"
    return "errors of the producers (messaging.client.sent.messages by error.type), and relays between"


def pace(case: Case) -> Light:  # noqa: C901, PLR0911 - as above
    """Judge whether the consumer keeps up."""
    found = case.evidence.pace
    if not found.assigned and case.total[UNPLACED]:
        return Light("grey", f"messages were read by extract(): {_UNPLACED}", _PLACED)
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
    """Judge whether values have the shape that was agreed on."""
    found = case.evidence.contract
    if found.source is None:
        learned = f"{found.learned} of {found.learn_messages} messages learned" if found.learned else "not watched"
        return Light("grey", learned, "otel-pipeline contract record keeps it in a file", found.learned)
    window_s, counts = case.shortest(1, checked)
    n, kinds = checked(counts), by_kind(case.total)
    figures = {"checked": float(n), **{kind: float(count) for kind, count in kinds.items()}, **found.fields}
    where = ", ".join(found.differing_paths[:5])

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, n, window_s, figures)

    event = case.events.get("broken")
    if event is not None:
        listed = ", ".join(f"{count} x {kind}" for kind, count in broken(case.total).items())
        return light("red" if event == "red" else "amber", f"{listed}: {where}", "the producer's last release")
    if n == 0:
        return light("grey", "no value was checked within a day")
    if by_kind(counts).keys() - set(BREAKS):
        listed = ", ".join(kind for kind in DIFFERENCES if kind in kinds and kind not in BREAKS)
        return light("amber", f"{listed}: {where}", "whether consumers are ready (otel-pipeline contract diff)")
    if found.sides_differ:
        return light("amber", "this process sends another shape than it receives", "otel-pipeline contract diff")
    return light("green", f"{n} values checked against the contract ({found.source})")


def environment(case: Case) -> Light:
    """Judge whether messages began in an environment that they may begin in."""
    own = case.evidence.environment
    window_s, counts = case.shortest(1, _messages)
    n, unlabelled, foreign = counts[MESSAGES], counts[UNLABELLED], not_allowed(case.total)
    figures = {
        UNLABELLED.measure.name: float(unlabelled),
        **{origin: float(count) for origin, count in foreign.items()},
    }

    def light(state: State, why: str, look: str | None = None) -> Light:
        return Light(state, why, look, n, window_s, figures)

    if own is None:
        return light("grey", "the environment of this process is not known", "set deployment.environment.name")
    event = case.events.get("not_allowed")
    if event is not None:
        origins = ", ".join(f"{count} from {origin}" for origin, count in foreign.items())
        return light(
            "red" if event == "red" else "amber",
            f"messages of other environments: {origins}",
            "which producer writes here; allow it under destinations: foreign if it may",
        )
    if counts[UNPLACED]:
        return light("grey", f"{counts[UNPLACED]} of {n} messages were read by extract(): {_UNPLACED}", _PLACED)
    if counts[HEADER_OK] * 2 < sum(counts.of(COVERAGE).values()) or not n:
        return light(
            "grey",
            f"only {counts[HEADER_OK]} of {n} messages say where they began",
            "instrument the producers",
        )
    if unlabelled >= 3 and unlabelled > 0.01 * n:  # noqa: PLR2004 - docs/design/lights.md
        return light("amber", f"{unlabelled} messages name no environment", "set deployment.environment.name there")
    visitors = case.total.of(FOREIGN).items()
    allowed = sorted({origin for (origin, policy), count in visitors if count and is_allowed(policy)})
    also = f", allowed: {', '.join(allowed)}" if allowed else ""
    return light("green", f"{n} messages of {own}{also}")


def _share(share: float) -> str:
    """Write a share with four digits at most, and as 100 % only where it is all of them."""
    percent = 100 * share
    text = f"{percent:.3g}" if percent < 99 else f"{percent:.4g}"  # noqa: PLR2004 - nines count
    return f"{text if share == 1 or text != '100' else '99.99'} %"


def _time(time_s: float | None) -> str:
    """Write a duration for people."""
    if time_s is None:
        return "an unknown time"
    if time_s < 1:
        return f"{time_s * 1000:.0f} ms"
    if time_s < 120:  # noqa: PLR2004 - two minutes
        return f"{time_s:.3g} s"
    return f"{time_s / 60:.0f} min" if time_s < 7200 else f"{time_s / 3600:.1f} h"  # noqa: PLR2004 - two hours
