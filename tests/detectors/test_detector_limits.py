"""Bounds of the detectors: how far back they remember, when they give up, and what is no time any more."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors import event_time
from otel_pipeline.detectors.environments import PartitionEnvironments
from otel_pipeline.detectors.event_time import milliseconds, rfc3339_ms
from otel_pipeline.detectors.freshness import PartitionFreshness
from otel_pipeline.detectors.keys_in_hand import KeysInHand
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.detectors.pace import PartitionPace
from otel_pipeline.detectors.producer_numbers import Room
from otel_pipeline.engine.pipeline_header import encode
from otel_pipeline.engine.totals import Totals
from tests.limits import below_at_above

TAG = 7


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def order(clock):
    return PartitionOrder(TAG, clock)


def read(order, *numbers, producer=1):
    for number in numbers:
        order.one(order.highest + 1 if order.highest >= 0 else 0, producer, number, TAG)


@below_at_above("detectors.producer_window.WINDOW", 1_024, (1, 0), (0, 1), (0, 1))
def test_a_message_that_comes_late(order, size, outcome):
    """Up to 1,023 numbers late it is reordered; later it was counted as missing, and that stays."""
    read(order, 1, 3, *range(4, size + 3))
    read(order, 2)

    assert (order.reordered, order.missing_before_broker) == outcome


@below_at_above("the time after which a gap is given up", 10, (0, 1), (1, 0), (1, 0))
def test_a_gap_that_is_given_up(order, clock, size, outcome):
    """When the log was read to its end so long after the gap was seen."""
    clock.now_s = 5.0
    read(order, 1, 3)
    order.ended(5.0 + size, 10.0)

    assert (order.missing_before_broker, order.open) == outcome


@below_at_above("detectors.producer_numbers.MAX_PRODUCERS", 4_096, (0, 1), (0, 1), (1, 1))
def test_producers_of_a_partition(order, size, outcome):
    """4,096 are followed; of one that comes then every message is turned away, and the others are compared on."""
    for producer in range(1, size + 1):
        read(order, 1, producer=producer)
    read(order, 3)

    assert (order.turned_away, order.open) == outcome


@below_at_above("detectors.producer_numbers.MAX_ALL_PRODUCERS", 65_536, (0, 2), (1, 1), (2, 0))
def test_producers_of_a_process(clock, size, outcome):
    """65,536 are followed together, of either kind; those beyond are turned away."""
    room = Room()
    order = PartitionOrder(TAG, clock, TAG + 1, room)
    room.taken = size - 1
    read(order, 1)
    order.one_of_destination(1, 2, 1, TAG + 1)

    assert (order.turned_away, order.followed) == outcome


@below_at_above("detectors.producer_numbers.SILENT_S", 600, 4_096, 3_996, 3_996)
def test_producers_that_have_fallen_silent(order, size, outcome):
    """A hundred of a full table say nothing any more, while others speak: after 10 min they make room."""
    for producer in range(1, 4_097):
        read(order, 1, producer=producer)
    order.look(0.0)
    for second in range(1, size + 1):
        for producer in range(101, 4_097) if second == 1 else range(101, 102):
            read(order, second + 1 if producer == 101 else 2, producer=producer)
        order.look(float(second))

    assert order.followed == outcome


@below_at_above("detectors.producer_window.MAX_GAPS", 8, 7, 8, 8)
def test_gaps_of_a_producer(order, clock, size, outcome):
    """Eight are told apart; the newest are given up together, no message of them too early."""
    read(order, 1)
    for gap in range(size):
        clock.now_s = float(gap)
        read(order, 3 + 2 * gap)
    (window,) = order._windows.values()

    assert (len(window.gaps), order.open) == (outcome, size)


@below_at_above("detectors.producer_window.MAX_PLACES", 8, (7, (0, 1)), (8, (0, 1)), (8, (1, 2)))
def test_places_of_what_is_missing(order, size, outcome):
    """The latest eight are remembered."""
    read(order, 1)
    for gap in range(size):
        read(order, 3 + 2 * gap)
        order.close()

    assert (len(order.missing_places), order.missing_places[0]) == outcome
    assert order.missing_places[-1] == (size - 1, size)


@below_at_above("detectors.producer_window.NUMBERS", 0xFFFF_FFFF, 0, 0, 1)
def test_numbers_that_begin_again(order, size, outcome):
    """1 follows the last one; where it does not, the numbers between are missing."""
    read(order, 0xFFFF_FFFD, 0xFFFF_FFFE)
    if size > 0xFFFF_FFFE:
        read(order, 0xFFFF_FFFF)
    read(order, {0xFFFF_FFFE: 0xFFFF_FFFF, 0xFFFF_FFFF: 1, 0x1_0000_0000: 2}[size])

    assert (order.open, order.reordered, order.duplicate) == (outcome, 0, 0)


@below_at_above("detectors.pace.MAX_POINTS", 64, 63, 64, 49)
def test_fetches_that_are_remembered(size, outcome):
    """64; of more every second one of the older half goes."""
    pace = PartitionPace(0.0)
    for at in range(size):
        pace.fetched(float(at), at + 0.5, 0, at + 1)

    assert (len(pace._points), pace.end) == (outcome, size)


@below_at_above("detectors.keys_in_hand.MAX_KEYS", 10_000, 1, 0, 0)
def test_messages_whose_keys_are_compared(size, outcome):
    """10,000 in hand at once; those beyond are not compared."""
    keys = KeysInHand(lambda message: message)
    for at in range(size):
        keys.began(at, at)
    keys.began(-1, 0)

    assert keys.concurrent == outcome


@below_at_above("detectors.partition.MAX_IN_FLIGHT", 10_000, 9_999, 10_000, 10_000)
def test_messages_in_hand_that_a_commit_is_compared_with(watching, size, outcome):
    """10,000 in hand at once; of those beyond nobody knows that they were below it."""
    watch = watching().deliver()
    for offset in range(size):
        watch.began(offset, None)
    watch.committed(size, None)

    assert watch.ahead == outcome


def header(environment):
    said = {"flags": 0, "hops": 1, "origin_ms": 1, "newest_ms": 1, "path": 1, "producer_id": 1, "sequence": 1}
    return encode(environment=environment, tag=1, **said)


@below_at_above("detectors.environments.MAX_ENVIRONMENTS", 8, {"e6": 1}, {"e7": 1}, {"_other": 1})
def test_environments_by_name(size, outcome):
    """Eight, and all others together."""
    environments = PartitionEnvironments("production", {})
    for at in range(size):
        environments.other(255, header(f"e{at}"))

    assert dict([environments.visitors.popitem()]) == outcome


@below_at_above("bytes of an environment's name in a header", 16, {}, {}, {})
def test_an_own_name_that_is_cut_is_no_strangers(size, outcome):
    """15, 16 and 17 bytes: what a header has of the process's own name is compared with what it would write."""
    name = "x" * size
    environments = PartitionEnvironments(name, {"y" * size: "reject"}, raises=True)
    environments.other(255, header(name))

    assert environments.visitors == outcome
    assert [environments.rejection(header(other * size)) is None for other in "xyz"] == [True, False, True]


