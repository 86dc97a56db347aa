"""Contract kept: whether values have the shape that was agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.contracts.measures import BREAKS, DIFFERENCES, FILE, by_kind, checked
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import Case, aged
from otel_pipeline.verdict.light import Light, State, Table

if TYPE_CHECKING:
    from otel_pipeline.engine.measures import Window
    from otel_pipeline.verdict.evidence import Evidence


def broken(counts: Window) -> dict[str, int]:
    """Return the differences from the contract that a reader stumbles over, by their kind."""
    found = by_kind(counts)
    return {kind: found[kind] for kind in BREAKS if kind in found}


def _light(case: Case, state: State, why: str, look: str | None = None) -> Light:
    window_s, counts = case.shortest(1, checked)
    judged, kinds = checked(counts), by_kind(case.total)
    figures = {
        "checked": float(judged),
        **{kind: float(count) for kind, count in kinds.items()},
        **case.evidence.contract.fields,
    }
    return Light(state, why, look, judged=judged, seen=judged, window_s=window_s, figures=figures)


def _breaks(counts: Window, evidence: Evidence) -> int | None:
    """Count what broke a contract that a person keeps; one that was learned may be wrong."""
    return sum(broken(counts).values()) if evidence.contract.source == FILE else None


def _where(case: Case) -> str:
    return ", ".join(case.evidence.contract.differing_paths[:5])


def _not_known(case: Case) -> Light | None:
    found = case.evidence.contract
    if found.source is not None:
        return None
    if found.unlearnable > found.learned:
        seen = found.unlearnable + found.learned
        why = f"{found.unlearnable:,} of {seen:,} values that were looked at are no JSON"
        return _light(case, "grey", why, "a deserializer that gives objects, or the schema registry")
    why = f"{found.learned:,} of {found.learn_messages:,} messages learned" if found.learned else "not watched"
    return _light(case, "grey", why, "otel-pipeline contract record keeps it in a file")


def _broken(case: Case) -> Light | None:
    event = case.events.get("broken")
    if case.evidence.contract.source != FILE:
        newest = case.windows[min(case.windows)]
        event = "amber" if broken(newest) else None
    if event is None:
        return None
    listed = ", ".join(f"{count:,} x {kind}" for kind, count in broken(case.total).items())
    state: State = "red" if event == "red" else "amber"
    return _light(case, state, f"{listed}: {_where(case)}", "the producer's last release")


def _differs(case: Case) -> Light | None:
    counts = case.shortest(1, checked)[1]
    kinds = by_kind(case.total)
    if not checked(counts) or not by_kind(counts).keys() - set(BREAKS):
        return None
    listed = ", ".join(kind for kind in DIFFERENCES if kind in kinds and kind not in BREAKS)
    return _light(
        case, "amber", f"{listed}: {_where(case)}", "whether consumers are ready (otel-pipeline contract diff)"
    )


def _sides_differ(case: Case) -> Light | None:
    if not case.evidence.contract.sides_differ:
        return None
    return _light(case, "amber", "this process sends another shape than it receives", "otel-pipeline contract diff")


def _none_checked(case: Case) -> Light | None:
    if checked(case.shortest(1, checked)[1]):
        return None
    return _light(case, "grey", "no value was checked within a day")


def _kept(case: Case) -> Light:
    judged = checked(case.shortest(1, checked)[1])
    source = case.evidence.contract.source
    return _light(case, "green", f"{words.count(judged, 'value')} checked against the contract ({source}){case.quiet}")


CONTRACT = Table(
    "contract",
    "contract kept",
    {
        "not known": _not_known,
        "broken": _broken,
        "differs": _differs,
        "sides differ": _sides_differ,
        "nothing judged": aged,
        "none checked": _none_checked,
        "kept": _kept,
    },
    events={"broken": _breaks},
)
