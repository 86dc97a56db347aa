"""The share of nulls by field: counted by request, and amber where it departs from that of before."""

from __future__ import annotations

import pytest

from otel_pipeline.detectors.null_rate import DETECTOR, NULLS, VALUES
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.detectors.watched_flow import FlowKey
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.evidence import Evidence
from otel_pipeline.verdict.verdict import Verdict


def counted(found, name):
    """By path."""
    return {
        attributes["otel_pipeline.field.path"]: count for attributes, count in found.points(f"otel_pipeline.{name}")
    }


def test_nulls_are_counted_by_path(watching):
    """Text or object, nested, in arrays; a field that is not there is none; over consumers that are gone."""
    found = watching(null_rate=("amount", "items[].sku", "nobody"))
    values = [{"amount": None, "items": [{"sku": None}, {"sku": 1}]}, {"amount": 3}, b'{"items": [{"sku": null}]}', {}]
    for _ in range(2):
        consumer = found.begin()
        found.deliver(*(found.message(at, value=value) for at, value in enumerate(values)), consumer=consumer)
        consumer.close()

    assert counted(found, "field.values") == {"amount": 4, "items[].sku": 6, "nobody": 0}
    assert counted(found, "field.nulls") == {"amount": 2, "items[].sku": 4, "nobody": 0}


def test_pulls_are_looked_at_as_well(watching):
    """As many as the contract looks at: all of the first hundred."""
    found = watching(null_rate=("amount",))
    messages = [found.message(at, value={"amount": None}) for at in range(150)]
    found.consumer.partition("orders", 0).observer.batch(messages, [None] * 150, found.now_ms)

    assert counted(found, "field.nulls")["amount"] >= 100


@pytest.mark.parametrize("said", [{"contract": "ignore", "null_rate": ("amount",)}, {}])
def test_nothing_where_no_value_is_looked_at_or_nothing_is_asked_for(watching, said):
    """No series: a share of nothing is no share."""
    found = watching(**said)
    found.deliver(found.message(0, value={"amount": None}))

    assert counted(found, "field.values") == {}


def test_what_is_no_path_is_said(watching):
    """And nothing else of the destination suffers."""
    found = watching(null_rate=("a..b",))
    found.deliver(found.message(0, value={"a": None}))

    assert found.guard.problems == {
        "contract.null_rate.orders": "null_rate of orders is not looked at: 'a..b' is no path"
    }
    assert (found.guard.errors, found.evidence().messages) == ({}, 1)


def light(*, before, recent):
    """*Contract kept* after a day's (nulls, values) and those of the last five minutes."""
    verdict = Verdict(HealthSettings(environment="test"), detectors=[DETECTOR])
    for at_s, (nulls, values) in (
        (0.0, (0, 0)),
        (50_000.0, before),
        (50_400.0, (before[0] + recent[0], before[1] + recent[1])),
    ):
        counts = Sums({NULLS.label("amount"): nulls, VALUES.label("amount"): values})
        for second in range(2):
            (flow,) = verdict.judge([Evidence(FlowKey(None, "orders", "g"), counts)], at_s + second, at_s + second)
    return flow.lights["contract"].state, flow.lights["contract"].why


@pytest.mark.parametrize(
    ("before", "recent", "state"),
    [
        ((20, 1000), (310, 1000), "amber"),
        ((20, 1000), (87, 1000), "grey"),  # not surely over twice the most that it may have been before
        ((20, 1000), (88, 1000), "amber"),
        ((500, 1000), (900, 1000), "grey"),
        ((0, 1000), (0, 1000), "grey"),
        ((0, 0), (900, 1000), "grey"),  # nothing is known of before
        ((0, 10), (20, 1000), "grey"),  # too little is
        ((0, 1000), (6, 10), "amber"),
        ((0, 1000), (0, 0), "grey"),
    ],
)
def test_a_share_that_departs_is_amber(before, recent, state):
    """By the bounds of both shares: few values say little. Without contract the light is grey itself."""
    assert light(before=before, recent=recent)[0] == state


def test_the_light_says_both_shares():
    """And of how many values."""
    assert light(before=(20, 1000), recent=(310, 1000)) == (
        "amber",
        "amount is null in 31% of 1000 values; before, in at most 3.1%",
    )
