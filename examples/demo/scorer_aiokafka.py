"""Says which digit each image shows, and sends that on."""

from __future__ import annotations

import json

import clients_aiokafka
import settings
from loguru import logger
from train import train

import otel_pipeline

otel_pipeline.instrument()

model = train()


async def scorer() -> None:
    """Classify each message."""
    handled = set()
    async with (
        clients_aiokafka.producer() as producer,
        clients_aiokafka.consumer(settings.FEATURES, "scorer") as consumer,
    ):
        async for message in consumer:
            image = json.loads(message.value)
            digit = int(model.predict([image["features"]])[0])
            logger.info("image {} looks like a {}, a person saw a {}", image["image"], digit, image["label"])
            prediction = {"image": image["image"], "digit": digit, "label": image["label"]}
            await producer.send(settings.PREDICTIONS, json.dumps(prediction).encode(), key=message.key)
            handled.add(image["image"])
            if len(handled) == settings.MESSAGES:
                break
    logger.info("classified {} images", len(handled))


clients_aiokafka.run(scorer())
