"""Data from elsewhere: how old it was, by its name, and how often that was not known."""

from __future__ import annotations

import pytest

import otel_pipeline
from otel_pipeline.detectors.inputs import Inputs
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.totals import Totals
from tests.limits import below_at_above

AGE, UNKNOWN = "otel_pipeline.input.age", "otel_pipeline.input.unknown_ages"


def counts(telemetry):
    """By name: how many of a known age and the bucket of the oldest, and how many of an unknown one."""
    known, unknown = telemetry.metric(AGE), telemetry.metric(UNKNOWN)
    return (
        {point.attributes["otel_pipeline.input.name"]: point.count for point in (known.points if known else ())},
        {point.attributes["otel_pipeline.input.name"]: point.value for point in unknown.points if point.value},
    )


@pytest.fixture
def received(telemetry):
    """A message in hand."""
    telemetry.instrument()
    with otel_pipeline.extract(otel_pipeline.inject(), destination="orders"):
        yield


def test_inputs_are_counted_by_name(telemetry, received):
    """Each by its own age, or as one whose age is not known."""
    otel_pipeline.flow.input("features", age_s=90)
    otel_pipeline.flow.input("features", age_s=3)
    otel_pipeline.flow.input("weather")

    assert counts(telemetry) == ({"features": 2}, {"weather": 1})


@pytest.mark.parametrize(
    "given", [{"age_s": -60}, {"age_s": float("nan")}, {"age_s": "old"}, {"event_time": 1.0}, {"age_s": 4e9}]
)
def test_an_age_that_cannot_be_is_not_known(telemetry, received, given):
    """From the future, of another unit, or none at all."""
    otel_pipeline.flow.input("features", **given)

    assert counts(telemetry) == ({}, {"features": 1})


@pytest.mark.parametrize("name", ["", None, 7, "n" * 10_000, "\ud800"])
def test_whatever_it_is_called(telemetry, received, name):
    """It is counted, and nothing raises."""
    otel_pipeline.flow.input(name, age_s=1)

    ((counted, times),) = counts(telemetry)[0].items()
    assert (len(counted.encode()) <= 256, times) == (True, 1)


def test_outside_of_a_message_nothing_is_counted(telemetry):
    """There is nothing that it would be an input of."""
    telemetry.instrument()
    otel_pipeline.flow.input("features", age_s=1)

    assert (telemetry.metric(AGE), telemetry.metric(UNKNOWN)) == (None, None)


@below_at_above("detectors.inputs.MAX_INPUTS", 100, "n98", "n99", "_other")
def test_how_many_names_there_are(size, outcome):
    """The others together; those that are known stay."""
    totals, guard = Totals(), Guard()
    inputs = Inputs(totals, guard)
    for at in range(size):
        inputs.taken(f"n{at}", 1)
    inputs.taken("n0", 1)
    (ages,) = [histogram for histogram in totals.histograms if histogram.name == AGE]
    counted = {attributes["otel_pipeline.input.name"]: point.count for attributes, point in ages.points()}

    assert (list(counted)[-1], counted["n0"], bool(guard.problems)) == (outcome, 2, outcome == "_other")
