"""How the services of aiokafka make their clients."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import settings
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run(service: Coroutine[Any, Any, None]) -> None:
    """Run a service until it is done; SIGTERM ends it in order, as Ctrl-C does."""

    async def main() -> None:
        task = asyncio.ensure_future(service)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


def producer() -> AIOKafkaProducer:
    """Make a producer, to be used as a context manager."""
    return AIOKafkaProducer(bootstrap_servers=settings.BOOTSTRAP)


def consumer(topic: str, group: str) -> AIOKafkaConsumer:
    """Make a consumer of the topic. It reads from the beginning, so that it may start after the producer."""
    made = AIOKafkaConsumer(
        bootstrap_servers=settings.BOOTSTRAP,
        group_id=settings.group(group),
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.FETCH_MAX_WAIT_MS,
    )
    made.subscribe([settings.read_from(topic)], listener=_Ready())
    return made


class _Ready(ConsumerRebalanceListener):  # type: ignore[misc]
    """Says when messages can be read."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        logger.info("ready, {} partitions", len(assigned))

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Do nothing."""
