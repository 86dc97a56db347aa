"""Cleans each scan and sends its features on."""

from __future__ import annotations

import json

import settings
from digits import clean
from kafka import KafkaConsumer, KafkaProducer
from loguru import logger

import otel_pipeline

otel_pipeline.instrument()

consumer = KafkaConsumer(settings.RAW, **settings.consumer_settings("features"))
producer = KafkaProducer(**settings.BROKER)
# Asking also brings the topic's metadata: without it a consumer may join its group for nothing, and has to join again.
logger.info("ready, {} partitions", len(consumer.partitions_for_topic(settings.RAW) or ()))
handled = set()
for message in consumer:
    scan = json.loads(message.value)
    features = {"image": scan["image"], "features": clean(scan["pixels"]), "label": scan["label"]}
    producer.send(settings.FEATURES, json.dumps(features).encode(), key=message.key)
    handled.add(scan["image"])
    if len(handled) == settings.MESSAGES:
        break
producer.flush(timeout=settings.IDLE_MS / 1000)
producer.close()
consumer.close()
logger.info("cleaned {} images", len(handled))
