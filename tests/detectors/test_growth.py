"""What grows with partitions and flows: counted, so that no machine's clock decides."""

from __future__ import annotations

from operator import itemgetter

import pytest

from otel_pipeline.detectors.flow_pace import FlowPace
from otel_pipeline.detectors.watched_flow import Watched
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.messages import MessageFields

FIELDS = MessageFields(*map(itemgetter, range(8)))


@pytest.fixture
def engine(telemetry):
    """The engine of an instrumented process."""
    return telemetry.instrument()._engine


def consumer(engine):
    return Consumer(engine, FIELDS, attributes={"messaging.system.name": "kafka"}, group="g", operation="poll")


@pytest.mark.parametrize("partitions", [100, 2_000])
def test_the_first_message_of_a_partition(engine, monkeypatch, partitions):
    """It is not more dear where there are many: what is in use is asked for a few times per partition at most."""
    asked = {"watched": 0, "paced": 0}

    def counting(name, original):
        def ask(self, *arguments):
            asked[name] += 1
            return original(self, *arguments)

        return ask

    monkeypatch.setattr(Watched, "in_use", counting("watched", Watched.in_use))
    monkeypatch.setattr(FlowPace, "_in_use", counting("paced", FlowPace._in_use))
    reader = consumer(engine)
    for partition in range(partitions):
        reader.fetch_observer("orders", partition)
        reader.partition("orders", partition)

    assert all(count <= 3 * partitions for count in asked.values())


def test_what_is_gone_is_folded_without_anybody_reading(engine, telemetry):
    """A thousand consumers, one after the other: their watches do not pile up, and their counts are kept."""
    for _ in range(1_000):
        reader = consumer(engine)
        state = reader.partition("orders", 0)
        state.observer.one((0,) * 8, 0, 0, None, None, 1)
        del reader, state

    (flow,) = telemetry.instrument(None)._monitoring.flows.every()
    assert len(flow.watched) <= 64
    assert sum(count for label, count in flow.counts().items() if str(label) == "missing") == 1_000
