"""confluent-kafka: `poll`, `consume`, its clients that serialize and deserialize, and an application's own subclasses."""

from __future__ import annotations

import dataclasses
import time
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import (
    Consumer,
    DeserializingConsumer,
    KafkaError,
    KafkaException,
    Producer,
    SerializingProducer,
    TopicPartition,
)

from tests.contract.driver import Can
from tests.contract.drivers.aiokafka import Application

try:
    from confluent_kafka.aio import AIOConsumer, AIOProducer
except ImportError:  # Before 2.12.
    AIOConsumer = AIOProducer = None

try:
    from confluent_kafka import ShareConsumer
except ImportError:
    ShareConsumer = None

PATIENCE_S = 20


def _message(message):
    """What the application does with what it is given: an error is raised."""
    if message is not None and message.error() is not None:
        raise KafkaException(message.error())
    return message


class Reader:
    """By poll()."""

    def __init__(self, client, topic):
        self.client, self.topic = client, topic

    def receive_one(self):
        message = None
        deadline = time.monotonic() + PATIENCE_S
        while message is None:
            assert time.monotonic() < deadline, "nothing came"
            message = _message(self.client.poll(0.5))
        return message

    def receive_many(self, count):
        return [self.receive_one() for _ in range(count)]

    def loop(self, handler, count, then=None):
        while count:
            handler(self.receive_one())
            count -= 1
        return then() if then else None

    def commit(self):
        try:
            self.client.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:  # All is committed already.
                raise

    def seek(self, offset):
        self.client.seek(TopicPartition(self.topic, 0, offset))

    def close(self):
        self.client.close()


class ConsumingReader(Reader):
    """By consume()."""

    def _consume(self, count):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            messages = self.client.consume(count, 0.5)
            if messages:
                for at in range(len(messages)):  # A loop would have each of them in hand.
                    _message(messages[at])
                return messages
            assert time.monotonic() < deadline, "nothing came"

    def receive_one(self):
        return self._consume(1)[0]

    def receive_many(self, count):
        messages = []
        while len(messages) < count:
            messages += self._consume(count - len(messages))
        return messages

    def loop(self, handler, count, then=None):
        while count:
            messages = self._consume(count)
            count -= len(messages)
            for message in messages:
                handler(message)
        return then() if then else None


class OwnProducer(Producer):
    """As applications make them: with something done before the inherited method."""

    def produce(self, topic, *args, **kwargs):
        return super().produce(topic, *args, **kwargs)


class OwnConsumer(Consumer):
    def poll(self, timeout=-1):
        return super().poll(timeout)


class Polling:
    name = "confluent-kafka, `poll`"
    library, system = "confluent-kafka", "kafka"
    send_word, receive_word = "produce", "poll"
    names = ("messaging.destination.partition.id", "kafka.offset")
    producer_kind, consumer_kind, kind = Producer, Consumer, Reader
    can = Can(
        process_span="yes",
        loop_ends=False,
        handler_error="no",
        batches=False,
        sequence="partition",
        commit=True,
        commit_ahead=True,
        seek=True,
        pace=True,
        unreadable=False,
        cluster="in newer versions",
        groups=True,
        keys=True,
    )
    public = tuple(
        (kind, name)
        for kind, names in (
            (Producer, "__init__ produce poll flush close __exit__ abort_transaction"),
            (
                Consumer,
                (
                    "__init__ poll consume commit seek subscribe unsubscribe assign unassign incremental_assign "
                    "incremental_unassign pause resume close __exit__"
                ),
            ),
        )
        for name in names.split()
        if name in kind.__dict__
    )

    def __init__(self, broker):
        self.broker = broker
        self._opened, self._producer = [], None

    def topic(self, name="orders"):
        return self.broker.topic(name)

    def _made(self, kind, **settings):
        made = kind({"bootstrap.servers": self.broker.address, "log_level": 0, **settings})
        self._opened.append(made)
        return made

    def producer(self):
        self._producer = self._producer or self._made(self.producer_kind, **{"linger.ms": 0})
        return self._producer

    def _produce(self, topic, value, told, key=None, headers=None):
        more = {} if headers is None else {"headers": headers}
        self.producer().produce(
            topic, value=value, key=key, partition=0, on_delivery=lambda *answer: told.append(answer), **more
        )

    def send(self, topic, value, *, key=None, headers=None):
        told = []
        self._produce(topic, value, told, key, headers)
        self._await(told, 1)
        return told[0][1].offset()

    def send_many(self, topic, values):
        told = []
        for value in values:
            self._produce(topic, value, told)
        self._await(told, len(values))

    def _await(self, told, count):
        deadline = time.monotonic() + PATIENCE_S
        while len(told) < count:
            assert time.monotonic() < deadline, "nobody answers"
            self.producer().poll(0.2)
        for error, _ in told:
            if error is not None:
                raise KafkaException(error)

    def reader(self, topic, *, group=None, client_id=None, deserializer=None):
        client = self._made(
            self.consumer_kind,
            **{
                "group.id": group or self.broker.group(),
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                **({"client.id": client_id} if client_id else {}),
                **self._deserializing(deserializer),
            },
        )
        client.assign([TopicPartition(topic, 0, 0)])
        return self.kind(client, topic)

    def _deserializing(self, deserializer):
        assert deserializer is None
        return {}

    def inside(self, function):
        return function()

    def read(self, message, what):
        return list(message.headers() or ()) if what == "headers" else getattr(message, what)()

    def clients(self):
        return list(self._opened)

    def close_clients(self):
        for client in self._opened:
            if isinstance(client, Consumer):
                client.close()
            else:
                client.flush(PATIENCE_S)
        self._opened.clear()
        self._producer = None

    close = close_clients


