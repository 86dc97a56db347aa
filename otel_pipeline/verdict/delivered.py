"""Delivered: whether what this process sends reaches the brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.shares import wilson_lower
from otel_pipeline.verdict import words
from otel_pipeline.verdict.light import Light, State, Table
from otel_pipeline.verdict.sends import FAILED, SENT

if TYPE_CHECKING:
    from otel_pipeline.verdict.case import Case
    from otel_pipeline.verdict.history import Counts

LEFT = "left at the end"
"""The row of messages that nobody will answer any more."""
SHARE = 0.01
"""Of sends that may fail before that is surely more than bad luck."""
LEAST = 3
ENOUGH = 30
"""Sends from which a share is told; of fewer all have to fail."""
PATIENCE_S = 10.0
OF_TIMEOUT = 0.5
"""Of the time after which a producer gives up: by then somebody can still do something."""
_BROKERS = "the brokers, the network, and what the client logs"


def _window(case: Case) -> tuple[float, Counts]:
    return case.shortest(ENOUGH, _sent)


def _sent(counts: Counts) -> int:
    return counts[SENT]


def _failed(counts: Counts) -> int:
    return sum(counts.of(FAILED).values())


def _light(case: Case, state: State, why: str, look: str | None = None) -> Light:
    window_s, counts = _window(case)
    sends, n = case.evidence.sends, counts[SENT]
    figures = {"failed": float(_failed(counts)), "open": float(sends.open), "oldest_open_s": sends.oldest_s}
    return Light(state, why, look, judged=n if sends.confirmed else 0, seen=n, window_s=window_s, figures=figures)


def _said(case: Case, state: State) -> Light:
    counts = _window(case)[1]
    errors = sorted(counts.of(FAILED).items(), key=lambda each: -each[1])
    named = ", ".join(f"{count:,} x {error.rpartition('.')[2]}" for (error,), count in errors if count)
    why = f"{_failed(counts):,} of {words.count(counts[SENT], 'message')} could not be delivered: {named}"
    return _light(case, state, why, f"the failed `send {case.evidence.key.destination}` spans, and {_BROKERS}")


def _left(case: Case) -> Light | None:
    sends = case.evidence.sends
    if not sends.ended or not sends.open:
        return None
    left = words.count(sends.open, "message was", "messages were")
    why = f"{left} not answered when the process ended: whether they were delivered is not known"
    return _light(case, "red", why, "flush() or close() of the producer, before the end")


def _fails(case: Case) -> Light | None:
    counts = _window(case)[1]
    n, k = counts[SENT], _failed(counts)
    surely = k >= LEAST and wilson_lower(k, n) > SHARE
    return _said(case, "red") if surely or (0 < n == k) else None


def _fails_sometimes(case: Case) -> Light | None:
    return _said(case, "amber") if _failed(_window(case)[1]) else None


def _unanswered(case: Case, state: State) -> Light:
    sends = case.evidence.sends
    open_now = words.count(sends.open, "message")
    why = f"{open_now} without an answer, the oldest for {words.span(sends.oldest_s)}"
    if sends.timeout_s is not None:
        why = f"{why}; given up after {words.span(sends.timeout_s)}"
    return _light(case, state, why, _BROKERS)


def _no_answer(case: Case) -> Light | None:
    sends = case.evidence.sends
    if not sends.open or sends.timeout_s is None:
        return None
    if sends.oldest_s <= max(PATIENCE_S, sends.linger_s, OF_TIMEOUT * sends.timeout_s):
        return None
    return _unanswered(case, "red")


def _slow(case: Case) -> Light | None:
    sends = case.evidence.sends
    if not sends.open or sends.oldest_s <= max(PATIENCE_S, sends.linger_s + 3 * sends.answered_p95_s):
        return None
    return _unanswered(case, "amber")


def _not_confirmed(case: Case) -> Light | None:
    if case.evidence.sends.confirmed:
        return None
    why = f"acks=0: {words.count(_window(case)[1][SENT], 'message')} sent, and no broker says whether it has them"
    return _light(case, "grey", why, "acks=1 or all, where messages matter")


def _nothing(case: Case) -> Light | None:
    if _window(case)[1][SENT]:
        return None
    sends = case.evidence.sends
    if sends.open:
        return _light(case, "grey", f"{words.count(sends.open, 'message')} on the way, none answered yet")
    return _light(case, "grey", "quiet: nothing was sent in 24 h" if case.total[SENT] else "nothing sent yet")


def _delivered(case: Case) -> Light:
    sends, counts = case.evidence.sends, _window(case)[1]
    on_the_way = f", {sends.open:,} on the way" if sends.open else ""
    return _light(case, "green", f"{words.count(counts[SENT], 'message')} acknowledged, none failed{on_the_way}")


DELIVERED = Table(
    "delivered",
    "delivered",
    {
        LEFT: _left,
        "fails": _fails,
        "no answer": _no_answer,
        "fails sometimes": _fails_sometimes,
        "slow to answer": _slow,
        "not confirmed": _not_confirmed,
        "nothing sent": _nothing,
        "delivered": _delivered,
    },
)