@below_at_above("detectors.event_time.MAX_CHARACTERS", 64, 1_000, 1_000, 0)
def test_the_characters_of_a_time(size, outcome):
    """64; what is longer is none."""
    text = "1970-01-01T00:00:01." + "0" * (size - 21) + "Z"

    assert (rfc3339_ms(text), rfc3339_ms(text.encode())) == (outcome, outcome)


@below_at_above("detectors.event_time.LATEST_MS", 1 << 47, (1 << 47) - 1, 0, 0)
def test_the_latest_time(size, outcome):
    """What is later comes from a broken clock."""
    assert milliseconds(size / 1000) == outcome


@pytest.mark.parametrize(("time_s", "found_ms"), [(0, 0), (0.001, 1), (-1, 0)])
def test_the_earliest_time(time_s, found_ms):
    """1970; 0 is unknown."""
    assert milliseconds(time_s) == found_ms


@below_at_above("detectors.event_time._MAX_MINUTES", 1_000, 1_000, 1, 1)
def test_minutes_that_are_remembered(monkeypatch, size, outcome):
    """A thousand; then it begins anew."""
    minutes = dict.fromkeys(range(size), 0)
    monkeypatch.setattr(event_time, "_minutes", minutes)
    rfc3339_ms("1970-01-01T00:01:00Z")

    assert len(minutes) == outcome


@below_at_above("detectors.freshness.TOLERANCE_MS", 5, (1, 0), (1, 0), (0, 1))
def test_ages_below_zero(size, outcome):
    """Within 5 ms they are 0; beyond, a clock is wrong, and the age is not known."""
    age = Totals().histogram("age", "s", "", (1.0,))
    freshness = PartitionFreshness(age.cell({}), age.local({}))
    freshness.delivered(1_000 + size, 1_000, 0)

    assert (age.total({}).bucket_counts[0], freshness.negative_ages) == outcome
