"""Contract kept: whether values have the shape that was agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.contracts.differences import RAISED
from otel_pipeline.contracts.measures import (
    BECAME_NULL,
    BREAKS,
    DELETED,
    FIELD_ADDED,
    FIELD_MISSING,
    FILE,
    INT_TO_FLOAT,
    NOT_COMPARED,
    OF_NEW_KIND,
    PASSED,
    TYPE_CHANGED,
    UNREADABLE,
    by_kind,
    checked,
)
from otel_pipeline.contracts.paths import ROOT
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import JUDGED, Case, aged
from otel_pipeline.verdict.history import EVENT_AMBER_S, EVENT_RED_S
from otel_pipeline.verdict.light import Light, State, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.contracts.evidence import Departure
    from otel_pipeline.engine.measures import Window
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.history import Counts

RELEASE = "the producer's last release"
_SURE = 300
"""Values that bound the share of breaks by 1 %: 3 of n, where none of n broke the contract."""
_SAMPLED = 0.99
"""Below this share of the messages looked at, what is said of them is said of a sample."""
_NAMED = 5
_NEW_S = 3600.0
"""For so long a schema is new, and what became optional is said."""
_NOW_S = 60.0
"""What has not come for longer has come to an end."""
_WORDS = {
    FIELD_MISSING: "missing",
    FIELD_ADDED: "new",
    TYPE_CHANGED: "of another type",
    BECAME_NULL: "null",
    INT_TO_FLOAT: "a fraction",
    UNREADABLE: "unreadable",
}


_UNREADABLE = {RAISED: "the (de)serializer raised", "bytes": "no JSON"}


def broken(counts: Window) -> dict[str, int]:
    """Return the differences from the contract that a reader stumbles over, by their kind."""
    found = by_kind(counts)
    return {kind: found[kind] for kind in BREAKS if kind in found}


def _values(counts: Counts) -> int:
    """Return how many values were looked at, judged or not."""
    return checked(counts) + counts[NOT_COMPARED] + counts[OF_NEW_KIND]


def _is_sample(counts: Counts) -> bool:
    return _values(counts) + counts[DELETED] < _SAMPLED * counts[PASSED]


def _window(case: Case) -> tuple[float, Counts]:
    return case.shortest(_SURE, checked)


def _light(case: Case, state: State, why: str, look: str | None = None) -> Light:
    """Make the light. A random sample judges all of what it is drawn from."""
    window_s, counts = _window(case)
    judged = checked(counts)
    seen = _values(counts)
    if judged and _is_sample(counts):
        judged, seen = round(counts[PASSED] * judged / seen), counts[PASSED]
    figures = {
        "checked": float(checked(counts)),
        **{kind: float(count) for kind, count in by_kind(case.total).items()},
        **case.evidence.contract.fields,
    }
    return Light(state, why, look, judged=judged, seen=seen, window_s=window_s, figures=figures)


def _breaks(counts: Window, evidence: Evidence) -> int | None:
    """Count what broke a contract that a person keeps; one that was learned may be wrong."""
    return sum(broken(counts).values()) if evidence.contract.source == FILE else None


def _said(case: Case, which: Callable[[Departure], bool], counts: dict[str, int]) -> str:
    """Say what departs, and how much of it; by kind alone where nothing else is kept of it."""
    named = sorted(filter(which, case.evidence.contract.departures), key=lambda each: each.last_s)[:_NAMED]
    if not named:
        return ", ".join(f"{count:,} x {kind}" for kind, count in counts.items())
    return "; ".join(_departure(case, each) for each in named)


def _departure(case: Case, each: Departure) -> str:
    since = f"since {words.clock(case.wall_s - each.first_s)}"
    if each.last_s > _NOW_S:
        since = f"from {words.clock(case.wall_s - each.first_s)} to {words.clock(case.wall_s - each.last_s)}"
    sender = ""
    if each.producer is not None and each.producers > 1:
        sender = f", all from producer {each.producer}, one of {each.producers}"
    return f"{_what(each)} in {_share(case, each)} {since}{sender}"


def _what(each: Departure) -> str:
    if each.kind == UNREADABLE:
        return " or ".join(_UNREADABLE[how] for how in each.types) or _WORDS[each.kind]
    path = "the whole value" if each.path == ROOT else each.path
    types = f" ({', '.join(each.types)})" if each.types and each.kind == TYPE_CHANGED else ""
    return f"{path}: {_WORDS[each.kind]}{types}"


def _share(case: Case, each: Departure) -> str:
    """Say how many it is of; while nothing is compared yet, how many alone."""
    if case.evidence.contract.source is None:
        return words.count(each.count, "message")
    if each.count >= each.of:
        return f"all {each.of:,}" if each.of > 1 else "1 of 1"
    return f"{each.count:,} of {each.of:,} ({words.share(each.count / each.of)})"


def _broken(case: Case) -> Light | None:
    state: State | None = "amber" if broken(case.windows[min(case.windows)]) else None
    recent_s = EVENT_RED_S
    if case.evidence.contract.source == FILE:
        event, recent_s = case.events.get("broken"), EVENT_RED_S + EVENT_AMBER_S
        state = None if event is None else "red" if event == "red" else "amber"
    if state is None:
        return None
    said = _said(case, lambda each: each.kind in BREAKS and each.last_s <= recent_s, broken(case.total))
    return _light(case, state, said, RELEASE)


def _new_schema(case: Case) -> Light | None:
    new = {name: ago_s for name, ago_s in case.evidence.contract.new_schemas.items() if ago_s < _NEW_S}
    if not new:
        return None
    since = words.clock(case.wall_s - max(new.values()))
    why = f"new schema {', '.join(new)} since {since}"
    return _light(case, "amber", why, "whether consumers are ready: the registry shows what has changed")


def _stopped(case: Case) -> Light | None:
    found = case.evidence.contract
    if not found.stopped or found.known_s >= _NEW_S:
        return None
    named = ", ".join(found.stopped[:_NAMED])
    half = found.learn_messages // 2
    why = f"{named}: in all of the first {half:,} messages learned and in none of the rest"
    return _light(case, "amber", why, RELEASE)


def _differs(case: Case) -> Light | None:
    kinds = {kind: count for kind, count in by_kind(case.shortest(1, checked)[1]).items() if kind not in BREAKS}
    if not kinds:
        return None
    said = _said(case, lambda each: each.kind in kinds, kinds)
    return _light(case, "amber", said, "whether consumers are ready (otel-pipeline contract diff)")


def _sides_differ(case: Case) -> Light | None:
    if not case.evidence.contract.sides_differ:
        return None
    return _light(case, "amber", "this process sends another shape than it receives", "otel-pipeline contract diff")


def _not_set_up(case: Case) -> Light | None:
    found = case.evidence.contract
    if found.source is not None or found.wanted:
        return None
    why = "not set up: the values of this destination are not looked at"
    return _light(case, "grey", why, f"destinations: {{{case.evidence.key.destination}: {{contract: learn}}}}")


def _no_shape(case: Case) -> Light | None:
    found = case.evidence.contract
    if found.source is not None or not found.in_vain:
        return None
    schemas = f"; they begin with schema {', '.join(found.schemas)}" if found.schemas else ""
    look = "a deserializer that gives objects, or the schema registry"
    return _light(case, "grey", f"not seen: values are no objects and no JSON{schemas}", look)


def _learning(case: Case) -> Light | None:
    found = case.evidence.contract
    if found.source is not None:
        return None
    if not found.learned:
        return _light(case, "grey", "not seen: no value yet")
    why = f"too few yet: {found.learned:,} of {found.learn_messages:,} messages learned"
    return _light(case, "grey", why, "nothing, or otel-pipeline contract record: a file is known at once")


def _none_checked(case: Case) -> Light | None:
    if checked(_window(case)[1]):
        return None
    return _light(case, "grey", "not seen: no value was checked within a day")


def _partly_judged(case: Case) -> Light | None:
    light = _light(case, "grey", "")
    if light.judged >= JUDGED * light.seen:
        return None
    counts = _window(case)[1]
    others = "are no JSON"
    if counts[OF_NEW_KIND] > counts[NOT_COMPARED]:
        others = f"are of new kinds, by {case.evidence.contract.kinds_by}, which are still being learned"
    why = f"only {checked(counts):,} of {_values(counts):,} values can be judged: the others {others}"
    return _light(case, "grey", why)


def _kept(case: Case) -> Light:
    counts = _window(case)[1]
    judged, found = checked(counts), case.evidence.contract
    if _is_sample(counts):
        bound = "" if broken(counts) else f": under {words.share(3 / judged)} break it"
        why = f"{judged:,} of {counts[PASSED]:,} looked at{bound} ({found.source} contract)"
    else:
        why = f"{words.count(judged, 'value')} checked against the contract ({found.source})"
    settled = "".join(f"; {each}" for each in found.settled if each.ago_s < _NEW_S)
    return _light(case, "green", f"{why}{settled}{case.quiet}")


CONTRACT = Table(
    "contract",
    "contract kept",
    {
        "broken": _broken,
        "new schema": _new_schema,
        "stopped": _stopped,
        "differs": _differs,
        "sides differ": _sides_differ,
        "not set up": _not_set_up,
        "no shape": _no_shape,
        "learning": _learning,
        "nothing judged": aged,
        "none checked": _none_checked,
        "partly judged": _partly_judged,
        "kept": _kept,
    },
    events={"broken": _breaks},
)
