"""Keeping pace: whether each consumer keeps up. A flow shows its worst consumer.

The rows are what is told apart; a person, `otel_pipeline.consumer.status` and the state file have seven words for them.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import not_placed, shared
from otel_pipeline.verdict.light import RANK, Light, State, Table

if TYPE_CHECKING:
    from otel_pipeline.detectors.consumer_pace import ConsumerPace
    from otel_pipeline.verdict.case import Case

LOOKS_S = 10.0
"""Shorter than this are a rebalance, a large batch, back-pressure: they harm nobody."""
RED_S = 30.0
UNANSWERED_RED_S = 60.0
STANDS_RED_S = 60.0
FIRST_STAND_RED_S = 300.0
IDLE_S = 60.0
BUSY_S = 300.0
HANDLED = 30
"""From so many on the longest handling says what is usual."""
_PATIENCE = 3
_LONGEST = 2
_HANDLER = "the model call or send that is open in its trace, else a thread dump of the process"


class PaceCase(NamedTuple):
    """One consumer of a flow."""

    case: Case
    pace: ConsumerPace

    @property
    def patience_s(self) -> float:
        """How long nothing may be processed while something waits."""
        return max(self.case.settings.stuck_after_s, _PATIENCE * self.pace.p95_s)

    @property
    def red_after_s(self) -> float:
        """How long it is, at most, what this process has been seen to need."""
        pace = self.pace
        allowed_s = max(_PATIENCE * self.patience_s, RED_S, _LONGEST * pace.longest_s)
        if pace.handled < HANDLED or pace.only_polled:
            allowed_s = max(allowed_s, pace.max_poll_interval_s / 2)
        return allowed_s

    @property
    def threshold_s(self) -> float:
        """What counts as caught up."""
        return max(self.case.threshold_s, LOOKS_S)

    def light(self, state: State, why: str, look: str | None = None) -> Light:
        """Return a light with this consumer's figures; what is at risk is amber at least."""
        pace, at_risk = self.pace, self.case.evidence.at_risk
        figures = {"behind": float(pace.behind), "lag": float(pace.waiting)}
        if pace.caught_up_s != inf:
            figures["caught_up_age_s"] = pace.caught_up_s
        optional = {"utilization": pace.utilization, "drain_time_s": pace.drain_s}
        figures |= {name: figure for name, figure in optional.items() if figure is not None}
        if at_risk:
            why = f"{why}; {words.count(at_risk, 'message')} committed and not processed: lost if the process dies now"
            if RANK[state] < RANK["amber"]:
                state, look = "amber", "commit after processing"
        return Light(state, why, look, figures=figures)

    def worse(self, since_s: float, red_after_s: float, why: str, look: str | None) -> Light:
        """Return amber, and red once it has lasted for longer than `red_after_s`."""
        return self.light("red" if since_s > red_after_s else "amber", why, look)


