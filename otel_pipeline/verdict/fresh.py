"""Fresh: whether freshness objectives are met. The worst of a flow's objectives is its light."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline import duration
from otel_pipeline.detectors.freshness import DOUBTED_ORIGINS
from otel_pipeline.detectors.shares import wilson_lower
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import JUDGED, Case, aged
from otel_pipeline.verdict.light import RANK, Light, State, Table

if TYPE_CHECKING:
    from otel_pipeline.detectors.objectives import ObjectiveEvidence
    from otel_pipeline.verdict.evidence import Evidence

WAITS_S = 10.0
_LEAST = 3
_FAST_BURN = 14.4
_NICE_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)


class ObjectiveCase(NamedTuple):
    """One objective of a flow."""

    case: Case
    objective: ObjectiveEvidence
    window_s: float
    met: int
    missed: int
    unknown: int

    @property
    def n(self) -> int:
        """All cases of the window."""
        return self.met + self.missed + self.unknown

    @property
    def mostly_known(self) -> bool:
        """Whether the age of enough of them is known to judge all."""
        return self.met + self.missed >= JUDGED * self.n

    @property
    def target(self) -> str:
        """The objective, for people."""
        objective = self.objective
        return f"{objective.name}: {words.share(objective.objective)} under {words.span(objective.threshold_s)}"

    def light(self, state: State, why: str, look: str | None = None, **more: float) -> Light:
        """Return a light with this objective's figures."""
        figures = {"met": float(self.met), "missed": float(self.missed), "unknown": float(self.unknown), **more}
        if self.case.evidence.freshness.age_p99_s is not None:
            figures["p99_s"] = self.case.evidence.freshness.age_p99_s
        return Light(
            state, why, look, judged=self.met + self.missed, seen=self.n, window_s=self.window_s, figures=figures
        )


def _of(case: Case, objective: ObjectiveEvidence) -> ObjectiveCase:
    window_s, counts = case.shortest(case.minimums.fresh, lambda counts: sum(objective.within(counts)))
    return ObjectiveCase(case, objective, window_s, *objective.within(counts))


def _waiting_too_long(of: ObjectiveCase) -> Light | None:
    oldest_s, threshold_s = _oldest_s(of.case.evidence), of.objective.threshold_s
    replaying = of.case.evidence.freshness.replaying
    if of.case.held_s.get("waiting too long", 0.0) < WAITS_S or oldest_s <= threshold_s or replaying:
        return None
    lag = of.case.evidence.pace.lag
    why = f"a message waits that is {words.span(oldest_s)} old at least, {lag or 0:,} behind it ({of.target})"
    return of.light("red", why, "the keeping-pace light: why it is not handled", oldest_s=oldest_s)


def _oldest_s(evidence: Evidence) -> float:
    """Return how old the oldest message is that waits or is in hand, as far as that is proven."""
    return max((each.oldest_s for each in evidence.pace.consumers), default=0.0)


def _missed(of: ObjectiveCase) -> Light | None:
    known, budget = of.met + of.missed, 1 - of.objective.objective
    worst = wilson_lower(of.missed, known)
    if of.n < of.case.minimums.fresh or of.missed < _LEAST or worst <= budget:
        return None
    look = "the hop with the highest delivery age, then the keeping-pace light"
    why = f"{_kept(of)}; {words.share(of.objective.objective)} is the objective"
    return of.light("red" if worst > min(_FAST_BURN * budget, (1 + budget) / 2) else "amber", why, look)


def _kept(of: ObjectiveCase) -> str:
    known, objective = of.met + of.missed, of.objective
    threshold = words.span(objective.threshold_s)
    return f"{words.share(of.met / known)} of {known:,} {objective.subject} used data younger than {threshold}"


def _before_the_broker(of: ObjectiveCase) -> Light | None:
    delay = of.case.evidence.freshness.delay
    if delay is None or of.mostly_known:
        return None
    late = words.span(delay.seconds)
    why = (
        f"data of producer {delay.sender} is {late} old when the broker has it: its clock is behind, or it holds "
        f"messages back ({of.target})"
    )
    return of.light("amber", why, "send durations of its process, and its buffer, linger and retries")


def _replaying(of: ObjectiveCase) -> Light | None:
    left = of.case.evidence.freshness.replaying
    if not left:
        return None
    why = f"{words.count(left, 'message')} of before are read first: their ages do not count ({of.target})"
    return of.light("amber", why, "whether somebody meant to read again")


