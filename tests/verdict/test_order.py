"""In order, row by row of the table, from what was counted: each limit just below, at, just above."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors.flow_pace import Pace
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
    REWOUND,
    SKIPPED,
    SKIPPED_OFFSETS,
    TURNED_AWAY,
    UNNUMBERED,
    UNPLACED,
)
from otel_pipeline.detectors.partition import HEADER_MISSING, HEADER_OK, MESSAGES
from otel_pipeline.detectors.producer_window import Between
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.detectors.shared import SHARED
from otel_pipeline.detectors.times import EVENT_TIME_REGRESSION
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.case import Case, Minimums
from otel_pipeline.verdict.evidence import Evidence, Freshness
from otel_pipeline.verdict.history import History
from otel_pipeline.verdict.lights import ORDER
from otel_pipeline.verdict.verdict import Verdict
from tests.limits import below_at_above

KEY = FlowKey("k1", "orders", "scorer")


def evidence(messages=1000, counts=None, **parts):
    """A flow in order, but for what is said."""
    return Evidence(KEY, Sums({MESSAGES: messages, HEADER_OK: messages, **(counts or {})}), **parts)


def light(messages=1000, counts=None, events=None, minimum=100, **parts):
    """The light of what was counted within the last minutes."""
    found = evidence(messages, counts, **parts)
    counted = History().counts(found.counts)
    return ORDER.read(
        Case(
            found,
            counted,
            HealthSettings(),
            Minimums(order=minimum),
            {300.0: counted},
            {},
            events or {},
            wall_s=1_800_000_000.0,
        )
    )


def row(*given, **parts):
    """The row that holds, and the colour."""
    found = light(*given, **parts)
    return found.row, found.state


GREEN = ("in order", "green")
AGAIN = {REORDERED: 1, DUPLICATE: 2}
AMBER = ("reordered or sent again", "amber")


def test_all_is_well():
    """Each but the first of its producer was compared with one before it."""
    found = light(counts={FIRSTS: 1})

    assert (found.row, found.state, found.why) == (*GREEN, "1,000 messages in order, none missing")
    assert (found.judged, found.seen) == (999, 1000)


@pytest.mark.parametrize(
    ("event", "counts", "expected"),
    [
        (None, {BEFORE_BROKER: 0}, GREEN),
        ("red", {BEFORE_BROKER: 1}, ("missing", "red")),
        ("red", {EXPIRED: 1}, ("missing", "red")),
        ("amber", {BEFORE_BROKER: 1}, ("missing lately", "amber")),
        (None, {BEFORE_BROKER: 1}, GREEN),
    ],
)
def test_a_loss_is_an_event(event, counts, expected):
    """One is red for five minutes, however few messages there were, and amber for an hour."""
    assert row(counts=counts, events={"missing": event}) == expected


def test_a_loss_of_another_hour_hides_no_disorder_of_now():
    """Red is looked for first."""
    counts = {BEFORE_BROKER: 1, REORDERED: 3}

    assert row(counts=counts, events={"missing": "amber"}, ordered=True) == ("out of order", "red")


def test_what_is_missing_is_said_with_its_place():
    """And that an application that sent again what it was told had failed has lost nothing."""
    places = [(0, Between(411, 412)), (3, Between(17, 29))]
    found = light(counts={BEFORE_BROKER: 6}, events={"missing": "red"}, missing_places=places)

    assert found.why == (
        "6 numbers never came (or were sent again by the application): "
        "between offsets 17 and 29 of partition 3, and at 1 more place"
    )
    assert found.look == "errors of the producers (messaging.client.sent.messages by error.type), and relays between"


def test_a_loss_names_the_sends_that_this_process_was_told_had_failed():
    """Rule 9."""
    counts = {BEFORE_BROKER: 1, EXPIRED: 0}
    found = light(counts=counts, events={"missing": "red"}, refused_sends={"KafkaTimeoutError": 3, "Z": 1})

    assert found.why == "1 number never came (or was sent again by the application)"
    assert found.look == "failed sends of this process: 3 x KafkaTimeoutError, 1 x Z"


def test_what_retention_has_deleted():
    """Beside what never came."""
    found = light(counts={BEFORE_BROKER: 2, EXPIRED: 700}, events={"missing": "red"}, refused_sends={"Z": 1})

    assert found.why == (
        "2 numbers never came (or were sent again by the application); "
        "700 messages were deleted by retention before they were read"
    )
    assert found.look == "retention of the topic, and how long the consumer was down"


@pytest.mark.parametrize(
    ("counts", "ordered", "expected"),
    [
        ({}, True, GREEN),
        ({REORDERED: 1}, True, AMBER),
        ({DUPLICATE: 2}, True, AMBER),
        (AGAIN, True, ("out of order", "red")),
        (AGAIN, False, AMBER),
        ({REORDERED: 1}, False, AMBER),
    ],
)
def test_disorder_is_red_where_order_is_demanded(counts, ordered, expected):
    """Three cases at least; without `ordered: true` it is amber however many there are."""
    assert row(counts=counts, ordered=ordered) == expected


@below_at_above("disorder in a million messages", 120, "amber", "red", "red")
def test_so_much_disorder_has_to_be_certain(size, outcome):
    """The lower bound of the share lies above 100 of a million: with a million messages from 120 on."""
    assert light(1_000_000, counts={REORDERED: size}, ordered=True).state == outcome


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({REORDERED: 1}, "1 came after a later one, of 1,000 messages"),
        ({DUPLICATE: 1}, "1 was sent again, of 1,000 messages"),
        ({REORDERED: 3, DUPLICATE: 2}, "3 came after a later one, 2 were sent again, of 1,000 messages"),
    ],
)
def test_a_retry_is_no_duplicate(counts, why):
    """The same number later in the log: its producer was not answered."""
    found = light(counts=counts)

    assert (found.why, found.look) == (
        why,
        "producers without idempotence, or a relay that repeats (client.hazard)",
    )


@pytest.mark.parametrize(
    ("waiting", "places", "expected"),
    [
        (0, [], "1,000 messages in order, none missing"),
        (1, [(2, Between(5, 6))], "1 message has not come yet: between offsets 5 and 6 of partition 2"),
        (
            9,
            [(2, Between(5, 6)), (2, Between(8, 1_200)), (0, Between(1, 2))],
            "9 messages have not come yet: between offsets 5 and 6 of partition 2, and at 2 more places",
        ),
    ],
)
def test_an_open_gap_names_its_offsets(waiting, places, expected):
    """The oldest one."""
    found = light(counts={OPEN: waiting}, open_places=places)

    assert (found.row, found.state, found.why) == (*(("gap", "amber") if waiting else GREEN), expected)


@pytest.mark.parametrize("event", [None, "red", "amber"])
def test_a_log_that_was_cut_stays_amber_for_an_hour(event):
    """What was read is gone: others never get it."""
    found = light(counts={CUT: 1_200}, events={"log cut": event})

    assert (found.row, found.state) == (("log cut", "amber") if event else GREEN)
    assert not event or found.why == "the log was cut: 1,200 messages that were read are gone"
    assert light(counts={CUT: 1}, events={"log cut": "red"}).why == ("the log was cut: 1 message that was read is gone")


@pytest.mark.parametrize("event", [None, "red", "amber"])
def test_a_gap_that_was_left_open_stays_amber_for_an_hour(event):
    """It was not given up: somebody else may have got the rest."""
    found = light(counts={LEFT_OPEN: 2}, events={"left open": event})

    assert (found.row, found.state) == (("gap left open", "amber") if event else GREEN)
    assert not event or found.why == "2 messages had not come when the consumer closed or lost the partition"


@pytest.mark.parametrize(
    ("count", "name", "expected", "why"),
    [
        (
            EVENT_TIME_REGRESSION,
            "older than before",
            "amber",
            "1 of 1,000 messages are older than one before them",
        ),
        (
            CONCURRENT_KEY,
            "same key at once",
            "amber",
            "1 message was processed beside another one with the same key",
        ),
        (
            OFFSET_RESET,
            "skipped at a reset",
            "amber",
            "1 message was skipped: the position was gone, and auto_offset_reset is latest",
        ),
        (
            SKIPPED,
            "skipped at the beginning",
            "amber",
            "1 message was skipped at the beginning of a new partition",
        ),
        (
            SHARED,
            "share group",
            "grey",
            "not known: a share group hands each message to one of its consumers, in no order",
        ),
        (UNPLACED, "read by extract()", "grey", "1 message was read by extract(): their place in the log is not known"),
    ],
)
def test_one_is_enough(count, name, expected, why):
    """And of none nothing is said."""
    found = light(counts={count: 1})

    assert (found.row, found.state, found.why) == (name, expected, why)
    assert found.look
    assert row(counts={count: 0}) == GREEN


@pytest.mark.parametrize(
    ("messages", "again", "expected"),
    [
        (1000, 10, GREEN),
        (1000, 11, ("delivered again", "amber")),
        (100, 2, GREEN),
        (100, 3, ("delivered again", "amber")),
    ],
)
def test_redelivery_is_amber_over_one_per_cent(messages, again, expected):
    """And three at least."""
    assert row(messages, counts={REDELIVERED: again}) == expected


def test_what_was_read_again_is_judged():
    """It was compared the first time."""
    assert row(counts={REWOUND: 900}) == GREEN


@below_at_above("messages that the light needs", 100, ("too few", "grey"), GREEN, GREEN)
def test_few_messages(size, outcome):
    """Fewer than 100 within a day say little about so small a share."""
    assert row(size) == outcome


def test_few_messages_are_counted_up():
    """So that it is seen how long it will take."""
    assert light(42).why == "too few yet: 42 of 100 messages in 24 h"


SAID = {
    BY_DESTINATION: (
        "numbers of no partition",
        "whether any is missing is not known: 101 of 1,000 messages have no number of a partition",
    ),
    UNNUMBERED: (
        "numbers of no partition",
        "whether any is missing is not known: 101 of 1,000 messages have no number of a partition",
    ),
    FIRSTS: ("nothing to compare", "101 of 1,000 messages are the first of their producer: nothing to compare"),
    TURNED_AWAY: ("too many producers", "101 of 1,000 messages come from more producers than are followed"),
}


@below_at_above("messages that are not judged, of 1,000", 100, "green", "green", "grey")
@pytest.mark.parametrize("kind", SAID, ids=str)
def test_no_green_where_a_tenth_was_not_compared(kind, size, outcome):
    """By what kept them from it."""
    found = light(counts={kind: size})

    assert (found.state, found.judged, found.seen) == (outcome, 1000 - size, 1000)
    assert outcome == "green" or (found.row, found.why) == SAID[kind]
    assert outcome == "green" or found.look


@below_at_above("messages without a number, of 1,000", 100, "green", "green", "grey")
def test_messages_without_a_header(size, outcome):
    """Of producers that are not instrumented."""
    found = light(counts={HEADER_OK: 1000 - size, HEADER_MISSING: size})

    assert (found.state, found.judged) == (outcome, 1000 - size)
    assert outcome == "green" or found.why == "only 899 of 1,000 messages say which number they have"


@below_at_above("numbers that are excused, of 900 messages", 100, "green", "green", "grey")
def test_excused_numbers_are_seen_and_not_judged(size, outcome):
    """They may have been messages."""
    found = light(900, counts={EXCUSED: size, SKIPPED_OFFSETS: 6_000})

    assert (found.state, found.judged, found.seen) == (outcome, 900, 900 + size)
    assert outcome == "green" or (found.row, found.why) == (
        "excused",
        "101 numbers excused by 6,000 skipped offsets: whether they were lost is not known",
    )


@below_at_above("numbers that are not followed, of 900 messages", 100, "green", "green", "grey")
def test_numbers_that_are_not_followed_are_seen_and_not_judged(size, outcome):
    """They may have been messages, too."""
    found = light(900, counts={NOT_FOLLOWED: size})

    assert (found.state, found.judged, found.seen) == (outcome, 900, 900 + size)
    assert outcome == "green" or (found.row, found.why) == (
        "too many gaps",
        "101 numbers may be lost: those of 4,096 producers of this process are followed",
    )


def test_the_reason_that_most_are_not_judged_for_is_given():
    """Where there are several."""
    counts = {FIRSTS: 60, TURNED_AWAY: 70, UNNUMBERED: 50, EXCUSED: 65}

    assert light(counts=counts).row == "too many producers"


@pytest.mark.parametrize("counts", [{REORDERED: 1}, {OPEN: 1}, {REDELIVERED: 100}, {OFFSET_RESET: 1}, {SKIPPED: 1}])
def test_amber_is_looked_for_before_grey(counts):
    """Though most of the messages could not be compared."""
    assert light(counts={**counts, FIRSTS: 900}).state == "amber"


@pytest.mark.parametrize(
    ("quiet_s", "grown", "expected"),
    [(60.0, 9, GREEN), (60.1, 9, ("nothing judged", "grey")), (600.0, 0, GREEN), (86_401.0, 0, ("quiet", "grey"))],
)
def test_evidence_ages_only_where_the_log_grows(quiet_s, grown, expected):
    """Else all that exists was judged, until a day is over."""
    assert row(freshness=Freshness(quiet_s=quiet_s), pace=Pace(grown=grown)) == expected


def test_events_are_remembered_by_the_verdict():
    """Losses, and gaps that nobody closed: red or amber for five minutes, amber for an hour."""
    lost, lesser = ["red", "amber", "green"], ["amber", "green"]
    for count, states in ((BEFORE_BROKER, lost), (EXPIRED, lost), (LEFT_OPEN, lesser), (CUT, lesser)):
        verdict, seen = Verdict(HealthSettings()), []
        for second in range(4_200):
            found = evidence(counts={count: int(second >= 10)})
            (flow,) = verdict.judge([found], float(second), float(second))
            if flow.lights["order"].state not in seen[-1:]:
                seen.append(flow.lights["order"].state)

        assert seen == ["green", *states]


def test_figures_say_what_is_known():
    """As the state file has them."""
    counts = {BEFORE_BROKER: 3, EXPIRED: 4, OPEN: 2, REORDERED: 5, DUPLICATE: 6, REDELIVERED: 7}
    found = light(counts=counts, at_risk=8)

    assert found.figures == {
        "missing": 7.0,
        "open": 2.0,
        "reordered": 5.0,
        "duplicate": 6.0,
        "redelivered": 7.0,
        "event_time_regression": 0.0,
        "at_risk": 8.0,
    }