def _left(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.member or pace.unasked_s < pace.max_poll_interval_s:
        return None
    why = f"has not asked for {words.span(pace.unasked_s)}: the group has taken its partitions"
    return of.light("red", why, _HANDLER)


def _no_evidence(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.assigned:
        return of.light("grey", "no partition is assigned to this process", "the group's other members")
    if not pace.known and not pace.unplaced and pace.age_s < LOOKS_S:
        return of.light("grey", "not seen yet: no fetch has been answered")
    return None


def _not_polling(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.member or pace.unasked_s < pace.max_poll_interval_s / 2:
        return None
    left_s = pace.max_poll_interval_s - pace.unasked_s
    why = f"has not asked for {words.span(pace.unasked_s)}: leaves the group in {words.span(left_s)}"
    return of.light("amber", why, _HANDLER)


def _going_round(of: PaceCase) -> Light | None:
    pace = of.pace
    if pace.going_round is None or pace.still_s <= of.case.settings.stuck_after_s:
        return None
    offset, times = pace.going_round
    why = f"offset {offset:,} again and again ({times} times a minute)" if offset >= 0 else "begins again and again"
    return of.worse(pace.still_s, RED_S, why, "what fails at this message")


def _stuck_in_the_handler(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.in_hand or min(pace.in_hand_s, pace.still_s) <= of.patience_s:
        return None
    if pace.only_polled:
        why = f"not asked for {words.span(pace.in_hand_s)}: works, sleeps or hangs; process() would tell"
    else:
        behind, longest = pace.behind - pace.in_hand, words.span(pace.longest_s)
        why = f"a message in hand for {words.span(pace.in_hand_s)}, {behind:,} behind it; longest so far {longest}"
    return of.worse(pace.still_s, of.red_after_s, why, _HANDLER)


def _stuck_in_the_process(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.queued or pace.still_s <= of.patience_s:
        return None
    why = f"{pace.queued:,} delivered and not begun, none processed for {words.span(pace.still_s)}"
    return of.worse(pace.still_s, of.red_after_s, why, "the workers that process() runs in")


def _held_back(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.unstable or pace.stands_s <= LOOKS_S:
        return None
    longest_s = pace.longest_stand_s
    red_s = FIRST_STAND_RED_S if longest_s is None else max(STANDS_RED_S, _LONGEST * longest_s)
    why = f"an open transaction holds back {words.count(pace.unstable, 'message')} for {words.span(pace.stands_s)}"
    return of.worse(pace.stands_s, red_s, why, "producers with transactions; whose it is, nobody tells a consumer")


def _no_answer(of: PaceCase) -> Light | None:
    pace = of.pace
    if min(pace.asking_s, pace.unanswered_s, pace.unmoved_s) <= LOOKS_S:
        return None
    why = f"no broker has answered a fetch for {words.span(pace.unanswered_s)}"
    return of.worse(pace.unanswered_s, UNANSWERED_RED_S, why, "brokers, network, authorisation")


def _paused(of: PaceCase) -> Light | None:
    pace = of.pace
    if pace.paused_s is None or pace.paused_s <= LOOKS_S:
        return None
    why = (
        f"paused by the application; at least {pace.paused_waiting:,} wait, last looked {words.span(pace.looked_s)} ago"
    )
    return of.light("amber", why, "whether it resumes")


def _not_served(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.waiting or pace.in_hand or min(pace.still_s, pace.unmoved_s) <= of.patience_s or not pace.asking_s:
        return None
    why = f"asks, and has been given nothing for {words.span(pace.still_s)}, though {pace.waiting:,} wait"
    return of.worse(pace.still_s, of.red_after_s, why, "the broker, and the consumer's limits of size")


def _does_not_ask(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.waiting or pace.in_hand or min(pace.still_s, pace.unasked_s) <= of.patience_s:
        return None
    why = f"{pace.waiting:,} wait, and it has not asked for {words.span(pace.unasked_s)}"
    return of.worse(pace.still_s, of.red_after_s, why, _HANDLER)


def _behind_in_the_process(of: PaceCase) -> Light | None:
    pace = of.pace
    if pace.only_polled or max(pace.queued_s, pace.in_hand_s) <= of.threshold_s:
        return None
    why = f"{words.count(pace.queued + pace.in_hand, 'message')} delivered and not done"
    return of.light("amber", why, "how long handling takes, and how many workers there are")


def _caught_up(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.known or pace.caught_up_s > of.threshold_s:
        return None
    seen = "handed out; processing is not seen" if pace.only_polled else "caught up"
    why = f"{seen} {words.span(pace.caught_up_s)} ago, {pace.behind:,} behind"
    if pace.queued:
        # "Caught up" beside thousands would be misread.
        not_begun = words.count(pace.queued, "message")
        why = f"handed out to the end {words.span(pace.caught_up_s)} ago, {not_begun} of it not begun yet"
    if pace.busy_s >= BUSY_S:
        return None
    return of.light("green", why)


def _idle(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.known or pace.behind or pace.caught_up_s == inf:
        return None
    if pace.caught_up_s <= IDLE_S:
        return of.light("green", f"nothing waited when it last looked, {words.span(pace.caught_up_s)} ago")
    since = words.clock(of.case.wall_s - pace.caught_up_s)
    return of.light("grey", f"not looking since {since}; nothing waited then", "whether the application still polls")


def _busy(of: PaceCase) -> Light | None:
    pace = of.pace
    if pace.busy_s < BUSY_S:
        return None
    why = f"has worked {words.share(pace.utilization or 0.0)} of the time for {words.span(pace.busy_s)}"
    return of.light("amber", why, "add consumers before there is a backlog")


def _falling_behind(of: PaceCase) -> Light | None:
    pace = of.pace
    if not pace.falling_s:
        return None
    since = words.clock(of.case.wall_s - pace.falling_s)
    why = f"{pace.behind:,} behind, more and more since {since}"
    return of.light("amber", why, "add consumers, or make handling faster")


def _catching_up(of: PaceCase) -> Light:
    pace = of.pace
    if not pace.known:
        if pace.unplaced:
            return of.light("grey", "not known: what is left may be an open transaction, or the mark of one")
        return of.light("grey", "not seen yet: no fetch has been answered", "brokers, network, authorisation")
    drain = "not getting less" if pace.drain_s is None else f"drained in {words.span(pace.drain_s)}"
    why = f"{pace.behind:,} behind, {drain}"
    if pace.starved is not None:
        partition, waiting = pace.starved
        why = f"{why}; waits: {waiting:,} on partition {partition}"
    return of.light("amber", why, "how fast it works, and how much comes in")


CONSUMER: Table[PaceCase] = Table(
    "pace",
    "keeping pace",
    {
        "left the group": _left,
        "no evidence": _no_evidence,
        "not polling": _not_polling,
        "going round": _going_round,
        "stuck in the handler": _stuck_in_the_handler,
        "stuck in the process": _stuck_in_the_process,
        "held back": _held_back,
        "no answer": _no_answer,
        "paused": _paused,
        "not served": _not_served,
        "does not ask": _does_not_ask,
        "behind in the process": _behind_in_the_process,
        "caught up": _caught_up,
        "idle": _idle,
        "busy": _busy,
        "falling behind": _falling_behind,
        "catching up": _catching_up,
    },
)


def _worst(case: Case) -> Light:
    judged = [(CONSUMER.read(PaceCase(case, each)), each) for each in case.evidence.pace.consumers]
    if not judged:
        unknown = not_placed(case) or shared(case)
        if unknown is not None:
            return unknown
        return Light("grey", "no partition is assigned to this process", "the group's other members", row="no evidence")
    # Of consumers that have partitions first: another member without any says nothing of those.
    light, pace = max(judged, key=lambda each: (RANK[each[0].state] + (each[1].assigned > 0), RANK[each[0].state]))
    if len(judged) > 1 and pace.client_id:
        light = Light(light.state, f"{pace.client_id}: {light.why}", light.look, light.row, figures=light.figures)
    return light


PACE: Table[Case] = Table("pace", "keeping pace", {"worst consumer": _worst})
