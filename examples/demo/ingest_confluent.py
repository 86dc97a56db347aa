"""Sends scanned digits, one JSON message each, as a scanner would."""

from __future__ import annotations

import json
import time

import clients_confluent
import settings
from digits import scans
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()

producer = clients_confluent.producer()
for scan in scans()[: settings.MESSAGES]:
    producer.produce(settings.RAW, json.dumps(scan).encode(), key=str(scan["image"]))
    producer.poll(0)
    time.sleep(settings.PAUSE_SECONDS)
producer.flush(settings.IDLE_MS / 1000)
logger.info("sent {} images", settings.MESSAGES)
