"""The configuration as the detectors and the verdict take it."""

from __future__ import annotations

from dataclasses import fields, replace

from otel_pipeline.config.config import ObjectiveOptions, load
from otel_pipeline.config.destinations import DestinationOptions
from otel_pipeline.config.health import health_settings
from otel_pipeline.detectors.settings import DestinationSettings, HealthSettings, Objective

FILE = """\
environment: production
mirrors: {orders-copy: orders}
destinations:
  orders: {trust: none, foreign: {local: reject}, contract: file, log: compacted, ordered: true, expect_every: 5m}
contracts: {learn_messages: 50}
objectives:
  decided: {model: churn-v3, threshold: 2s, objective: 0.9, window: 7d}
  arrived: {destination: orders, group: scorer, age: delivery, threshold: 500ms, objective: 0.99}
health: {interval: 2s, stuck_after: 20s, lost_after: 1m, on_reject: raise}
"""


def test_everything_that_the_file_says_arrives(tmp_path):
    """Each value in its place, none by its default."""
    path = tmp_path / "otel_pipeline.yaml"
    path.write_text(FILE)
    found = health_settings(load({"config_file": path, "environment": "production"}, environ={}), "scorer")

    assert replace(found, destination=None) == HealthSettings(
        environment="production",
        service_name="scorer",
        destination=None,
        objectives=(
            Objective("decided", 2, 0.9, "data", None, None, "churn-v3", 604800),
            Objective("arrived", 0.5, 0.99, "delivery", "orders", "scorer", None, 2419200),
        ),
        mirrors={"orders-copy": "orders"},
        interval_s=2,
        stuck_after_s=20,
        lost_after_s=60,
        on_reject="raise",
        learn_messages=50,
    )
    assert found.destination("orders") == DestinationSettings(
        "none", {"local": "reject", "*": "flag"}, "file", "compacted", ordered=True, expect_every_s=300
    )


def test_without_a_file_both_sides_have_the_same_defaults(tmp_path):
    """An engine that is given no configuration judges as one that is given an empty one."""
    found = health_settings(load({}, environ={}, directory=tmp_path, raises=False), "unknown_service")
    plain = HealthSettings(environment=found.environment, lost_after_s=found.lost_after_s)

    assert replace(found, destination=plain.destination) == plain
    assert found.destination("orders") == plain.destination("orders")


def test_both_sides_have_the_same_fields():
    """So that nothing is lost between them."""
    sides = [(DestinationOptions, DestinationSettings), (ObjectiveOptions, Objective)]

    assert [[field.name for field in fields(ours)] for ours, _ in sides] == [
        [field.name for field in fields(theirs)] for _, theirs in sides
    ]
