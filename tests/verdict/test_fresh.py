"""Fresh, row by row, from plain values: each limit just below, at, just above; figures and words."""

from __future__ import annotations

from math import inf

import pytest

from otel_pipeline import duration
from otel_pipeline.detectors.consumer_pace import ConsumerPace
from otel_pipeline.detectors.flow_pace import Pace
from otel_pipeline.detectors.objectives import ObjectiveEvidence
from otel_pipeline.detectors.sender_delay import Delay
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.verdict import words
from otel_pipeline.verdict.case import Case, Minimums
from otel_pipeline.verdict.evidence import Evidence, Freshness
from otel_pipeline.verdict.fresh import OBJECTIVE, _of
from otel_pipeline.verdict.history import WINDOWS_S, History
from otel_pipeline.verdict.lights import FRESH
from tests.limits import below_at_above

KEY = FlowKey(None, "orders", "g")
WALL_S = 1_800_000_000.0


def case(*, met=0, missed=0, unknown=0, replayed=0, objective=0.99, held_s=0.0, lag=None, consumer=None, **freshness):
    """What one objective of 2 s is judged from, the same in each window."""
    asked = ObjectiveEvidence("fresh", 2.0, objective, "messages", met, missed, unknown, replayed)
    found = Evidence(KEY, freshness=Freshness([asked], **freshness), pace=Pace(lag=lag))
    if consumer is not None:
        found.pace.consumers = (ConsumerPace(assigned=1, known=True, **consumer),)
    found.counts.update(asked.counts())
    counts = History().counts(found.counts)
    held = {"waiting too long": held_s}
    windows = dict.fromkeys(WINDOWS_S, counts)
    return Case(found, counts, HealthSettings(), Minimums(), windows, held, {}, wall_s=WALL_S)


def light(**known):
    """The light of the objective alone."""
    found = case(**known)
    return OBJECTIVE.read(_of(found, found.evidence.freshness.objectives[0]))


def row(**known):
    found = light(**known)
    return found.row, found.state


@pytest.mark.parametrize(("p99_s", "threshold_s"), [(0.3, 0.5), (1.0, 2.0), (90_000.0, 180_000.0)])
def test_the_line_to_paste(p99_s, threshold_s):
    """One and a half times the 99th percentile, rounded up to what people say; twice where nobody says any."""
    found = FRESH.read(Case(Evidence(KEY, freshness=Freshness(age_p99_s=p99_s)), None, None, None, {}, {}, {}))

    assert (found.row, found.state, found.figures) == ("not set up", "grey", {"p99_s": p99_s})
    assert f"threshold: {duration.written(threshold_s)}, objective: 0.99" in found.look


def test_thresholds_that_people_say():
    """Each is proposed for what is just under two thirds of it, and the next one for a little more."""
    nice = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400)
    proposed = []
    for each in nice:
        freshness = Freshness(age_p99_s=each / 1.5 * 0.999)
        found = FRESH.read(Case(Evidence(KEY, freshness=freshness), None, None, None, {}, {}, {}))
        proposed.append(found.look.split("threshold: ")[1].split(",")[0])

    assert proposed == [duration.written(each) for each in nice]


@below_at_above("verdict.fresh.WAITS_S", 10.0, "met", "waiting too long", "waiting too long", step=0.1)
def test_how_long_a_message_waits_too_long(size, outcome):
    """Ten seconds of proof."""
    assert row(met=100, held_s=size, consumer={"oldest_s": 3.0})[0] == outcome


@below_at_above("the oldest against the threshold", 2.0, "met", "met", "waiting too long", step=0.01)
def test_what_waits_too_long(size, outcome):
    """And what is read again does not."""
    assert row(met=100, held_s=60.0, consumer={"oldest_s": size})[0] == outcome
    assert row(met=100, held_s=60.0, consumer={"oldest_s": size}, replaying=4)[0] == "replaying"


