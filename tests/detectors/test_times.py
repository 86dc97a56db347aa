"""More times of a partition: what is kept and counted, by whom it is asked for, and what it is worth when it is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from otel_pipeline.detectors.environments import PartitionEnvironments
from otel_pipeline.detectors.extended_watch import watch_with
from otel_pipeline.detectors.freshness import PartitionFreshness
from otel_pipeline.detectors.objectives import ObjectiveCounts
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.detectors.settings import Objective
from otel_pipeline.detectors.times import AHEAD_MS, MAX_PENDING, PartitionTimes, Wanted
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals

NOW_MS = 1_795_435_200_000
BUCKETS = (0.1, 1, 10, 100)


class Watch:
    """A watch with times whose messages are (offset, sent, event): ms before now; None is unknown."""

    def __init__(self, *, age=True, wait=False, ordered=False, threshold_s=1.0):
        self.totals = Totals()
        self.now_ns = 1
        self.objective = ObjectiveCounts(
            Objective("seen", threshold_s=threshold_s, objective=0.9, age="event", destination="orders"),
            self.totals.counter("objectives", "", ""),
        )
        self.cells = {name: self.totals.histogram(name, "s", "", BUCKETS) for name in ("age", "wait", "late", "other")}
        wanted = Wanted(
            lambda message: 0 if message.event is None else NOW_MS - message.event,
            self.cells["age"].local({}) if age else None,
            (self.objective,) if age else (),
            self.cells["wait"].local({}) if wait else None,
            self.cells["late"].local({}) if ordered else None,
            lambda: self.now_ns,
        )
        fields = MessageFields(
            destination=lambda _: "orders",
            partition=lambda _: 0,
            offset=lambda message: message.offset,
            timestamp_ms=lambda message: NOW_MS - message.sent,
            key=lambda _: None,
            headers=lambda _: (),
            value=lambda _: None,
            body_bytes=lambda _: 0,
        )
        other = self.cells["other"]
        self.times = PartitionTimes(fields, wanted)
        self.watch = watch_with(
            fields,
            [(Guard().place("times"), self.times)],
            order=PartitionOrder(0, lambda: 0.0),
            freshness=PartitionFreshness(other.cell({}), other.local({})),
            environments=PartitionEnvironments(None, {}),
        )

    @staticmethod
    def message(offset, sent=0, event=None):
        return SimpleNamespace(offset=offset, sent=sent, event=event)

    def one(self, offset, sent=0, event=None):
        message = self.message(offset, sent, event)
        self.watch.one(message, offset, NOW_MS - sent, None, None, NOW_MS)
        return message

    def batch(self, *messages):
        made = [self.message(*each) for each in messages]
        self.watch.batch(made, [None] * len(made), NOW_MS)

    def values(self):
        """Met, missed and unknown cases of the objective."""
        found = self.objective.evidence()
        return found.met, found.missed, found.unknown

    def recorded(self, name):
        """Count and sum."""
        total = self.cells[name].total({})
        return sum(total.bucket_counts), round(total.sum, 3)


def test_the_age_of_an_event():
    """At the end of processing, exactly; an unknown one and one that is to come are unknown to the objective."""
    watch = Watch()
    for offset, event in enumerate([500, 2_000, None, -10_000, -3]):
        watch.one(offset, event=event)
        watch.watch.processed(offset, 0, NOW_MS)

    assert watch.recorded("age") == (3, 2.5)
    assert watch.values() == (2, 1, 2)


def test_a_pull_that_nobody_says_more_of():
    """All its messages are processed when the next one is asked for."""
    watch = Watch()
    watch.batch((0, 0, 100), (1, 0, 200), (2, 0, None))
    watch.watch.processed_batch(2, [0, 0, 0], NOW_MS)

    assert watch.recorded("age") == (2, 0.3)
    assert watch.watch.event_ms(0) == 0


def test_the_wait_of_a_message():
    """From the hand-out to the beginning of its processing, once; not where nobody knows when it was handed out."""
    watch = Watch(age=False, wait=True)
    message = watch.one(0)
    watch.now_ns += 2_000_000_000
    watch.watch.began(0, message)
    watch.watch.began(0, message)
    watch.watch.began(7, watch.message(7))
    watch.watch.processed(0, 0, NOW_MS)

    assert watch.recorded("wait") == (1, 2.0)


def test_processing_where_no_hand_out_was_seen():
    """In another process's consumer, for example: the event's time is read then."""
    watch = Watch(wait=True)
    message = watch.message(3, event=700)
    watch.watch.began(3, message)
    assert watch.watch.event_ms(3) == NOW_MS - 700
    watch.watch.processed(3, 0, NOW_MS)

    assert (watch.recorded("age"), watch.recorded("wait")) == ((1, 0.7), (0, 0))


def test_how_late_messages_are():
    """Behind the newest event of before, and each one is a regression."""
    watch = Watch(age=False, ordered=True)
    for offset, event in enumerate([5_000, 3_000, 4_000, 3_000, 3_500, 100]):
        watch.one(offset, event=event)

    assert watch.recorded("late") == (2, 1.5)
    assert watch.times.regressions == 2


def test_events_and_times_of_sending_are_not_compared():
    """An event is older than the moment that it was sent, which is no disorder."""
    watch = Watch(age=False, ordered=True)
    for offset, (sent, event) in enumerate([(0, None), (0, 9_000), (-5, None), (0, 8_000), (20, None), (0, 8_500)]):
        watch.one(offset, sent, event)

    assert watch.recorded("late") == (2, 0.525)


def test_one_time_of_the_far_future_does_not_make_the_rest_late():
    """Its clock is wrong; within a minute clocks may differ."""
    watch = Watch(age=False, ordered=True)
    watch.one(0, event=1_000)
    watch.one(1, event=-AHEAD_MS - 1)
    watch.one(2, event=500)
    watch.one(3, event=-AHEAD_MS)
    watch.one(4, event=0)

    assert watch.recorded("late") == (1, 60.0)


@pytest.mark.parametrize("again", [lambda watch: watch.sought(), lambda watch: watch.assigned(), lambda _watch: None])
def test_messages_that_come_again_are_not_late(again):
    """After a seek, after a rebalance, or just redelivered; what is new is judged as before."""
    watch = Watch(age=False, ordered=True)
    for offset in range(10):
        watch.one(offset, event=1_000 - offset)
    again(watch.watch)
    watch.batch(*((offset, 0, 1_000 - offset) for offset in range(10)))
    assert watch.times.regressions == 0
    watch.one(10, event=1_000)

    assert watch.recorded("late") == (1, 0.009)


def test_what_is_never_processed_is_not_kept_for_ever():
    """The oldest go; those that are left are still known."""
    watch = Watch()
    for offset in range(3 * MAX_PENDING):
        watch.one(offset, event=1_000)

    assert len(watch.times._pending) <= MAX_PENDING
    assert watch.watch.event_ms(3 * MAX_PENDING - 1) == NOW_MS - 1_000
