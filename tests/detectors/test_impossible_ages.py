"""Times that cannot be: in another unit, of 1970, of the year 3000; and times that our header contradicts."""

from __future__ import annotations

import time

import pytest
from opentelemetry.context import Context, attach
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_pipeline.detectors.decisions import Decisions
from otel_pipeline.detectors.freshness import PartitionFreshness
from otel_pipeline.detectors.objectives import Objectives
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.origin import Origin, delivery_age_s, origin_of
from otel_pipeline.engine.totals import Totals
from otel_pipeline.semconv import AGE_BUCKETS_S
from tests.detectors.conftest import NOW_MS
from tests.engine.test_trust import Side
from tests.limits import below_at_above

DAY_MS, YEAR_MS = 86_400_000, 365 * 86_400_000


def freshness():
    age = Totals().histogram("age", "s", "", AGE_BUCKETS_S)
    made = PartitionFreshness(age.cell({}), age.local({}))
    return made, lambda: sum(age.total({}).bucket_counts)


@below_at_above("engine.origin.MAX_AGE_MS", 315_360_000_000, (1, 0), (1, 0), (0, 1))
@pytest.mark.parametrize("kind", ["delivery", "data"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "a batch"])
def test_ages_above_ten_years_are_unknown_and_counted(kind, many, size, outcome):
    """Of one message, and of a batch; nothing that was processed is as new as that."""
    made, recorded = freshness()
    then_ms = NOW_MS - size
    if kind == "delivery":
        made.delivered_many([then_ms], NOW_MS, 0, [0]) if many else made.delivered(then_ms, NOW_MS, 0)
    else:
        made.processed_many([then_ms], NOW_MS, 0) if many else made.processed(then_ms, NOW_MS, 0)

    assert (recorded(), getattr(made, f"impossible_{kind}")) == outcome
    assert made.newest_origin_ms == (then_ms if kind == "data" and outcome[0] else 0)


@below_at_above("engine.origin.DAY_MS", 86_400_000, 1, 1, 0)
@pytest.mark.parametrize("many", [False, True], ids=["one", "a batch"])
def test_a_time_before_the_data_began_is_not_when_it_was_sent(many, size, outcome):
    """By more than a day: the delivery age is unknown, and no clock is blamed."""
    made, recorded = freshness()
    origin_ms = NOW_MS - DAY_MS
    then_ms = origin_ms - size
    made.delivered_many([then_ms], NOW_MS, 0, [origin_ms]) if many else made.delivered(then_ms, NOW_MS, 0, origin_ms)

    assert (recorded(), made.impossible_delivery, made.negative_ages) == (outcome, 0, 0)


def test_an_origin_that_cannot_be_contradicts_nothing():
    """The message's own time is the better one then."""
    made, recorded = freshness()
    for origin_ms in (NOW_MS * 1_000, NOW_MS + 11 * YEAR_MS, 0):
        made.delivered(NOW_MS - 3 * DAY_MS, NOW_MS, 0, origin_ms)

    assert recorded() == 3


def test_every_message_of_a_watched_partition_is_judged(watching):
    """Also among those that are as old by right: a replay, and a backfill that says so of its messages."""
    found = watching()
    three_days = 3 * DAY_MS
    replay = [
        found.message(at, age_ms=three_days, header=found.header(at + 1, origin_ms=NOW_MS - three_days))
        for at in range(3)
    ]
    backfill = [
        found.message(at, age_ms=three_days, header=found.header(at + 1, origin_ms=NOW_MS)) for at in range(3, 6)
    ]
    found.deliver(*replay, *backfill)
    watch = found.consumer.partition("orders", 0).observer
    watch.batch([*replay, *backfill], [each[5][-1][1] for each in (*replay, *backfill)], NOW_MS)

    assert sum(watch.freshness.delivery_age.bucket_counts) == 6
    assert sum(watch.freshness.data_age.cell.bucket_counts) == 6