class Consuming(Polling):
    name = "confluent-kafka, `consume`"
    receive_word = "consume"
    kind = ConsumingReader
    can = dataclasses.replace(Polling.can, process_span="once somebody looks", loop_ends=True, batches=True)


class Serializing(Polling):
    name = "confluent-kafka, `SerializingProducer` and `DeserializingConsumer`"
    producer_kind, consumer_kind = SerializingProducer, DeserializingConsumer
    can = dataclasses.replace(Polling.can, unreadable=True)
    public = (*Polling.public, (SerializingProducer, "produce"), (DeserializingConsumer, "poll"))

    def _deserializing(self, deserializer):
        return {"value.deserializer": lambda value, _context: deserializer(value)} if deserializer else {}


class Subclassing(Polling):
    name = "confluent-kafka, subclasses of the application's"
    producer_kind, consumer_kind = OwnProducer, OwnConsumer


class AwaitedReader(Reader):
    """By AIOConsumer's poll(), in the application's one task."""

    def __init__(self, driver, client, topic):
        super().__init__(client, topic)
        self._application = driver.application

    async def _poll(self):
        message = None
        async with _timeout():
            while message is None:
                message = _message(await self.client.poll(0.5))
        return message

    def receive_one(self):
        return self._application.run(self._poll)

    def loop(self, handler, count, then=None):
        return self._application.run(self._loop, handler, count, then)

    async def _loop(self, handler, count, then):
        for _ in range(count):
            handler(await self._poll())
            await self._application.settle()
        return then() if then else None

    def commit(self):
        async def commit():
            try:
                await self.client.commit(asynchronous=False)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._NO_OFFSET:
                    raise

        self._application.run(commit)

    def seek(self, offset):
        self._application.run(self.client.seek, TopicPartition(self.topic, 0, offset))

    def close(self):
        if not self.client._closed:  # It refuses to be closed twice, with us or without.
            self._application.run(self.client.close)


class AwaitedConsumingReader(AwaitedReader):
    """By AIOConsumer's consume()."""

    async def _consume(self, count):
        async with _timeout():
            while True:
                messages = await self.client.consume(count, 0.5)
                if messages:
                    for at in range(len(messages)):  # A loop would have each of them in hand.
                        _message(messages[at])
                    return messages

    async def _poll(self):
        return (await self._consume(1))[0]

    def receive_many(self, count):
        messages = []
        while len(messages) < count:
            messages += self._application.run(self._consume, count - len(messages))
        return messages

    async def _loop(self, handler, count, then):
        while count:
            messages = await self._consume(count)
            count -= len(messages)
            for message in messages:
                handler(message)
                await self._application.settle()
        return then() if then else None


@asynccontextmanager
async def _timeout():
    deadline = time.monotonic() + PATIENCE_S
    yield
    assert time.monotonic() < deadline, "nothing came"


