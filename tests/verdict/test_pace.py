"""Keeping pace, row by row of the table, from what is known of one consumer: each limit just below, at, just above."""

from __future__ import annotations

from math import inf

import pytest

from otel_pipeline.detectors.consumer_pace import ConsumerPace
from otel_pipeline.detectors.flow_pace import Pace
from otel_pipeline.detectors.objectives import ObjectiveEvidence
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import Case
from otel_pipeline.verdict.consumer_status import _STATUS, STATUSES, status
from otel_pipeline.verdict.evidence import Evidence, Freshness
from otel_pipeline.verdict.history import History
from otel_pipeline.verdict.lights import PACE
from otel_pipeline.verdict.pace import CONSUMER
from tests.limits import below_at_above

WELL = {
    "assigned": 1,
    "known": True,
    "age_s": 600.0,
    "member": True,
    "caught_up_s": 0.4,
    "handled": 1000,
    "longest_s": 0.2,
    "p95_s": 0.01,
}


def light(*, threshold_s=None, at_risk=0, consumers=None, **known):
    """The light of one consumer that keeps up, but for what is said."""
    counts = History().counts(Evidence(FlowKey(None, "orders", "g")).counts)
    evidence = Evidence(FlowKey(None, "orders", "g"), at_risk=at_risk)
    if threshold_s is not None:
        evidence.freshness = Freshness([ObjectiveEvidence("fresh", threshold_s, 0.99)])
    evidence.pace = Pace(consumers=consumers or (ConsumerPace(**{**WELL, **known}),))
    case = Case(evidence, counts, HealthSettings(), None, {}, {}, {}, wall_s=1_800_000_000.0)
    return PACE.read(case)


def row(**known):
    """The row that holds, and the colour."""
    found = light(**known)
    return found.row, found.state


def test_all_is_well():
    """Caught up a moment ago."""
    found = light()

    assert (found.row, found.state, found.why) == ("caught up", "green", "caught up 400 ms ago, 0 behind")


HANGS = {"caught_up_s": 60.0, "waiting": 9, "in_hand": 1}
WAITS = {"caught_up_s": 60.0, "waiting": 9}


@below_at_above(
    "a member that does not ask: all of max.poll.interval",
    300,
    ("not polling", "amber"),
    ("left the group", "red"),
    ("left the group", "red"),
)
def test_the_group_takes_its_partitions(size, outcome):
    """Assigned or not."""
    assert row(unasked_s=size, still_s=size, unmoved_s=size) == outcome


@below_at_above(
    "a member that does not ask: half of max.poll.interval",
    150,
    ("caught up", "green"),
    ("not polling", "amber"),
    ("not polling", "amber"),
)
def test_a_member_that_asks_for_nothing(size, outcome):
    """Nothing waits, and yet it will leave the group."""
    assert row(unasked_s=size) == outcome
    assert row(unasked_s=size, member=False) == ("caught up", "green")


@below_at_above("verdict.pace.LOOKS_S", 10, ("no evidence", "grey"), ("catching up", "grey"), ("catching up", "grey"))
def test_the_first_seconds(size, outcome):
    """No fetch has been answered: at first that is no evidence, and it never is evidence of good."""
    assert row(age_s=size, known=False, caught_up_s=inf) == outcome


@below_at_above(
    "seconds that an offset which is sought again and again may stand",
    10,
    ("caught up", "green"),
    ("caught up", "green"),
    ("going round", "amber"),
)
def test_round_and_round(size, outcome):
    """Amber after stuck_after."""
    assert row(going_round=(700, 31), still_s=size) == outcome


@below_at_above("verdict.pace.RED_S", 30, ("going round", "amber"), ("going round", "amber"), ("going round", "red"))
def test_round_and_round_for_long(size, outcome):
    """Red after half a minute, with the offset."""
    found = light(going_round=(700, 31), still_s=size)

    assert (found.row, found.state) == outcome
    assert found.why == "offset 700 again and again (31 times a minute)"


@below_at_above(
    "seconds that a message may be in hand: patience",
    10,
    ("catching up", "amber"),
    ("catching up", "amber"),
    ("stuck in the handler", "amber"),
)
def test_a_handler_that_takes_long(size, outcome):
    """In hand, and nothing was processed, for longer than patience."""
    assert row(**HANGS, in_hand_s=size, still_s=size) == outcome


@below_at_above(
    "seconds that a message may be in hand: three times the 95th percentile",
    15,
    ("behind in the process", "amber"),
    ("behind in the process", "amber"),
    ("stuck in the handler", "amber"),
)
def test_a_handler_that_always_takes_long(size, outcome):
    """What is usual here is no harm."""
    assert row(**HANGS, in_hand_s=size, still_s=size, p95_s=5.0, longest_s=6.0) == outcome


@below_at_above("seconds until stuck is red", 30, "amber", "amber", "red")
def test_a_handler_that_hangs(size, outcome):
    """Red after three times its patience, with how many wait behind it and what was the longest so far."""
    found = light(**{**HANGS, "waiting": 1635}, in_hand_s=size, still_s=size)

    assert found.state == outcome
    assert found.why == f"a message in hand for {size} s, 1,635 behind it; longest so far 200 ms"


