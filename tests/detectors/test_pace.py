"""How far behind a consumer is: the interval contains the truth, whatever happens."""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import accumulate
from math import inf

import pytest

from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.detectors.pace import MAX_POINTS, Moved, PartitionPace, Rates, TimeLag


@pytest.mark.parametrize(
    ("name", "write_every_s", "read_every_s", "stall"),
    [
        ("healthy", 0.05, 0.01, None),
        ("slow", 0.05, 0.09, None),
        ("stalled for 120 s", 0.05, 0.01, (100, 220)),
        ("sparse", 30.0, 0.01, None),
        ("as fast as it can", 0.02, 0.02, None),
    ],
)
def test_the_interval_contains_the_truth_in_every_check(name, write_every_s, read_every_s, stall):
    """A simulated log, fetched every 0.5 s at most and only while the consumer polls; latencies vary."""
    dice = random.Random(name)
    written = list(accumulate(write_every_s * dice.uniform(0.5, 1.5) for _ in range(int(500 / write_every_s))))
    pace = PartitionPace(0.0)
    position, end, now, next_fetch, next_read, checked = 0, 0, 0.0, 0.0, 0.0, 0
    while now < 400:
        now += 0.01
        polling = stall is None or not stall[0] < now < stall[1]
        if polling and now >= next_fetch and end - position < 100:
            sent, served = now, now + dice.uniform(0.001, 0.02)
            now = served + dice.uniform(0.001, 0.02)
            was, end = end, bisect_right(written, served)
            pace.fetched(
                sent, now, position, None if end == was and pace.end is not None and dice.random() < 0.5 else end
            )
            next_fetch = now + dice.uniform(0, 0.5)
        if polling and now >= next_read and position < end:
            position += 1
            next_read = now + read_every_s
        lag = pace.time_lag(position, now)
        if lag is not None and dice.random() < 0.1:
            checked += 1
            truth = max(0.0, now - written[position])
            assert lag.lower - 1e-9 <= truth <= lag.upper + 1e-9, (name, now, truth, lag)
    assert checked > 1000


def test_a_consumer_that_began_behind_was_never_caught_up():
    """No fetch has seen the log without the next message: there is no upper bound, and the age grows from the start."""
    pace = PartitionPace(10.0)
    pace.fetched(10.0, 10.1, 0, 500)

    assert pace.lag(0) == 500
    assert pace.time_lag(0, 20.0) == TimeLag(pytest.approx(9.9), inf)
    assert pace.caught_up_age(0, 20.0) == 10.0


def test_no_fetch_is_no_evidence():
    """Unknown is not zero."""
    pace = PartitionPace(0.0)

    assert (pace.lag(0), pace.time_lag(0, 5.0), pace.read_to_the_end_at(0)) == (None, None, None)


def test_points_are_bounded_and_stay_sound():
    """Ten thousand different ends keep at most 64 points; intervals get wider, never wrong."""
    pace = PartitionPace(0.0)
    for at in range(10_000):
        pace.fetched(float(at), at + 0.5, 0, at + 1)

    assert len(pace._points) <= MAX_POINTS
    for position in (1, 5_000, 9_990, 9_999):
        lag = pace.time_lag(position, 10_000.0)
        assert lag.lower <= 10_000 - position <= lag.upper


def test_a_log_that_is_shorter_than_it_was_is_another_log():
    """The destination was made again, or has lost its end."""
    pace = PartitionPace(0.0)
    pace.fetched(1.0, 1.1, 0, 500)
    pace.fetched(2.0, 2.1, 0, 3)

    assert pace.lag(0) == 3
    assert pace.lag(3) == 0


def test_a_gap_is_given_up_when_the_end_was_read_late_enough_after_it():
    """Rule 7: the fetch that found nothing was sent at least `lost_after` after the gap was seen."""
    now = [100.0]
    order = PartitionOrder(7, lambda: now[0])
    pace = PartitionPace(0.0)
    pace.watched_by(order)
    for offset, number in enumerate((1, 2, 5)):
        order.one(offset, 9, number, 7)
    assert (order.open, order.missing_before_broker) == (2, 0)

    pace.fetched(101.0, 101.5, 3, 3)
    for _ in range(3):
        pace.look(3, 101.6, 5.0)
    assert order.open == 2, "too early"
    pace.fetched(105.1, 105.6, 3, None)
    pace.look(3, 105.7, 5.0)

    assert (order.open, order.missing_before_broker) == (0, 2)