class Awaiting(Polling):
    """AIOProducer and AIOConsumer; what has headers of the application's goes through a Producer: the other refuses it."""

    name = "confluent-kafka, `AIOProducer` and `AIOConsumer.poll`"
    kind = AwaitedReader
    can = dataclasses.replace(Polling.can, handler_error="where it ends the task")
    public = (
        *Polling.public,
        *((AIOConsumer, name) for name in ("poll", "consume", "close") if AIOConsumer),
        *((Producer, name) for name in ("produce_batch",) if AIOConsumer),
    )

    def __init__(self, broker):
        if AIOConsumer is None:
            pytest.skip("this version has no asyncio clients")
        super().__init__(broker)
        self.application, self._awaited = Application(), None

    async def _send(self, topic, value, key):
        if self._awaited is None:
            settings = {"bootstrap.servers": self.broker.address, "log_level": 0, "linger.ms": 0}
            # One thread: each numbers its messages by itself, and a test sends too few to compare those of four.
            self._awaited = AIOProducer(settings, max_workers=1, buffer_timeout=0)
        answer = await self._awaited.produce(topic, value, key, partition=0)
        await self._awaited.flush()
        return (await answer).offset()

    async def _send_otherwise(self, topic, value, key, headers):
        return super().send(topic, value, key=key, headers=headers)

    def send(self, topic, value, *, key=None, headers=None):
        awaits = headers is None and isinstance(value, (bytes, type(None)))
        call = (self._send, topic, value, key) if awaits else (self._send_otherwise, topic, value, key, headers)
        if not self.application.here:
            return self.application.run(*call)
        return self.application.begin(self._in_turn(self.application._begun[-1:], *call))

    async def _in_turn(self, before, function, *arguments):
        for each in before:
            await each
        await function(*arguments)

    def send_many(self, topic, values):
        async def send():
            for value in values:
                await self._send(topic, value, None)

        self.application.run(send)

    def reader(self, topic, *, group=None, client_id=None, deserializer=None):
        assert deserializer is None

        async def make():
            client = AIOConsumer(
                {
                    "bootstrap.servers": self.broker.address,
                    "log_level": 0,
                    "group.id": group or self.broker.group(),
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "fetch.wait.max.ms": 50,
                    **({"client.id": client_id} if client_id else {}),
                }
            )
            self._opened.append(client)
            await client.assign([TopicPartition(topic, 0, 0)])
            return client

        return self.kind(self, self.application.run(make), topic)

    def inside(self, function):
        async def call():
            try:
                return function()
            finally:
                await self.application.settle()

        return self.application.run(call)

    def close_clients(self):
        async def close():
            for client in self._opened:
                if isinstance(client, AIOConsumer) and not client._closed:
                    await client.close()
            if self._awaited is not None:
                await self._awaited.close()

        self.application.run(close)
        self._awaited = None
        self._opened = [client for client in self._opened if not isinstance(client, AIOConsumer)]
        super().close_clients()

    def close(self):
        self.close_clients()
        self.application.end()


class AwaitingMany(Awaiting):
    name = "confluent-kafka, `AIOConsumer.consume`"
    receive_word = "consume"
    kind = AwaitedConsumingReader
    can = dataclasses.replace(
        Awaiting.can, process_span="once somebody looks", handler_error="no", loop_ends=True, batches=True
    )


class SharingReader(ConsumingReader):
    """By ShareConsumer's poll(). What is not asked for by a test is kept for its next question."""

    def __init__(self, client, topic):
        super().__init__(client, topic)
        self._left = []

    def _poll(self):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            messages = self.client.poll(0.5)
            if messages:
                for at in range(len(messages)):
                    _message(messages[at])
                return messages
            assert time.monotonic() < deadline, "nothing came"

    def _consume(self, count):
        if not self._left:
            found = self._poll()
            self._left = [found[at] for at in range(len(found))]
        given, self._left = self._left[:count], self._left[count:]
        return given

    def loop(self, handler, count, then=None):
        while count:
            given, self._left = self._left or self._poll(), []
            for at, message in enumerate(given, 1):
                handler(message)
                count -= 1
                if not count:  # A poll returns as many as it likes.
                    self._left = [given[rest] for rest in range(at, len(given))]
                    break
        return then() if then else None

    def commit(self):
        self.client.commit_sync()


class Sharing(Polling):
    name = "confluent-kafka, `ShareConsumer`"
    consumer_kind, kind = ShareConsumer, SharingReader
    can = dataclasses.replace(
        Polling.can,
        process_span="once somebody looks",
        loop_ends=True,
        batches=True,
        sequence="not judged",
        commit_ahead=False,
        seek=False,
        pace=False,
        cluster="no",
    )
    public = (
        *(each for each in Polling.public if each[0] is Producer),
        *((ShareConsumer, name) for name in ("__init__", "poll", "commit_sync", "close", "__exit__") if ShareConsumer),
    )

    def __init__(self, broker):
        if ShareConsumer is None:
            pytest.skip("this version has no share consumers")
        super().__init__(broker)

    def reader(self, topic, *, group=None, client_id=None, deserializer=None):
        assert deserializer is None
        settings, group = {"client.id": client_id} if client_id else {}, group or self.broker.group()
        if not self.broker.kafka_python:
            self._begin_with_the_first(group)
        client = self._made(ShareConsumer, **{"group.id": group, **settings})
        client.subscribe([topic])
        return self.kind(client, topic)

    def _begin_with_the_first(self, group):
        """Where a group begins is its own setting, on a real broker."""
        from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

        begins = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[begins])
        admin = AdminClient({"bootstrap.servers": self.broker.address, "log_level": 0})
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(PATIENCE_S)

    def close_clients(self):
        for client in [each for each in self._opened if isinstance(each, ShareConsumer)]:
            client.close()
            self._opened.remove(client)
        super().close_clients()

    close = close_clients
