"""Cleans each scan and sends its features on."""

from __future__ import annotations

import json

import clients_confluent
import settings
from digits import clean
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()

settings.end_when_asked()
consumer = clients_confluent.consumer(settings.RAW, "features")
producer = clients_confluent.producer()
handled = set()
try:
    for message in clients_confluent.polled(consumer):
        scan = json.loads(message.value())
        features = {"image": scan["image"], "features": clean(scan), "label": scan["label"]}
        producer.produce(settings.FEATURES, json.dumps(features).encode(), key=message.key())
        producer.poll(0)
        handled.add(scan["image"])
        if len(handled) == settings.MESSAGES:
            break
finally:  # What is still in the producer's queue would be lost.
    producer.flush(settings.IDLE_MS / 1000)
    consumer.close()
logger.info("cleaned {} images", len(handled))
