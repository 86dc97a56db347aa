"""Sends scanned digits, one JSON message each, as a scanner would."""

from __future__ import annotations

import json
import time

import clients_kafka_python
import settings
from digits import scans
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()

producer = clients_kafka_python.producer()
for scan in scans()[: settings.MESSAGES]:
    producer.send(settings.RAW, json.dumps(scan).encode(), key=str(scan["image"]).encode())
    time.sleep(settings.PAUSE_SECONDS)
producer.flush(timeout=settings.IDLE_MS / 1000)
producer.close()
logger.info("sent {} images", settings.MESSAGES)
