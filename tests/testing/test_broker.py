from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from otel_pipeline.brokers.embedded import API_VERSION, EmbeddedBrokerError, embedded_broker

kafka = pytest.importorskip("kafka")

PARENT = """
import os
from otel_pipeline.brokers.embedded import embedded_broker

broker = embedded_broker()
print(broker.__enter__(), flush=True)
os._exit(0)
"""


@pytest.mark.broker
def test_messages_go_round():
    """Sent, and received by a group, with headers; topics have the partitions that were asked for."""
    with embedded_broker({"orders": 2}) as bootstrap:
        settings = {"bootstrap_servers": bootstrap, "api_version": API_VERSION}
        producer = kafka.KafkaProducer(**settings)
        for number in range(10):
            producer.send("orders", b"%d" % number, headers=[("traceparent", b"x")])
        producer.flush()
        partitions = producer.partitions_for("orders")
        producer.close()
        consumer = kafka.KafkaConsumer(
            "orders", group_id="g", auto_offset_reset="earliest", consumer_timeout_ms=10_000, **settings
        )
        consumer.partitions_for_topic("orders")
        received = [next(consumer) for _ in range(10)]
        consumer.close()

    assert (partitions, sorted(int(message.value) for message in received), received[0].headers) == (
        {0, 1},
        list(range(10)),
        [("traceparent", b"x")],
    )


@pytest.mark.broker
def test_it_ends_with_the_with():
    """Nothing is left listening."""
    with embedded_broker() as bootstrap:
        host, port = bootstrap.split(":")
        socket.create_connection((host, int(port)), 5).close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)


@pytest.mark.broker
def test_it_ends_when_its_parent_dies():
    """The parent's end closes its stdin."""
    parent = subprocess.run(
        [sys.executable, "-c", PARENT],
        capture_output=True,
        text=True,
        check=True,
    )
    host, port = parent.stdout.strip().split(":")

    assert refused(host, int(port), seconds=10)


def refused(host, port, seconds):
    """Wait until nobody listens there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), 5).close()
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_without_confluent_kafka_the_way_to_it_is_said(tmp_path, monkeypatch):
    """The extra's name."""
    (tmp_path / "confluent_kafka").mkdir()
    (tmp_path / "confluent_kafka" / "__init__.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    with pytest.raises(EmbeddedBrokerError, match=r"pip install 'otel-pipeline\[embedded\]'"), embedded_broker():
        pass


@pytest.mark.broker
def test_a_topic_that_cannot_be_is_said():
    """Before any client waits for it."""
    with (
        pytest.raises(EmbeddedBrokerError, match="refuses the topic 'orders' with 0 partitions"),
        embedded_broker({"orders": 0}),
    ):
        pass
