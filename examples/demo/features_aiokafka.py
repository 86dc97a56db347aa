"""Cleans each scan and sends its features on."""

from __future__ import annotations

import json

import clients_aiokafka
import settings
from digits import clean
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()


async def features() -> None:
    """Clean what each call returns, message by message, until nothing has come for long."""
    handled = set()
    async with clients_aiokafka.producer() as producer, clients_aiokafka.consumer(settings.RAW, "features") as consumer:
        while batches := await consumer.getmany(timeout_ms=settings.IDLE_MS):
            for messages in batches.values():
                for message in messages:
                    scan = json.loads(message.value)
                    found = {"image": scan["image"], "features": clean(scan), "label": scan["label"]}
                    await producer.send(settings.FEATURES, json.dumps(found).encode(), key=message.key)
                    handled.add(scan["image"])
            if len(handled) == settings.MESSAGES:
                break
    logger.info("cleaned {} images", len(handled))


clients_aiokafka.run(features())