@below_at_above("seconds until stuck is red: twice the longest that has ended", 80, "amber", "amber", "red")
def test_a_handler_that_has_taken_as_long_before(size, outcome):
    """A rare slow message is no harm."""
    assert light(**HANGS, in_hand_s=size, still_s=size, longest_s=40.0).state == outcome


@below_at_above("verdict.pace.HANDLED", 30, "amber", "red", "red")
def test_the_first_messages_of_a_process(size, outcome):
    """A model that is loaded at the first call: until 30 have ended nobody knows what is usual."""
    assert light(**HANGS, in_hand_s=40.0, still_s=40.0, handled=size).state == outcome


@below_at_above("seconds until a loop that only polls is red: half of max.poll.interval", 20, "amber", "amber", "red")
def test_a_loop_that_sleeps(size, outcome):
    """It cannot be told from one that hangs, and says so."""
    known = {"only_polled": True, "member": False, "max_poll_interval_s": 40.0}
    found = light(**HANGS, **known, in_hand_s=size + 11, still_s=size + 11)
    late = light(**HANGS, **{**known, "max_poll_interval_s": 100.0}, in_hand_s=size + 30, still_s=size + 30)

    assert (found.state, late.state) == ("amber" if size < 20 else "red", outcome)
    assert found.why == f"not asked for {size + 11} s: works, sleeps or hangs; process() would tell"


@below_at_above("seconds that messages may be queued in the process", 10, "catching up", "catching up", "queue")
def test_workers_that_hang(size, outcome):
    """Delivered, begun by nobody."""
    found = light(caught_up_s=60.0, queued=4531, still_s=size, in_hand=1, in_hand_s=1.0)

    assert found.row == ("stuck in the process" if outcome == "queue" else outcome)
    assert outcome != "queue" or found.why == "4,531 delivered and not begun, none processed for 11 s"


@below_at_above("seconds that an open transaction may stand", 10, "green", "green", "amber")
def test_an_open_transaction(size, outcome):
    """It holds back what is behind it."""
    assert light(unstable=3000, stands_s=size).state == outcome


@below_at_above("verdict.pace.STANDS_RED_S", 60, "amber", "amber", "red")
def test_an_open_transaction_that_stays(size, outcome):
    """Red after a minute, or twice the longest that has ended."""
    found = light(unstable=3000, stands_s=size, longest_stand_s=5.0)

    assert found.state == outcome
    assert light(unstable=3000, stands_s=size, longest_stand_s=40.0).state == "amber"
    assert found.why.startswith("an open transaction holds back 3,000 messages for ")


@below_at_above("verdict.pace.FIRST_STAND_RED_S", 300, "amber", "amber", "red")
def test_the_first_open_transaction(size, outcome):
    """Nobody knows what is usual."""
    assert light(unstable=3000, stands_s=size).state == outcome


@below_at_above("seconds without an answer", 10, "caught up", "caught up", "no answer")
def test_no_broker_answers(size, outcome):
    """It asks, and nothing comes."""
    assert row(asking_s=size, unanswered_s=size, unmoved_s=size)[0] == outcome


@below_at_above("verdict.pace.UNANSWERED_RED_S", 60, "amber", "amber", "red")
def test_no_broker_answers_for_long(size, outcome):
    """Red after a minute."""
    assert light(asking_s=size, unanswered_s=size, unmoved_s=size).state == outcome


@below_at_above("seconds that a partition may be paused", 10, "caught up", "caught up", "paused")
def test_paused(size, outcome):
    """Shorter pauses are back-pressure."""
    assert row(paused_s=size, looked_s=25.0)[0] == outcome


@below_at_above("seconds that a consumer which asks may get nothing", 10, "catching up", "catching up", "not served")
def test_not_served(size, outcome):
    """Messages wait, it asks, and is handed out nothing."""
    assert row(**WAITS, still_s=size, unmoved_s=size, asking_s=40.0)[0] == outcome


@below_at_above("seconds that a consumer may not ask", 10, "catching up", "catching up", "does not ask")
def test_does_not_ask(size, outcome):
    """Messages wait, and nobody asks for them."""
    assert row(**WAITS, still_s=40.0, unmoved_s=40.0, unasked_s=size)[0] == outcome


@below_at_above("seconds that a message may be delivered and not done", 10, "caught up", "caught up", "behind")
def test_behind_in_the_process(size, outcome):
    """Of a pool that is too small."""
    found = light(queued=2790, in_hand=7, queued_s=size)

    assert found.row == ("behind in the process" if outcome == "behind" else outcome)
    assert found.why == (
        "2,797 messages delivered and not done"
        if outcome == "behind"
        else "handed out to the end 400 ms ago, 2,790 messages of it not begun yet"
    )


@below_at_above("seconds since it was caught up", 10, "caught up", "caught up", "catching up")
def test_caught_up(size, outcome):
    """Provably: by a fetch that found nothing more."""
    assert row(caught_up_s=size, waiting=3)[0] == outcome


