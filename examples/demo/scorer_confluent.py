"""Says which digit each image shows, and sends that on."""

from __future__ import annotations

import json

import clients_confluent
import settings
from loguru import logger
from train import train

import otel_pipeline

otel_pipeline.instrument()

model = train()
settings.end_when_asked()
consumer = clients_confluent.consumer(settings.FEATURES, "scorer")
producer = clients_confluent.producer()
handled = set()
try:
    for message in clients_confluent.polled(consumer):
        image = json.loads(message.value())
        digit = int(model.predict([image["features"]])[0])
        logger.info("image {} looks like a {}, a person saw a {}", image["image"], digit, image["label"])
        prediction = {"image": image["image"], "digit": digit, "label": image["label"]}
        producer.produce(settings.PREDICTIONS, json.dumps(prediction).encode(), key=message.key())
        producer.poll(0)
        handled.add(image["image"])
        if len(handled) == settings.MESSAGES:
            break
finally:  # What is still in the producer's queue would be lost.
    producer.flush(settings.IDLE_MS / 1000)
    consumer.close()
logger.info("classified {} images", len(handled))
