"""What grows with partitions and flows: counted, so that no machine's clock decides."""

from __future__ import annotations

from operator import itemgetter

import pytest

from otel_pipeline.detectors.flow_pace import FlowPace
from otel_pipeline.detectors.watched_flow import Watched, WatchedFlow
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


def test_a_collection_reads_each_flow_once(telemetry, engine, monkeypatch):
    """However many instruments there are; a second collection reads anew, so that nothing is told late."""
    reads = {"pace": 0, "sums": 0}

    def counting(name, original):
        def read(self, *arguments):
            reads[name] += 1
            return original(self, *arguments)

        return read

    reader = consumer(engine)
    for at in range(5):
        state = reader.partition(f"orders-{at}", 0)
        reader.fetch_observer(f"orders-{at}", 0)
        state.observer.one((0,) * 8, 0, 0, None, None, 1)
    monitoring = telemetry.instrument(None)._monitoring
    judged = monitoring.judge()
    monkeypatch.setattr(monitoring, "judge", lambda: judged)  # As the health thread has, a moment ago.
    monkeypatch.setattr(FlowPace, "read", counting("pace", FlowPace.read))
    monkeypatch.setattr(WatchedFlow, "counts", counting("sums", WatchedFlow.counts))
    first = telemetry.metrics()
    once = dict(reads)
    monitoring.flows.every()[0].watched[0].watch.one((0,) * 8, 1, 0, None, None, 1)
    second = telemetry.metrics()

    assert once == {"pace": 5, "sums": 5}
    assert first != second
