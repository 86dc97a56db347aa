"""How the services of confluent-kafka make their clients."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import settings
from confluent_kafka import Consumer, KafkaException, Message, Producer
from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

_BROKER = {"bootstrap.servers": settings.BOOTSTRAP}
_WAIT_SECONDS = 0.2  # A signal is seen between two calls.


def producer() -> Producer:
    """Make a producer."""
    return Producer({**_BROKER, "linger.ms": 0})


def consumer(topic: str, group: str) -> Consumer:
    """Make a consumer of the topic. It reads from the beginning, so that it may start after the producer."""
    made = Consumer(
        {
            **_BROKER,
            "group.id": settings.group(group),
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": settings.FETCH_MAX_WAIT_MS,
        }
    )
    made.subscribe([settings.read_from(topic)], on_assign=_ready)
    return made


def polled(consumer: Consumer) -> Iterator[Message]:
    """Yield messages one by one, until none has come for long."""
    deadline = time.monotonic() + settings.IDLE_MS / 1000
    while time.monotonic() < deadline:
        message = consumer.poll(_WAIT_SECONDS)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        deadline = time.monotonic() + settings.IDLE_MS / 1000
        yield message


def _ready(_consumer: Consumer, assigned: list[Any]) -> None:
    logger.info("ready, {} partitions", len(assigned))
