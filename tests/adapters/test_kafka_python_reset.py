"""A position that the broker no longer has: what becomes of it is known by the consumer's own configuration."""

from __future__ import annotations

import pytest
from kafka import TopicPartition

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_it_is_said_how_the_client_goes_on(telemetry, kafka, reset):
    """The client's fetcher keeps a copy of the configuration without `auto_offset_reset`."""
    flows = telemetry.instrument()._monitoring.flows
    topic = kafka.topic()
    kafka.send(topic, b"0", b"1", b"2")
    consumer = kafka.consumer(topic, auto_offset_reset=reset)
    consumer.seek(TopicPartition(topic, 0), 0)
    kafka.poll(consumer, 3)

    told = []
    (live,) = [each for flow in flows.every() if flow.key.group for live in flow.pace.live().values() for each in live]
    live.pace.order = type("Order", (), {"out_of_range": lambda _, *what: told.append(what), "gapped": False})()
    consumer.seek(TopicPartition(topic, 0), 100)
    for _ in range(50):
        if told:
            break
        consumer.poll(100)

    assert told == [(100, reset)]
