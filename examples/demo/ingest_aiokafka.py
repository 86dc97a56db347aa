"""Sends scanned digits, one JSON message each, as a scanner would."""

from __future__ import annotations

import asyncio
import json

import clients_aiokafka
import settings
from digits import scans
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()


async def ingest() -> None:
    """Send all of them."""
    async with clients_aiokafka.producer() as producer:
        for scan in scans()[: settings.MESSAGES]:
            await producer.send(settings.RAW, json.dumps(scan).encode(), key=str(scan["image"]).encode())
            await asyncio.sleep(settings.PAUSE_SECONDS)
    logger.info("sent {} images", settings.MESSAGES)


clients_aiokafka.run(ingest())