def _clock_here(of: ObjectiveCase) -> Light | None:
    step_s, right_s = of.case.evidence.freshness.clock_step_s, of.case.evidence.freshness.clock_right_s
    if step_s is None:
        if right_s > of.window_s or of.mostly_known:
            return None
        until = words.clock(of.case.wall_s - right_s)
        why = f"this machine's clock was wrong until {until}: the age of {of.unknown:,} of {of.n:,} is not known"
        return of.light("grey", why)
    way = "forward" if step_s > 0 else "back"
    why = f"this machine's clock was set {way} by {words.span(abs(step_s))}: ages are unknown until it is right"
    return of.light("grey", why, "what sets the clock of this machine")


def _aged(of: ObjectiveCase) -> Light | None:
    return aged(of.case)


def _too_few(of: ObjectiveCase) -> Light | None:
    if of.n == 0 and of.objective.replayed:
        read = f"{of.objective.replayed:,} {of.objective.subject} of before were read, and none of now"
        return of.light("grey", f"{read}: their ages do not count ({of.target})")
    if of.n == 0:
        return of.light("grey", f"no {of.objective.subject} within a day ({of.target})", "whether anything is sent")
    if of.n >= of.case.minimums.fresh:
        return None
    return of.light(
        "grey", f"too few yet: {of.n} of {of.case.minimums.fresh} {of.objective.subject} in 24 h ({of.target})"
    )


def _catching_up(of: ObjectiveCase) -> Light | None:
    gaining = any(each.gaining and each.behind for each in of.case.evidence.pace.consumers)
    if not gaining or not of.missed:
        return None
    lag = of.case.evidence.pace.lag
    return of.light("amber", f"{_kept(of)}; catching up, {lag or 0:,} to go", "nothing, if it goes on like this")


def _at_least(of: ObjectiveCase) -> Light | None:
    if of.mostly_known:
        return None
    why = f"the age of {of.unknown:,} of {of.n:,} {of.objective.subject} is not known"
    doubted = of.case.windows[of.window_s][DOUBTED_ORIGINS]
    if doubted:
        why += f": a service before has found the clock wrong by which {words.count(doubted, 'message')} began"
        look = "the clocks of the services that a trace of one of them begins with"
    else:
        destination = of.case.evidence.key.destination
        look = f"clocks; or, if data begins there, destinations: {{{destination}: {{origin: message}}}}"
    return of.light("grey", f"{why} ({of.target})", look)


def _met(of: ObjectiveCase) -> Light:
    return of.light("green", _kept(of) + of.case.quiet)


OBJECTIVE = Table(
    "fresh",
    "fresh",
    {
        "waiting too long": _waiting_too_long,
        "missed": _missed,
        "before the broker": _before_the_broker,
        "replaying": _replaying,
        "clock here": _clock_here,
        "nothing judged": _aged,
        "too few": _too_few,
        "catching up": _catching_up,
        "at least": _at_least,
        "met": _met,
    },
)


def _not_set_up(case: Case) -> Light | None:
    if case.evidence.freshness.objectives:
        return None
    p99_s, key = case.evidence.freshness.age_p99_s, case.evidence.key
    if p99_s is None:
        return Light(
            "grey",
            "not set up: no objective, and no age is known yet",
            "set one under objectives: (docs/measuring-health.md)",
        )
    threshold_s = next((nice for nice in _NICE_S if nice >= 1.5 * p99_s), 2 * p99_s)
    name = "".join(sign if sign.isalnum() else "_" for sign in key.destination) + "_fresh"
    group = f", group: {key.group}" if key.group else ""
    paste = (
        f"objectives: {{{name}: {{destination: {key.destination}{group}, "
        f"threshold: {duration.written(threshold_s)}, objective: 0.99}}}}"
    )
    why = f"not set up: no objective; 99 % are younger than {words.span(p99_s)}"
    return Light("grey", why, f"to judge it, add {paste}", figures={"p99_s": p99_s})


def _waits(evidence: Evidence) -> bool:
    threshold_s = min((each.threshold_s for each in evidence.freshness.objectives), default=None)
    return threshold_s is not None and _oldest_s(evidence) > threshold_s


def _worst(case: Case) -> Light:
    return max((OBJECTIVE.read(_of(case, each)) for each in case.evidence.freshness.objectives), key=_rank)


def _rank(light: Light) -> int:
    return RANK[light.state]


def _silent(case: Case) -> Light | None:
    quiet_s, expected_s = case.evidence.freshness.quiet_s, case.evidence.freshness.expect_every_s
    if expected_s is None or quiet_s is None or quiet_s <= expected_s or _worst(case).state == "red":
        return None
    why = f"no message for {words.span(quiet_s)}, one is expected every {duration.written(expected_s)}"
    return Light("amber", why, "whether its producers run", figures={"quiet_s": quiet_s})


FRESH = Table(
    "fresh",
    "fresh",
    {"not set up": _not_set_up, "silent": _silent, "objectives": _worst},
    held={"waiting too long": _waits},
)
