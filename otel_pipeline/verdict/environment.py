"""Environment clean: whether messages began where they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.environments import FOREIGN, UNLABELLED
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import JUDGED, Case, aged, messages, not_placed, readable
from otel_pipeline.verdict.light import Light, State, Table

if TYPE_CHECKING:
    from otel_pipeline.engine.measures import Window

_UNLABELLED = 0.01
_LEAST = 3


def of_policy(counts: Window, policy: str) -> dict[str, int]:
    """Return the messages of other environments that this policy is for, by their origin."""
    return {origin: count for (origin, said), count in counts.of(FOREIGN).items() if count and said == policy}


def _light(case: Case, state: State, why: str, look: str | None = None) -> Light:
    window_s, counts = case.shortest(1, messages)
    judged, seen = readable(counts)
    figures = {
        UNLABELLED.measure.name: float(counts[UNLABELLED]),
        **{
            origin: float(count)
            for policy in ("flag", "reject")
            for origin, count in of_policy(case.total, policy).items()
        },
    }
    return Light(state, why, look, judged=judged, seen=seen, window_s=window_s, figures=figures)


def _rejected(case: Case) -> Light | None:
    event = case.events.get("rejected")
    if event is None:
        return None
    return _light(
        case,
        "red" if event == "red" else "amber",
        f"messages that may not come here: {_origins(case, 'reject')}",
        "which producer writes here",
    )


def _flagged(case: Case) -> Light | None:
    if case.events.get("flagged") is None:
        return None
    found = of_policy(case.total, "flag")
    origin = min(found, default="local")
    destination = case.evidence.key.destination
    return _light(
        case,
        "amber",
        f"messages of other environments: {_origins(case, 'flag')}",
        f"if they may come, destinations: {{{destination}: {{foreign: {{{origin}: allow}}}}}}, else reject",
    )


def _origins(case: Case, policy: str) -> str:
    return ", ".join(f"{count:,} from {origin}" for origin, count in sorted(of_policy(case.total, policy).items()))


def _unlabelled(case: Case) -> Light | None:
    _, counts = case.shortest(1, messages)
    unlabelled, seen = counts[UNLABELLED], readable(counts)[1]
    if unlabelled < _LEAST or unlabelled <= _UNLABELLED * seen:
        return None
    return _light(
        case,
        "amber",
        f"{words.count(unlabelled, 'message')} of {seen:,} name no environment",
        "set deployment.environment.name for their producers",
    )


def _own_is_not_known(case: Case) -> Light | None:
    if case.evidence.environment is not None:
        return None
    why = "not set up: the environment of this process is not known"
    return _light(case, "grey", why, "set deployment.environment.name (OTEL_PIPELINE_ENVIRONMENT)")


def _not_labelled(case: Case) -> Light | None:
    judged, seen = readable(case.shortest(1, messages)[1])
    if not seen:
        return _light(case, "grey", "no message yet")
    if judged >= JUDGED * seen:
        return None
    return _light(
        case,
        "grey",
        f"only {judged:,} of {words.count(seen, 'message')} say where they began",
        "instrument the producers",
    )


def _clean(case: Case) -> Light:
    judged, _ = readable(case.shortest(1, messages)[1])
    allowed = sorted(of_policy(case.total, "allow"))
    also = f", allowed: {', '.join(allowed)}" if allowed else ""
    return _light(case, "green", f"{words.count(judged, 'message')} of {case.evidence.environment}{also}{case.quiet}")


ENVIRONMENT = Table(
    "environment",
    "environment clean",
    {
        "own environment unknown": _own_is_not_known,
        "rejected": _rejected,
        "flagged": _flagged,
        "unlabelled": _unlabelled,
        "read by extract()": not_placed,
        "nothing judged": aged,
        "not labelled": _not_labelled,
        "clean": _clean,
    },
    events={
        "rejected": lambda counts, _evidence: sum(of_policy(counts, "reject").values()),
        "flagged": lambda counts, _evidence: sum(of_policy(counts, "flag").values()),
    },
)
