"""Cleans each scan and sends its features on."""

from __future__ import annotations

import json

import clients_kafka_python
import settings
from digits import clean
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()

settings.end_when_asked()
consumer = clients_kafka_python.consumer(settings.RAW, "features")
producer = clients_kafka_python.producer()
handled = set()
for message in consumer:
    scan = json.loads(message.value)
    features = {"image": scan["image"], "features": clean(scan), "label": scan["label"]}
    producer.send(settings.FEATURES, json.dumps(features).encode(), key=message.key)
    handled.add(scan["image"])
    if len(handled) == settings.MESSAGES:
        break
producer.flush(timeout=settings.IDLE_MS / 1000)
producer.close()
consumer.close()
logger.info("cleaned {} images", len(handled))
