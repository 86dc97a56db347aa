"""What the three services agree on: the broker, the topics, how much work there is. Nothing about telemetry."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer
from loguru import logger

_PREFIX = os.environ.get("TOPIC_PREFIX", "")
RAW = f"{_PREFIX}digits.raw"
FEATURES = f"{_PREFIX}digits.features"
PREDICTIONS = f"{_PREFIX}digits.predictions"

# What stands between a producer and its consumer writes to topics with this at their end, and consumers read those.
_RELAYED = os.environ.get("RELAYED_SUFFIX", "")

# 0: until it is asked to end.
MESSAGES = int(os.environ.get("MESSAGES", "1797"))
PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "0.004"))
# A service that waits this long for the next message gives up; whoever started it sees that some are missing.
IDLE_MS = int(os.environ.get("IDLE_MS", "30000"))

BROKER: dict[str, Any] = {"bootstrap_servers": os.environ.get("KAFKA_BOOTSTRAP", "127.0.0.1:9092")}
EMBEDDED = bool(os.environ.get("KAFKA_API_VERSION"))
if EMBEDDED:  # It needs the version said; a real broker is asked.
    BROKER["api_version"] = tuple(int(number) for number in os.environ["KAFKA_API_VERSION"].split("."))


def consumer(topic: str, group: str) -> KafkaConsumer:
    """Make a consumer of the topic. It reads from the beginning, so that it may start after the producer."""
    made = KafkaConsumer(
        **BROKER,
        group_id=_PREFIX + group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=IDLE_MS,
        # A real broker answers as soon as there is a message, the embedded one when the wait is over.
        fetch_max_wait_ms=10 if EMBEDDED else 500,
    )
    made.subscribe([topic + _RELAYED], listener=_Ready())
    # Asking brings the topic's metadata: without it a consumer may join its group for nothing, and has to join again.
    made.partitions_for_topic(topic + _RELAYED)
    return made


def end_when_asked() -> None:
    """Let SIGTERM end a service in order, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())


class _Ready(ConsumerRebalanceListener):  # type: ignore[misc]
    """Says when messages can be read."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        logger.info("ready, {} partitions", len(assigned))

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Do nothing."""
