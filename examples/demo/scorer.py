"""Says which digit each image shows, and sends that on."""

from __future__ import annotations

import json

import clients_kafka_python
import settings
from loguru import logger
from train import train

import otel_pipeline

otel_pipeline.instrument()

model = train()
settings.end_when_asked()
consumer = clients_kafka_python.consumer(settings.FEATURES, "scorer")
producer = clients_kafka_python.producer()
handled = set()
for message in consumer:
    image = json.loads(message.value)
    digit = int(model.predict([image["features"]])[0])
    logger.info("image {} looks like a {}, a person saw a {}", image["image"], digit, image["label"])
    prediction = {"image": image["image"], "digit": digit, "label": image["label"]}
    producer.send(settings.PREDICTIONS, json.dumps(prediction).encode(), key=message.key)
    handled.add(image["image"])
    if len(handled) == settings.MESSAGES:
        break
producer.flush(timeout=settings.IDLE_MS / 1000)
producer.close()
consumer.close()
logger.info("classified {} images", len(handled))
