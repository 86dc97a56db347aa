"""aiokafka: `send`, and `async for`. All of the application runs in one task of a loop that has a thread of its own."""

from __future__ import annotations

import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.contract.driver import Can

PATIENCE_S = 20


class Application:
    """The one task in which everything is called, in turn."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._begun = []
        self._queue = self._anywhere(self._start())

    def _anywhere(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    async def _start(self):
        queue = asyncio.Queue()
        self._task = asyncio.create_task(self._run(queue))
        return queue

    async def _run(self, queue):
        while (given := await queue.get()) is not None:
            function, arguments, answer = given
            try:
                result = await function(*arguments)
            except BaseException as error:
                answer.set_exception(error)
            else:
                answer.set_result(result)
            del given, function, arguments, answer

    @property
    def here(self):
        """Whether a handler asks."""
        return threading.get_ident() == self._thread.ident

    def run(self, function, *arguments):
        """Await a coroutine function in the application's task."""

        async def put(answer):
            self._queue.put_nowait((function, arguments, answer))
            return await answer

        async def main():
            return await put(self.loop.create_future())

        return self._anywhere(main())

    def begin(self, coroutine):
        """What a handler has begun: in its context, and waited for when it has returned."""
        self._begun.append(self.loop.create_task(coroutine))

    async def settle(self):
        begun, self._begun = self._begun, []
        for task in begun:
            await task

    def end(self):
        async def stop():
            self._queue.put_nowait(None)
            await self._task

        self._anywhere(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


class Reader:
    """By `async for`, and `getmany` for many; the others differ by their loop."""

    def __init__(self, driver, client, topic):
        self._application, self.client, self.partition = driver.application, client, TopicPartition(topic, 0)

    def receive_one(self):
        return self._application.run(self._getone)

    async def _getone(self):
        return await self.client.getone()

    def receive_many(self, count):
        return self._application.run(self._receive_many, count)

    async def _receive_many(self, count):
        found = []
        while len(found) < count:
            found += await self._getmany(count - len(found))
        return found

    async def _getmany(self, count):
        """What one call returns of the only partition."""
        polled = await self.client.getmany(timeout_ms=PATIENCE_S * 1000, max_records=count)
        (found,) = polled.values()
        return found

    def loop(self, handler, count, then=None):
        return self._application.run(self._loop, handler, count, then)

    async def _loop(self, handler, count, then):
        async for message in self.client:
            await self._handle(handler, message)
            count -= 1
            if not count:
                break
        return then() if then else None

    async def _handle(self, handler, message):
        handler(message)
        await self._application.settle()

    def commit(self):
        self._application.run(self._commit)

    async def _commit(self):
        await self.client.commit()

    def seek(self, offset):
        async def seek():
            self.client.seek(self.partition, offset)

        self._application.run(seek)

    def close(self):
        self._application.run(self.client.stop)


class GetoneReader(Reader):
    async def _loop(self, handler, count, then):
        for _ in range(count):
            await self._handle(handler, await self.client.getone())
        return then() if then else None


class GetmanyReader(Reader):
    async def _loop(self, handler, count, then):
        while count:
            messages = await self._getmany(count)
            count -= len(messages)
            for message in messages:
                await self._handle(handler, message)
        return then() if then else None


class Aiokafka:
    library, system = "aiokafka", "kafka"
    send_word, receive_word = "send", "getone"
    names = ("messaging.destination.partition.id", "kafka.offset")
    public = (
        *((AIOKafkaProducer, name) for name in ("send", "create_batch", "send_batch", "abort_transaction")),
        *(
            (AIOKafkaConsumer, name)
            for name in (
                "getone",
                "getmany",
                "__aiter__",
                "commit",
                "seek",
                "seek_to_beginning",
                "seek_to_end",
                "start",
                "stop",
            )
        ),
    )

    def __init__(self, broker):
        self.broker, self.application = broker, Application()
        self._opened, self._producer = [], None

    def topic(self, name="orders"):
        return self.broker.topic(name)

    async def _made(self, kind, **options):
        made = kind(bootstrap_servers=self.broker.address, **options)
        self._opened.append(made)
        await made.start()
        return made

    async def _send(self, topic, value, key, headers):
        if self._producer is None:
            self._producer = await self._made(AIOKafkaProducer)
        answer = await self._producer.send_and_wait(topic, value, key=key, headers=headers, partition=0)
        return answer.offset

    def send(self, topic, value, *, key=None, headers=None):
        if self.application.here:
            return self.application.begin(self._send(topic, value, key, headers))
        return self.application.run(self._send, topic, value, key, headers)

    def send_many(self, topic, values):
        async def send():
            await self._send(topic, values[0], None, None)
            futures = [await self._producer.send(topic, value, partition=0) for value in values[1:]]
            await asyncio.gather(*futures)

        self.application.run(send)

    def reader(self, topic, *, group=None, client_id=None, deserializer=None):
        async def make():
            client = await self._made(
                AIOKafkaConsumer,
                group_id=group or self.broker.group(),
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                fetch_max_wait_ms=50,
                **({"client_id": client_id} if client_id else {}),
                **({"value_deserializer": deserializer} if deserializer else {}),
            )
            client.assign([TopicPartition(topic, 0)])
            return client

        return self.kind(self, self.application.run(make), topic)

    def inside(self, function):
        async def call():
            try:
                return function()
            finally:
                await self.application.settle()

        return self.application.run(call)

    def read(self, message, what):
        found = getattr(message, what)
        return list(found) if what == "headers" else found

    def clients(self):
        return list(self._opened)

    def close_clients(self):
        self.application.run(self._stop)

    async def _stop(self):
        for client in self._opened:
            await client.stop()
        self._opened.clear()
        self._producer = None

    def close(self):
        self.close_clients()
        self.application.end()


class AsyncFor(Aiokafka):
    name, kind = "aiokafka, `async for`", Reader
    can = Can(
        process_span="yes",
        loop_ends=True,
        handler_error="where it ends the task",
        batches=True,
        sequence="partition",
        commit=True,
        commit_ahead=True,
        seek=True,
        pace=True,
        unreadable=True,
        cluster="in newer versions",
        groups=True,
        keys=True,
    )


class Getmany(Aiokafka):
    name, kind = "aiokafka, `getmany`", GetmanyReader
    can = Can(**{**vars(AsyncFor.can), "process_span": "once somebody looks", "handler_error": "no"})


class SendBatch(Aiokafka):
    """By batches of its own making, and `getone`."""

    name, kind = "aiokafka, `send_batch` and `getone`", GetoneReader
    can = Can(**{**vars(AsyncFor.can), "loop_ends": False, "sequence": "no", "addressed": False})

    async def _send(self, topic, value, key, headers):
        return await self._send_batch(topic, [value], key, headers)

    async def _send_batch(self, topic, values, key, headers):
        if self._producer is None:
            self._producer = await self._made(AIOKafkaProducer)
        left, given = list(values), {} if headers is None else {"headers": headers}
        while left:
            batch = self._producer.create_batch()
            while left and batch.append(timestamp=None, key=key, value=left[0], **given) is not None:
                del left[0]
            answer = await (await self._producer.send_batch(batch, topic, partition=0))
        return answer.offset

    def send_many(self, topic, values):
        self.application.run(self._send_batch, topic, values, None, None)
