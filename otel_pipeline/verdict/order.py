"""In order: whether each message came once, and after those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.keys_in_hand import CONCURRENT_KEY
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
)
from otel_pipeline.detectors.shares import wilson_lower
from otel_pipeline.detectors.times import EVENT_TIME_REGRESSION
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import JUDGED, Case, aged, messages, not_placed, readable
from otel_pipeline.verdict.light import Light, State, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.engine.measures import Label, Window

DISORDER = 1e-4
_LEAST = 3
_REDELIVERED = 0.01
_PRODUCERS = "producers without idempotence, or a relay that repeats (client.hazard)"
_LOST: Mapping[Label, str] = {
    BEFORE_BROKER: "before the broker",
    SKIPPED: "skipped by the consumer",
    EXPIRED: "deleted by retention before they were read",
}


def lost(counts: Window) -> dict[Label, int]:
    """Return the messages that never came though nobody wished it, by where they were lost."""
    return {label: count for label in _LOST if (count := counts[label])}


def _light(case: Case, state: State, why: str, look: str | None = None) -> Light:
    window_s, counts = case.shortest(case.minimums.order, messages)
    figures = {
        "missing": float(sum(lost(case.total).values())),
        OPEN.measure.name: float(case.total[OPEN]),
        **{str(label): float(counts[label]) for label in (REORDERED, DUPLICATE, REDELIVERED, EVENT_TIME_REGRESSION)},
        "at_risk": float(case.evidence.at_risk),
    }
    judged = max(0, readable(counts)[0] - counts[BY_DESTINATION] - counts[UNNUMBERED])
    return Light(state, why, look, judged=judged, seen=messages(counts), window_s=window_s, figures=figures)


def _missing(case: Case) -> Light | None:
    event = case.events.get("missing")
    if event is None:
        return None
    missing = lost(case.total)
    causes = ", ".join(f"{count:,} {_LOST[label]}" for label, count in missing.items())
    state: State = "red" if event == "red" else "amber"
    return _light(case, state, f"messages lost: {causes}", _where_lost(case, missing))


def _where_lost(case: Case, missing: Mapping[Label, int]) -> str:
    if EXPIRED in missing:
        return "retention of the topic, and how long the consumer was down"
    refused = case.evidence.refused_sends
    if refused:
        errors = ", ".join(f"{count:,} x {error}" for error, count in sorted(refused.items()))
        return f"failed sends of this process: {errors}"
    return "errors of the producers (messaging.client.sent.messages by error.type), and relays between"


def _disordered(case: Case) -> Light | None:
    counts = case.shortest(case.minimums.order, messages)[1]
    n, disorder = messages(counts), counts[REORDERED] + counts[DUPLICATE]
    if not disorder:
        return None
    surely = disorder >= _LEAST and wilson_lower(disorder, n) > DISORDER
    why = f"{counts[REORDERED]:,} {REORDERED}, {counts[DUPLICATE]:,} {DUPLICATE} of {words.count(n, 'message')}"
    return _light(case, "red" if surely else "amber", why, _PRODUCERS)


def _gap(case: Case) -> Light | None:
    waiting = case.total[OPEN]
    if not waiting:
        return None
    why = f"{words.count(waiting, 'message has', 'messages have')} not come yet"
    return _light(case, "amber", why, "whether they come")


def _older(case: Case) -> Light | None:
    counts = case.shortest(case.minimums.order, messages)[1]
    if not counts[EVENT_TIME_REGRESSION]:
        return None
    why = f"{counts[EVENT_TIME_REGRESSION]:,} of {messages(counts):,} messages are older than one before them"
    return _light(case, "amber", why, _PRODUCERS)


def _same_key(case: Case) -> Light | None:
    count = case.shortest(case.minimums.order, messages)[1][CONCURRENT_KEY]
    if not count:
        return None
    why = f"{words.count(count, 'message was', 'messages were')} processed beside another one with the same key"
    return _light(case, "amber", why, "how messages are handed to threads: one key, one thread")


def _redelivered(case: Case) -> Light | None:
    counts = case.shortest(case.minimums.order, messages)[1]
    n, again = messages(counts), counts[REDELIVERED]
    if again < _LEAST or again <= _REDELIVERED * n:
        return None
    return _light(case, "amber", f"{again:,} of {n:,} messages were delivered again", "rebalances and commits")


def _reset(case: Case) -> Light | None:
    count = case.shortest(case.minimums.order, messages)[1][OFFSET_RESET]
    if not count:
        return None
    skipped = words.count(count, "message was", "messages were")
    why = f"{skipped} skipped: the position was gone, and auto_offset_reset is latest"
    return _light(case, "amber", why, "retention of the topic, and how long the consumer was down")


def _too_few(case: Case) -> Light | None:
    n = messages(case.shortest(case.minimums.order, messages)[1])
    if n >= case.minimums.order:
        return None
    return _light(case, "grey", f"too few yet: {n} of {case.minimums.order} messages in 24 h")


def _unnumbered(case: Case) -> Light | None:
    counts = case.shortest(case.minimums.order, messages)[1]
    n, (known, looked) = messages(counts), readable(counts)
    if known < JUDGED * looked:
        why = f"only {known:,} of {words.count(n, 'message')} say which number they have"
        look = "instrument the producers, or name the original under mirrors: if a relay copies them"
        return _light(case, "grey", why, look)
    unjudged = counts[BY_DESTINATION] + counts[UNNUMBERED]
    if n - unjudged >= JUDGED * n:
        return None
    why = f"{n:,} messages in order; whether any is missing is not known: {unjudged:,} have no number of a partition"
    return _light(case, "grey", why, "the producers: what they could not deliver they know themselves")


def _in_order(case: Case) -> Light:
    n = messages(case.shortest(case.minimums.order, messages)[1])
    return _light(case, "green", f"{words.count(n, 'message')} in order, none missing{case.quiet}")


ORDER = Table(
    "order",
    "in order",
    {
        "missing": _missing,
        "out of order": _disordered,
        "gap": _gap,
        "older than before": _older,
        "same key at once": _same_key,
        "delivered again": _redelivered,
        "skipped at a reset": _reset,
        "read by extract()": not_placed,
        "nothing judged": aged,
        "too few": _too_few,
        "without numbers": _unnumbered,
        "in order": _in_order,
    },
    events={"missing": lambda counts, _evidence: sum(lost(counts).values())},
)