def test_a_gap_is_given_up_though_messages_never_stop_coming():
    """Rule 7 on a topic with a message between any two looks, which a consumer that keeps pace reads at once."""
    now = [0.0]
    order = PartitionOrder(7, lambda: now[0])
    pace = PartitionPace(0.0)
    pace.watched_by(order)
    found = []
    for offset in range(10):
        now[0] = float(offset)
        order.one(offset, 9, offset + 1 + (offset >= 3), 7)
        pace.fetched(offset + 0.1, offset + 0.9, offset + 1, offset + 2)
        pace.look(offset + 1, offset + 0.95, 3.0)
        found.append(order.missing_before_broker)

    # Seen at 3.0. The fetch that was sent at 6.1 found the end at 8; at 7.95 the position is there, at 8.95 it was.
    assert found == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_a_gap_of_a_busy_partition_is_given_up_too():
    """Messages keep coming, so the position never stands still: that a fetch found the log's end is enough."""
    now = [0.0]
    order = PartitionOrder(7, lambda: now[0])
    pace = PartitionPace(0.0)
    pace.watched_by(order)
    missing = []
    for second in range(10):
        now[0] = float(second)
        # Number 3 never comes. Each fetch finds one message, and with it the log's end.
        order.one(second, 9, second + 1 + (second > 1), 7)
        pace.fetched(second - 0.1, second, second, second + 1)
        pace.look(second + 1, now[0] + 0.5, 5.0)
        missing.append(order.missing_before_broker)

    # The gap was seen at 2 s, a fetch of 7.9 s found the end; at the look after it has been counted.
    assert missing == [0] * 9 + [1]


def test_a_consumer_that_is_far_behind_gives_up_nothing():
    """What is missing may be among the messages that it has not read."""
    order = PartitionOrder(7, lambda: 0.0)
    pace = PartitionPace(0.0)
    pace.watched_by(order)
    for offset, number in enumerate((1, 3, 4, 5)):
        order.one(offset, 9, number, 7)
        pace.fetched(100.0 + offset, 100.1 + offset, offset, 50)
        pace.look(offset + 1, 100.2 + offset, 5.0)

    assert (order.open, order.missing_before_broker) == (1, 0)


def test_a_gap_stays_open_while_there_is_more_to_read():
    """The missing number may be in what has not been read yet."""
    order = PartitionOrder(7, lambda: 0.0)
    pace = PartitionPace(0.0)
    pace.watched_by(order)
    for offset, number in enumerate((1, 3)):
        order.one(offset, 9, number, 7)
    pace.fetched(100.0, 100.1, 2, 3)
    pace.look(2, 100.2, 5.0)
    pace.look(2, 101.2, 5.0)

    assert (order.open, order.missing_before_broker) == (1, 0)


def test_what_retention_took_before_the_first_message_is_expired():
    """The position was out of range before anything was delivered: a consumer that was down for too long."""
    order = PartitionOrder(7, lambda: 0.0)
    pace = PartitionPace(0.0)
    pace.out_of_range(100, "earliest")
    pace.fetched(1.0, 1.1, 150, 160)
    pace.watched_by(order)
    order.one(150, 9, 1, 7)

    assert (order.missing_expired, order.missing_before_broker) == (50, 0)


def test_a_position_that_another_replica_has_is_not_out_of_range():
    """A follower may lag behind; the leader finds the position."""
    order = PartitionOrder(7, lambda: 0.0)
    pace = PartitionPace(0.0)
    pace.watched_by(order)
    order.one(99, 9, 1, 7)
    pace.out_of_range(100, "latest")
    pace.fetched(1.0, 1.1, 100, 160)
    order.one(105, 9, 2, 7)

    assert order.missing_offset_reset == 0


def test_looks_tell_how_far_log_and_consumer_moved():
    """Two looks: what was written and read between; a position that goes back is told as such."""
    pace = PartitionPace(0.0)
    pace.fetched(0.0, 0.1, 0, 10)
    assert pace.look(4, 1.0, 5.0) == Moved(0, 0)
    pace.fetched(1.0, 1.1, 4, 30)
    assert pace.look(14, 2.0, 5.0) == Moved(20, 10)
    assert pace.look(2, 3.0, 5.0) == Moved(0, -12)


def test_rates_forecast_when_a_backlog_is_gone():
    """Reading twice as fast as is written: a lag of 100 lasts 10 s; reading no faster drains nothing."""
    rates = Rates()
    for _ in range(200):
        rates.count(10, 20, 0.5, 1.0)
    assert rates.drain_time_s(100) == pytest.approx(10.0)
    assert rates.utilization == pytest.approx(0.5)
    for _ in range(400):
        rates.count(20, 20, 1.0, 1.0)
    assert rates.drain_time_s(100) is None
    assert rates.drain_time_s(0) == 0.0