def test_a_message_without_our_header_and_without_a_time_that_can_be(watching):
    """Its origin is unknown, and the one age that it has is counted once."""
    found = watching()
    watch = found.deliver(
        *(found.message(at, age_ms=NOW_MS - then_ms) for at, then_ms in enumerate((NOW_MS // 1_000, 1)))
    )

    assert (watch.freshness.impossible_delivery, watch.freshness.impossible_data) == (2, 0)
    assert sum(watch.freshness.data_age.cell.bucket_counts) == 0


def test_events_of_another_time_are_late_for_nobody(watching):
    """Of ten years and more ago, of 1970: neither an age nor a regression."""
    found = watching(event_age=True, ordered=True)
    for at, event in enumerate((b"2026-11-20T00:00:00Z", b"1971-01-21T18:43:55Z", b"2026-11-21T00:00:00Z")):
        found.deliver(found.message(at, event_ms=event))
    points = {
        attributes["otel_pipeline.age"]: value
        for attributes, value in found.points("otel_pipeline.clock.impossible_ages")
    }
    violations = {
        attributes["otel_pipeline.violation"]: value
        for attributes, value in found.points("otel_pipeline.order.violations")
    }

    assert (points, violations["event_time_regression"]) == ({"delivery": 0, "data": 0, "event": 1}, 0)


def test_a_decision_on_data_of_another_time():
    """Its age is unknown."""
    totals = Totals()
    decisions = Decisions(totals, Objectives((), totals), str)
    for origin_ms in (NOW_MS // 1_000, NOW_MS - 10 * YEAR_MS, NOW_MS - 10 * YEAR_MS - 1):
        decisions.of("m", None).decided(None, (origin_ms,), NOW_MS * 1_000_000)
    (histogram,) = [each for each in totals.histograms if each.name == "otel_pipeline.decision.age"]

    assert [sum(point.bucket_counts) for _, point in histogram.points()] == [1]


def said(**fields):
    given = {"flags": 2, "hops": 2, "environment": "local", "newest_ms": 0, "path": 5, "producer_id": 0, "sequence": 0}
    return pipeline_header.encode(**{**given, "tag": 0, **fields})


def test_what_goes_on_from_there_is_unknown():
    """Whatever the header or the message says, the next hop does not say it again."""
    now_ms = time.time_ns() // 1_000_000
    found = [
        origin_of(said(origin_ms=now_ms // 1_000, newest_ms=now_ms), 0),
        origin_of(said(origin_ms=now_ms * 100, newest_ms=now_ms * 100), now_ms),
        origin_of(said(origin_ms=now_ms, newest_ms=now_ms), 5),
        origin_of(None, now_ms * 1_000),
    ]

    assert found == [
        Origin(0, 0, 2, "local", 5),
        Origin(0, 0, 2, "local", 5),
        Origin(now_ms, now_ms, 2, "local", 5),
        Origin(0, 0, 1, None, 0),
    ]
    assert (Origin(now_ms - 11 * YEAR_MS, 0, 1, None, 0).age_s, Origin(now_ms + 11 * YEAR_MS, 0, 1, None, 0).age_s) == (
        None,
        None,
    )


SPANS = {
    "in s": (NOW_MS // 1_000, None, set()),
    "in us": (NOW_MS * 1_000, None, set()),
    "of next year": (NOW_MS + YEAR_MS, None, {"data", "delivery"}),
    "of the year 3000": (NOW_MS + 974 * YEAR_MS, None, set()),
    "in s, with our header": (NOW_MS // 1_000, 0, {"data"}),
    "of two days ago, with our header": (NOW_MS - 2 * DAY_MS, 0, {"data"}),
    "of two days ago, with an older header": (NOW_MS - 2 * DAY_MS, 3 * DAY_MS, {"data", "delivery"}),
    "now, with a header that cannot be": (NOW_MS, 11 * YEAR_MS, {"delivery"}),
}


@pytest.mark.parametrize("case", SPANS)
def test_ages_on_spans(case):
    """They are left off where they are unknown."""
    sent_ms, older_ms, ages = SPANS[case]
    side = Side(ALWAYS_ON)
    side.now_ns = NOW_MS * 1_000_000
    headers = [] if older_ms is None else [("otelp", said(origin_ms=NOW_MS - older_ms))]
    attach(Context())
    side.process((0, sent_ms, headers))

    delivered = delivery_age_s(sent_ms, dict(headers).get("otelp"), NOW_MS)
    (span,) = side.exporter.get_finished_spans()
    assert (delivered is not None) == ("delivery" in ages)
    assert {name.split(".")[1] for name in span.attributes if name.endswith(".age")} == ages
