"""A bomb of cardinality: thousands of destinations and models cost no more than 2,000 series an instrument."""

from __future__ import annotations

import pytest

import otel_pipeline
from tests.contract.conftest import driver_of

SERIES = 2_001
"""2,000, and `otel.metric.overflow`."""
DESTINATIONS = 3_000


@pytest.fixture
def in_memory(request):
    found = driver_of(request, "in_memory:InMemory", "")
    yield found
    found.close()


def series(telemetry):
    """How many points each instrument has."""
    return {metric.name: len(metric.points) for metric in telemetry.metrics()}


def test_thousands_of_destinations(in_memory, telemetry):
    """Sent to and received from: no instrument has more series, and no message is missing in the sums."""
    telemetry.instrument(libraries=[in_memory.library])
    for number in range(DESTINATIONS):
        topic = f"topic-{number}"
        in_memory.send(topic, b"x")
        in_memory.reader(topic).receive_one()
    found = series(telemetry)
    sums = {
        name: sum(point.value for point in telemetry.metric(name).points)
        for name in ("messaging.client.sent.messages", "messaging.client.consumed.messages")
    }

    assert {name: count for name, count in found.items() if count > SERIES} == {}
    assert set(sums.values()) == {DESTINATIONS}


def test_thousands_of_models(telemetry):
    telemetry.instrument()
    for number in range(DESTINATIONS):
        with otel_pipeline.inference(f"model-{number}"):
            pass
    found = series(telemetry)

    assert {name: count for name, count in found.items() if count > SERIES} == {}
    assert telemetry.metric("otel_pipeline.inference.duration").points
    assert sum(point.count for point in telemetry.metric("otel_pipeline.inference.duration").points) == DESTINATIONS