@pytest.mark.parametrize(("lag", "said"), [(None, 0), (0, 0), (7, 7)])
def test_how_many_are_behind(lag, said):
    """As far as it is known."""
    waits = light(met=100, held_s=60.0, lag=lag, consumer={"oldest_s": 3.0})
    catches_up = light(met=99, missed=1, lag=lag, consumer={"gaining": True, "waiting": 1})

    assert waits.why == f"a message waits that is 3 s old at least, {said} behind it (fresh: 99 % under 2 s)"
    assert waits.figures["oldest_s"] == 3.0
    assert (catches_up.row, catches_up.why.partition("; ")[2]) == ("catching up", f"catching up, {said} to go")


@below_at_above("verdict.fresh._LEAST", 3, "met", "missed", "missed")
def test_how_many_must_be_late(size, outcome):
    """Fewer are chance, whatever their share."""
    assert row(met=30 - size, missed=size)[0] == outcome


@pytest.mark.parametrize(
    ("missed", "objective", "colour"),
    [(30, 0.99, "red"), (7, 0.99, "amber"), (70, 0.5, "amber"), (90, 0.5, "red")],
)
def test_how_many_are_red(missed, objective, colour):
    """14.4 times the budget; where that would be nearly all, half of the way from the budget to all."""
    assert row(met=100 - missed, missed=missed, objective=objective) == ("missed", colour)


def test_what_is_unknown_is_no_case_of_the_share():
    """50 of 100 known ones were late; the figures have all."""
    found = light(met=50, missed=50, unknown=20, objective=0.9, age_p99_s=4.5)

    assert found.why == "50 % of 100 messages used data younger than 2 s; 90 % is the objective"
    assert (found.judged, found.seen) == (100, 120)
    assert found.figures == {"met": 50, "missed": 50, "unknown": 20, "p99_s": 4.5}
    assert "p99_s" not in light(met=100).figures


@below_at_above("unknown of a hundred", 10, "met", "met", "before the broker")
def test_before_the_broker(size, outcome):
    """Over a tenth of the cases, and proven."""
    assert row(met=100 - size, unknown=size, delay=Delay(5.0, 4711))[0] == outcome


@below_at_above("unknown of a hundred", 10, "met", "met", "at least")
def test_at_least(size, outcome):
    """Over a tenth of the cases, and nobody knows why."""
    assert row(met=100 - size, unknown=size)[0] == outcome


@below_at_above("unknown of a hundred", 10, "met", "met", "clock here")
def test_a_clock_that_was_wrong(size, outcome):
    """It is said as long as its cases are over a tenth of the window."""
    found = light(met=100 - size, unknown=size, clock_right_s=60.0)

    assert found.row == outcome
    assert f"was wrong until {words.clock(WALL_S - 60.0)}" in found.why or outcome == "met"
    assert row(met=100 - size, unknown=size, clock_right_s=300.1)[0] != "clock here"


@pytest.mark.parametrize(("step_s", "way"), [(90.0, "forward"), (-90.0, "back")])
def test_a_clock_that_is_wrong(step_s, way):
    """Whatever was counted before."""
    found = light(met=100, clock_step_s=step_s, clock_right_s=inf)

    assert (found.row, found.state) == ("clock here", "grey")
    assert found.why == f"this machine's clock was set {way} by 90 s: ages are unknown until it is right"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"met": 10, "replayed": 5}, "too few yet: 10 of 30 messages in 24 h"),
        ({"replayed": 5}, "5 messages of before were read, and none of now: their ages do not count"),
        ({}, "no messages within a day"),
    ],
)
def test_too_few(known, said):
    """With what there was."""
    found = light(**known)

    assert (found.row, found.state, found.why) == ("too few", "grey", f"{said} (fresh: 99 % under 2 s)")


@below_at_above("seconds against expect_every", 30.0, "objectives", "objectives", "silent", step=0.1)
def test_silence(size, outcome):
    """Only where messages are expected, and one has come."""
    found = FRESH.read(case(met=100, quiet_s=size, expect_every_s=30.0))

    assert (found.row == "silent") == (outcome == "silent")
    assert FRESH.read(case(met=100, expect_every_s=30.0)).row == "met"
    assert FRESH.read(case(met=100, quiet_s=size)).row == "met"
    assert FRESH.read(case(missed=100, quiet_s=size, expect_every_s=30.0)).state == "red"
