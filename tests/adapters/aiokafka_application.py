"""An asyncio application with aiokafka's clients, which are stopped when it ends."""

from __future__ import annotations

import itertools
import time

import aiokafka

_numbers = itertools.count(1)
_RUN = time.time_ns() // 1_000_000 % 1_000_000


class Application:
    def __init__(self, address):
        self.address, self._clients = address, []

    @staticmethod
    def topic(name="orders"):
        return f"{name}-aio-{_RUN}-{next(_numbers)}"

    async def started(self, client):
        self._clients.append(client)
        await client.start()
        return client

    async def producer(self, **options):
        return await self.started(aiokafka.AIOKafkaProducer(bootstrap_servers=self.address, **options))

    async def consumer(self, topic, **options):
        made = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self.address,
            **{"auto_offset_reset": "earliest", "fetch_max_wait_ms": 50, "enable_auto_commit": False, **options},
        )
        await self.started(made)
        made.assign([aiokafka.TopicPartition(topic, 0)])
        return made

    async def filled(self, count, **options):
        """A topic with so many messages, a consumer of it, and a producer."""
        topic, producer = self.topic(), await self.producer()
        for at in range(count):
            await producer.send_and_wait(topic, b"%d" % at, partition=0)
        return topic, await self.consumer(topic, **options), producer

    async def close(self):
        for client in reversed(self._clients):
            await client.stop()
