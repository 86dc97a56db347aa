"""How the services of kafka-python make their clients."""

from __future__ import annotations

import os
from typing import Any

import settings
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer
from loguru import logger

_BROKER: dict[str, Any] = {"bootstrap_servers": settings.BOOTSTRAP}
if settings.EMBEDDED:  # It needs the version said; a real broker is asked.
    _BROKER["api_version"] = tuple(int(number) for number in os.environ["KAFKA_API_VERSION"].split("."))


def producer() -> KafkaProducer:
    """Make a producer."""
    return KafkaProducer(**_BROKER)


def consumer(topic: str, group: str) -> KafkaConsumer:
    """Make a consumer of the topic. It reads from the beginning, so that it may start after the producer."""
    made = KafkaConsumer(
        **_BROKER,
        group_id=settings.group(group),
        auto_offset_reset="earliest",
        consumer_timeout_ms=settings.IDLE_MS,
        fetch_max_wait_ms=settings.FETCH_MAX_WAIT_MS,
    )
    read = settings.read_from(topic)
    made.subscribe([read], listener=_Ready())
    # Asking brings the topic's metadata: without it a consumer may join its group for nothing, and has to join again.
    made.partitions_for_topic(read)
    return made


class _Ready(ConsumerRebalanceListener):  # type: ignore[misc]
    """Says when messages can be read."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        logger.info("ready, {} partitions", len(assigned))

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Do nothing."""
