"""The five lights, row by row of the table; grey is never green."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from otel_pipeline.contracts import measures as contract
from otel_pipeline.contracts.evidence import ContractEvidence
from otel_pipeline.detectors.consumer_pace import ConsumerPace
from otel_pipeline.detectors.environments import FOREIGN, UNLABELLED
from otel_pipeline.detectors.flow_pace import Pace
from otel_pipeline.detectors.objectives import ObjectiveEvidence
from otel_pipeline.detectors.order import BEFORE_BROKER
from otel_pipeline.detectors.partition import HEADER_MISSING, HEADER_OK, MESSAGES
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.detectors.shares import wilson_lower
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.case import Minimums
from otel_pipeline.verdict.evidence import Evidence, Freshness
from otel_pipeline.verdict.light import Light
from otel_pipeline.verdict.verdict import Verdict

KEY = FlowKey("k1", "orders", "scorer")
CONSUMER = ConsumerPace(assigned=3, known=True, caught_up_s=0.4, handled=1000)
HANGS = ConsumerPace(assigned=1, known=True, caught_up_s=60.0, handled=1000, in_hand=1, in_hand_s=40.0, still_s=40.0)


def objective(met=0, missed=0, unknown=0, threshold_s=2.0, target=0.99):
    return ObjectiveEvidence("orders_fresh", threshold_s, target, "messages", met, missed, unknown)


def checked(count):
    """Values that were compared with the contract."""
    return {contract.CHECKED.label("consumer"): count}


def evidence(messages=1000, counts=None, **parts):
    """A flow where everything is as it should be, but for `counts` and `parts`."""
    healthy = {
        "environment": "production",
        "freshness": Freshness([objective(met=messages)], age_p99_s=0.2, staleness_s=0.1, quiet_s=0.1),
        "pace": Pace((CONSUMER,), assigned=3, lag=0, caught_up_age_s=0.4, utilization=0.1),
        "contract": ContractEvidence("file"),
    }
    found = Evidence(KEY, Sums({MESSAGES: messages, HEADER_OK: messages, **checked(messages)}), **{**healthy, **parts})
    for each in found.freshness.objectives:
        found.counts.update(each.counts())
    found.counts.update(counts or {})
    return found


def judged(found, *, seconds=3, settings=None, minimums=None):
    """The lights after some seconds of the same evidence."""
    verdict = Verdict(settings or HealthSettings(environment="production"), minimums)
    for second in range(seconds):
        (flow,) = verdict.judge([found], 1000.0 + second, 1_700_000_000.0 + second)
    return flow


def test_everything_green():
    """And so is the flow."""
    flow = judged(evidence())

    assert (flow.cluster, flow.destination, flow.group, flow.state) == ("k1", "orders", "scorer", "green")
    assert {name: light.why for name, light in flow.lights.items()} == {
        "fresh": "100 % of 1,000 messages used data younger than 2 s",
        "order": "1,000 messages in order, none missing",
        "pace": "caught up 400 ms ago, 0 behind",
        "contract": "1,000 values checked against the contract (file)",
        "environment": "1,000 messages of production",
    }


def test_no_evidence_is_grey_in_every_light_and_green_in_none():
    """Nothing has been seen."""
    flow = judged(Evidence(KEY))

    assert flow.state == "grey"
    assert {light.state for light in flow.lights.values()} == {"grey"}


def test_a_light_of_no_window():
    """Its figures are of no time, and of no cases."""
    found = Light("grey", "not seen")

    assert (found.window_s, found.judged, found.seen, found.figures) == (0.0, 0, 0, {})


def test_one_grey_light_keeps_the_flow_from_green():
    """What is not known may be bad."""
    assert judged(evidence(contract=ContractEvidence(learned=412))).state == "grey"


@pytest.mark.parametrize(
    ("freshness", "state", "why"),
    [
        (Freshness([], age_p99_s=0.21), "grey", "not set up: no objective; 99 % are younger than 210 ms"),
        (
            Freshness([objective(met=29)]),
            "grey",
            "too few yet: 29 of 30 messages in 24 h (orders_fresh: 99 % under 2 s)",
        ),
        (
            Freshness([objective(met=40, unknown=60)]),
            "grey",
            "the age of 60 of 100 messages is not known (orders_fresh: 99 % under 2 s)",
        ),
        (Freshness([objective(met=994, missed=6)]), "green", "99.4 % of 1,000 messages used data younger than 2 s"),
        (
            Freshness([objective(met=970, missed=30)]),
            "amber",
            "97 % of 1,000 messages used data younger than 2 s; 99 % is the objective",
        ),
        (
            Freshness([objective(met=700, missed=300)]),
            "red",
            "70 % of 1,000 messages used data younger than 2 s; 99 % is the objective",
        ),
        (
            Freshness([objective(met=100)], quiet_s=400, expect_every_s=300),
            "amber",
            "no message for 7 min, one is expected every 5m",
        ),
    ],
)
def test_fresh(freshness, state, why):
    """Exact counts against the objective; a share is believed where its lower bound says so."""
    light = judged(evidence(freshness=freshness)).lights["fresh"]

    assert (light.state, light.why) == (state, why)
    assert light.state == "green" or light.look or light.seen < 30


def test_old_data_with_messages_waiting_is_red_after_ten_seconds():
    """However good the share was."""
    found = evidence(
        freshness=Freshness([objective(met=1000)]),
        pace=Pace((replace(CONSUMER, oldest_s=30.0),), assigned=3, lag=70),
    )

    assert judged(found, seconds=9).lights["fresh"].state == "green"
    light = judged(found, seconds=13).lights["fresh"]
    assert (light.state, light.why) == (
        "red",
        "a message waits that is 30 s old at least, 70 behind it (orders_fresh: 99 % under 2 s)",
    )


@pytest.mark.parametrize(
    ("parts", "state", "why"),
    [
        ({"environment": None}, "grey", "not set up: the environment of this process is not known"),
        (
            {"counts": {HEADER_OK: 400, HEADER_MISSING: 600}},
            "grey",
            "only 400 of 1,000 messages say where they began",
        ),
        (
            {"counts": {FOREIGN.label("local", "flag"): 1, FOREIGN.label("staging", "allow"): 900}},
            "amber",
            "messages of other environments: 1 from local",
        ),
        (
            {"counts": {FOREIGN.label("staging", "allow"): 900, FOREIGN.label("local", "flag"): 0}},
            "green",
            "1,000 messages of production, allowed: staging",
        ),
        (
            {"counts": {UNLABELLED: 11}},
            "amber",
            "11 messages of 1,000 name no environment",
        ),
    ],
)
def test_environment_clean(parts, state, why):
    """Only what the policy does not allow turns the light."""
    light = judged(evidence(**parts)).lights["environment"]

    assert (light.state, light.why) == (state, why)


def test_a_light_gets_worse_after_two_looks_and_better_after_thirty_seconds():
    """And says meanwhile that it is better."""
    verdict = Verdict(HealthSettings(environment="production"))
    well, stuck = evidence(), evidence(pace=Pace((HANGS,), assigned=1))
    seen = []
    for second in range(40):
        (flow,) = verdict.judge([stuck if second in {1, 3, 4} else well], float(second), float(second))
        seen.append(flow.lights["pace"].state)
        if second == 20:
            assert flow.lights["pace"].why == "red until 00:00:35, now: caught up 400 ms ago, 0 behind"

    assert seen[:5] == ["green", "green", "green", "green", "red"]
    assert (seen[34], seen[35]) == ("red", "green")


def test_an_event_is_red_for_five_minutes_and_amber_for_an_hour():
    """Losses do not heal."""
    verdict = Verdict(HealthSettings(environment="production"))
    states = {}
    for second in range(4200):
        found = evidence(counts={BEFORE_BROKER: 1 if second >= 10 else 0})
        (flow,) = verdict.judge([found], float(second), float(second))
        states[second] = flow.lights["order"].state

    changes = [(second, state) for second, state in states.items() if states.get(second - 1) != state]
    assert changes == [(0, "green"), (11, "red"), (340, "amber"), (3940, "green")]


def test_what_was_bad_a_day_ago_no_longer_counts():
    """The window slides: 300 bad messages, then good ones."""
    verdict = Verdict(HealthSettings(environment="production"))
    met, missed = 0, 300
    for second in range(500):
        met += 10
        found = evidence(freshness=Freshness([objective(met=met, missed=missed)]))
        (flow,) = verdict.judge([found], float(second), float(second))
        if second == 100:
            assert flow.lights["fresh"].state == "red"

    light = flow.lights["fresh"]
    assert (light.state, light.window_s, light.figures["missed"]) == ("green", 300.0, 0)


def test_half_a_minute_of_bad_luck_raises_no_alarm():
    """A true miss rate of 0.7 % against a budget of 1 %: at most 3 of 100 runs are not green."""
    dice, alarms = random.Random(7), 0
    for _ in range(100):
        missed = sum(dice.random() < 0.007 for _ in range(1800))
        found = evidence(freshness=Freshness([objective(met=1800 - missed, missed=missed)]))
        alarms += judged(found).lights["fresh"].state != "green"

    assert alarms <= 3


def test_the_lower_bound_of_a_share():
    """Against values from R's prop.test without continuity correction."""
    assert wilson_lower(0, 0) == 0
    assert wilson_lower(10, 100) == pytest.approx(0.05522914, abs=1e-6)
    assert wilson_lower(300, 1000) == pytest.approx(0.2724, abs=1e-3)


def test_tests_need_one_message_only():
    """A test is short."""
    flow = judged(evidence(messages=1), minimums=Minimums(fresh=1, order=1))

    assert (flow.lights["fresh"].state, flow.lights["order"].state) == ("green", "green")