@below_at_above(
    "seconds since it was caught up: the objective's threshold", 60, "caught up", "caught up", "catching up"
)
def test_caught_up_by_a_wide_objective(size, outcome):
    """Data may be that old."""
    assert row(threshold_s=60.0, caught_up_s=size, waiting=3)[0] == outcome


@below_at_above("verdict.pace.IDLE_S", 60, ("idle", "green"), ("idle", "green"), ("idle", "grey"))
def test_idle(size, outcome):
    """Nothing waited when it last looked; that gets old."""
    assert row(caught_up_s=size) == outcome


@below_at_above("verdict.pace.BUSY_S", 300, "caught up", "busy", "busy")
def test_busy(size, outcome):
    """It has worked nearly all the time for minutes."""
    found = light(busy_s=size, utilization=0.93, waiting=3)

    assert found.row == outcome
    assert outcome != "busy" or found.why.startswith("has worked 93 % of the time for ")


def test_never_caught_up_is_not_green():
    """A backlog from the start, though the last fetch is a moment old."""
    found = light(waiting=10_999, caught_up_s=inf, drain_s=130.0)

    assert (found.row, found.state, found.why) == ("catching up", "amber", "10,999 behind, drained in 2 min")


def test_falling_behind_says_since_when():
    """And not how it was."""
    found = light(waiting=500, caught_up_s=20.0, falling_s=60.0)

    assert (found.row, found.state) == ("falling behind", "amber")
    assert found.why.startswith("500 behind, more and more since ")


def test_a_partition_that_waits_while_others_move():
    """It is named."""
    found = light(waiting=2_800, caught_up_s=90.0, drain_s=8.0, starved=(3, 2_700))

    assert found.why == "2,800 behind, drained in 8 s; waits: 2,700 on partition 3"


def test_what_is_at_risk_is_amber_at_least():
    """Offsets were committed ahead of processing."""
    found = light(at_risk=200)

    assert (found.row, found.state) == ("caught up", "amber")
    assert found.why.endswith("; 200 messages committed and not processed: lost if the process dies now")


def test_the_worst_consumer_is_shown_and_named():
    """Of those that have partitions."""
    well, behind = ConsumerPace(**WELL, client_id="a"), ConsumerPace(**{**WELL, **WAITS}, client_id="b")
    found = light(consumers=(well, behind))
    without = light(consumers=(well, ConsumerPace(age_s=99.0, client_id="c")))

    assert (found.state, found.why) == ("amber", "b: 9 behind, not getting less")
    assert (without.state, without.why) == ("green", "a: caught up 400 ms ago, 0 behind")


def test_no_consumer():
    """Nothing is known."""
    assert row(consumers=(ConsumerPace(),)) == ("no evidence", "grey")


WORDS = {
    "ok": {},
    "behind": {"waiting": 9, "caught_up_s": 20.0},
    "stuck": {**HANGS, "in_hand_s": 11.0, "still_s": 11.0},
    "not asking": {"unasked_s": 200.0},
    "not served": {**WAITS, "still_s": 11.0, "unmoved_s": 11.0, "asking_s": 11.0},
    "paused": {"paused_s": 11.0},
    "unknown": {"assigned": 0},
}


@pytest.mark.parametrize("word", STATUSES)
def test_each_word(word):
    """Each of the seven comes from a row."""
    assert status(light(**WORDS[word])) == word


def test_each_row_has_a_word():
    """Grey is `unknown`, whatever the row."""
    assert set(CONSUMER.rows) - {"no evidence"} == set(_STATUS)


def test_the_figures():
    """What is known, and nothing in place of what is not."""
    known = light(waiting=3, queued=2, in_hand=1, caught_up_s=0.4, utilization=0.25, drain_s=1.5)
    unknown = light(waiting=3, caught_up_s=inf)

    assert known.figures == {"behind": 6, "lag": 3, "caught_up_age_s": 0.4, "utilization": 0.25, "drain_time_s": 1.5}
    assert unknown.figures == {"behind": 3, "lag": 3}


def test_times_in_words():
    """When it leaves the group, and since when it falls behind."""
    leaves = light(unasked_s=180.0, max_poll_interval_s=300.0)
    falls = light(caught_up_s=90.0, waiting=7, falling_s=60.0)

    assert leaves.why == "has not asked for 3 min: leaves the group in 2 min"
    assert falls.why == f"7 behind, more and more since {words.clock(1_800_000_000.0 - 60.0)}"


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({"waiting": 3}, "not served"),
        ({"waiting": 0, "caught_up_s": 30.0}, "idle"),
        ({"waiting": 3, "in_hand": 1, "in_hand_s": 1.0}, "catching up"),
        ({"waiting": 3, "asking_s": 0.0}, "catching up"),
    ],
)
def test_who_is_not_served(known, found):
    """Something waits, it asks for it, and has nothing in hand."""
    asks = {"asking_s": 60.0, "still_s": 60.0, "unmoved_s": 60.0, "caught_up_s": 90.0}

    assert row(**{**asks, **known})[0] == found
