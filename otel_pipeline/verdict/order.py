"""In order: whether each message came once, and after those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.keys_in_hand import CONCURRENT_KEY
from otel_pipeline.detectors.order import (
    BEFORE_BROKER,
    BY_DESTINATION,
    CUT,
    DUPLICATE,
    EXCUSED,
    EXPIRED,
    FIRSTS,
    LEFT_OPEN,
    NOT_FOLLOWED,
    OFFSET_RESET,
    OPEN,
    REDELIVERED,
    REORDERED,
    SKIPPED,
    SKIPPED_OFFSETS,
    TURNED_AWAY,
    UNNUMBERED,
)
from otel_pipeline.detectors.producer_numbers import MAX_ALL_GAPPED
from otel_pipeline.detectors.shared import SHARED
from otel_pipeline.detectors.shares import wilson_lower
from otel_pipeline.detectors.times import EVENT_TIME_REGRESSION
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import JUDGED, Case, aged, messages, not_placed, readable, shared
from otel_pipeline.verdict.light import Light, State, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_pipeline.detectors.producer_window import Between
    from otel_pipeline.engine.measures import Label, Window
    from otel_pipeline.verdict.history import Counts

DISORDER = 1e-4
LEAST = 3
REDELIVERED_SHARE = 0.01
_PRODUCERS = "producers without idempotence, or a relay that repeats (client.hazard)"
_REDELIVERED = "rebalances and commits"
_SHARED_AGAIN = "releases, and handlers that take longer than a lock of the share group lasts"
_RETENTION = "retention of the topic, and how long the consumer was down"


def lost(counts: Window) -> dict[Label, int]:
    """Return the messages that never came though nobody wished it, by where they were lost."""
    return {label: count for label in (BEFORE_BROKER, EXPIRED) if (count := counts[label])}


def unjudged(counts: Window) -> int:
    """Count the messages with a number that no earlier one of the same producer could be compared with."""
    return sum(counts[label] for label in (BY_DESTINATION, UNNUMBERED, FIRSTS, TURNED_AWAY))


def _window(case: Case) -> tuple[float, Counts]:
    return case.shortest(case.minimums.order, messages)


def _counts(case: Case) -> Counts:
    return _window(case)[1]


def _judged(counts: Counts) -> tuple[int, int]:
    """Return how many messages were compared, and how many there were; what was excused may have been one, too."""
    seen = messages(counts) + counts[EXCUSED] + counts[NOT_FOLLOWED]
    return max(0, readable(counts)[0] - unjudged(counts)), seen


def _light(case: Case, state: State, why: str, look: str | None = None, row: str = "") -> Light:
    window_s, counts = _window(case)
    judged, seen = _judged(counts)
    figures = {
        "missing": float(sum(lost(case.total).values())),
        OPEN.measure.name: float(case.total[OPEN]),
        **{str(label): float(counts[label]) for label in (REORDERED, DUPLICATE, REDELIVERED, EVENT_TIME_REGRESSION)},
        "at_risk": float(case.evidence.at_risk),
    }
    return Light(state, why, look, row, judged=judged, seen=seen, window_s=window_s, figures=figures)


def _where(places: Sequence[tuple[int, Between]]) -> str:
    """Write the first place, and how many there are besides."""
    if not places:
        return ""
    partition, (after, before) = places[0]
    more = f", and at {words.count(len(places) - 1, 'more place')}" if len(places) > 1 else ""
    return f": between offsets {after:,} and {before:,} of partition {partition}{more}"


def _missing(case: Case) -> Light | None:
    return _missed(case, "red") if case.events.get("missing") == "red" else None


def _missing_lately(case: Case) -> Light | None:
    return _missed(case, "amber") if case.events.get("missing") else None


def _missed(case: Case, state: State) -> Light:
    missing = lost(case.total)
    said = []
    if count := missing.get(BEFORE_BROKER):
        again, where = "was" if count == 1 else "were", _where(case.evidence.missing_places[::-1])
        said.append(f"{words.count(count, 'number')} never came (or {again} sent again by the application){where}")
    if count := missing.get(EXPIRED):
        said.append(f"{words.count(count, 'message was', 'messages were')} deleted by retention before they were read")
    return _light(case, state, "; ".join(said), _where_lost(case, missing))


def _where_lost(case: Case, missing: Mapping[Label, int]) -> str:
    if EXPIRED in missing:
        return _RETENTION
    refused = case.evidence.refused_sends
    if refused:
        errors = ", ".join(f"{count:,} x {error}" for error, count in sorted(refused.items()))
        return f"failed sends of this process: {errors}"
    return "errors of the producers (messaging.client.sent.messages by error.type), and relays between"


def _out_of_order(case: Case) -> Light | None:
    counts = _counts(case)
    disorder = counts[REORDERED] + counts[DUPLICATE]
    surely = disorder >= LEAST and wilson_lower(disorder, messages(counts)) > DISORDER
    return _disordered(case, "red") if case.evidence.ordered and surely else None


def _reordered(case: Case) -> Light | None:
    counts = _counts(case)
    return _disordered(case, "amber") if counts[REORDERED] + counts[DUPLICATE] else None


def _disordered(case: Case, state: State) -> Light:
    counts = _counts(case)
    n, late, again = messages(counts), counts[REORDERED], counts[DUPLICATE]
    said = [f"{late:,} came after a later one"] if late else []
    if again:
        # The same number later in the log: the producer was not answered, and tried again.
        said.append(f"{again:,} {'was' if again == 1 else 'were'} sent again")
    return _light(case, state, f"{', '.join(said)}, of {words.count(n, 'message')}", _PRODUCERS)


def _gap(case: Case) -> Light | None:
    waiting = case.total[OPEN]
    if not waiting:
        return None
    why = f"{words.count(waiting, 'message has', 'messages have')} not come yet{_where(case.evidence.open_places)}"
    return _light(case, "amber", why, "whether they come")


def _left_open(case: Case) -> Light | None:
    if not case.events.get("left open"):
        return None
    had = words.count(case.total[LEFT_OPEN], "message had", "messages had")
    why = f"{had} not come when the consumer closed or lost the partition"
    return _light(case, "amber", why, "whether the next consumer of the partition has them")


def _cut(case: Case) -> Light | None:
    if not case.events.get("log cut"):
        return None
    gone = words.count(case.total[CUT], "message that was read is", "messages that were read are")
    return _light(case, "amber", f"the log was cut: {gone} gone", "brokers that failed, unclean leader elections")


def _older(case: Case) -> Light | None:
    counts = _counts(case)
    if not counts[EVENT_TIME_REGRESSION]:
        return None
    why = f"{counts[EVENT_TIME_REGRESSION]:,} of {messages(counts):,} messages are older than one before them"
    return _light(case, "amber", why, _PRODUCERS)


def _same_key(case: Case) -> Light | None:
    count = _counts(case)[CONCURRENT_KEY]
    if not count:
        return None
    why = f"{words.count(count, 'message was', 'messages were')} processed beside another one with the same key"
    return _light(case, "amber", why, "how messages are handed to threads: one key, one thread")


def _redelivered(case: Case) -> Light | None:
    counts = _counts(case)
    n, again = messages(counts), counts[REDELIVERED]
    if again < LEAST or again <= REDELIVERED_SHARE * n:
        return None
    look = _SHARED_AGAIN if case.total[SHARED] else _REDELIVERED
    return _light(case, "amber", f"{again:,} of {n:,} messages were delivered again", look)


def _reset(case: Case) -> Light | None:
    count = _counts(case)[OFFSET_RESET]
    if not count:
        return None
    skipped = words.count(count, "message was", "messages were")
    why = f"{skipped} skipped: the position was gone, and auto_offset_reset is latest"
    return _light(case, "amber", why, _RETENTION)


def _younger(case: Case) -> Light | None:
    count = _counts(case)[SKIPPED]
    if not count:
        return None
    skipped = words.count(count, "message was", "messages were")
    look = "auto_offset_reset (earliest reads a new partition from its beginning), and whether the topic was made anew"
    return _light(case, "amber", f"{skipped} skipped at the beginning of a new partition", look)


def _too_few(case: Case) -> Light | None:
    n = messages(_counts(case))
    if n >= case.minimums.order:
        return None
    return _light(case, "grey", f"too few yet: {n} of {case.minimums.order} messages in 24 h")


def _not_judged(case: Case) -> Light | None:
    """Grey where too little could be compared, by what keeps most of it from that."""
    counts = _counts(case)
    judged, seen = _judged(counts)
    if judged >= JUDGED * seen:
        return None
    n, (known, looked) = messages(counts), readable(counts)
    unnumbered, firsts, turned_away = counts[BY_DESTINATION] + counts[UNNUMBERED], counts[FIRSTS], counts[TURNED_AWAY]
    excused, skipped, not_followed = counts[EXCUSED], counts[SKIPPED_OFFSETS], counts[NOT_FOLLOWED]
    reasons = {
        "without numbers": (
            looked - known,
            f"only {known:,} of {words.count(n, 'message')} say which number they have",
            "instrument the producers, or name the original under mirrors: if a relay copies them",
        ),
        "numbers of no partition": (
            unnumbered,
            f"whether any is missing is not known: {unnumbered:,} of {n:,} messages have no number of a partition",
            "the producers: what they could not deliver they know themselves",
        ),
        "nothing to compare": (
            firsts,
            f"{firsts:,} of {n:,} messages are the first of their producer: nothing to compare",
            "whether a producer is made for each message or request",
        ),
        "too many producers": (
            turned_away,
            f"{turned_away:,} of {n:,} messages come from more producers than are followed",
            "whether a producer is made for each message or request",
        ),
        "too many gaps": (
            not_followed,
            f"{not_followed:,} numbers may be lost: those of {MAX_ALL_GAPPED:,} producers of this process are followed",
            "the process's other flows: numbers of thousands of producers have not come",
        ),
        "excused": (
            excused,
            f"{excused:,} numbers excused by {skipped:,} skipped offsets: whether they were lost is not known",
            "nothing, where the topic is compacted or has aborted transactions",
        ),
    }
    name = max(reasons, key=lambda each: reasons[each][0])
    _, why, look = reasons[name]
    return _light(case, "grey", why, look, name)


def _in_order(case: Case) -> Light:
    return _light(
        case, "green", f"{words.count(messages(_counts(case)), 'message')} in order, none missing{case.quiet}"
    )


ORDER = Table(
    "order",
    "in order",
    {
        "missing": _missing,
        "out of order": _out_of_order,
        "missing lately": _missing_lately,
        "reordered or sent again": _reordered,
        "gap": _gap,
        "gap left open": _left_open,
        "log cut": _cut,
        "older than before": _older,
        "same key at once": _same_key,
        "delivered again": _redelivered,
        "skipped at a reset": _reset,
        "skipped at the beginning": _younger,
        "read by extract()": not_placed,
        "share group": shared,
        "nothing judged": aged,
        "too few": _too_few,
        "not judged": _not_judged,
        "in order": _in_order,
    },
    events={
        "missing": lambda counts, _evidence: sum(lost(counts).values()),
        "left open": lambda counts, _evidence: counts[LEFT_OPEN],
        "log cut": lambda counts, _evidence: counts[CUT],
    },
)
