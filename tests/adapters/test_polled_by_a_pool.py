"""A batch, or a message, that a pool's thread asks for: what rests on it, and who may say that data begins here."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.context import get_current

import otel_pipeline
from otel_pipeline.engine import awaited_batch, pipeline_header
from otel_pipeline.engine.awaited_batch import strays
from tests.limits import below_at_above

BEGAN_MS = time.time_ns() // 1_000_000 - 3_600_000
HEADER = pipeline_header.encode(
    flags=0,
    hops=1,
    environment="local",
    origin_ms=BEGAN_MS,
    newest_ms=0,
    path=5,
    producer_id=2,
    sequence=3,
    tag=4,
)
LATER, FIRST, UNKNOWN = (2, "local", True), (1, "staging", False), (1, None, True)


def in_executor(call):
    return asyncio.get_running_loop().run_in_executor(None, call)


async def both(call, other):
    return (await asyncio.gather(asyncio.to_thread(call), other))[0]


WAYS = {
    "to_thread": asyncio.to_thread,
    "run_in_executor": in_executor,
    "wait_for": lambda call: asyncio.wait_for(asyncio.to_thread(call), 20),
    "wait_for of the future": lambda call: asyncio.wait_for(in_executor(call), 20),
    "gather": lambda call: both(call, asyncio.sleep(0)),
    "a task": lambda call: asyncio.create_task(asyncio.to_thread(call)),
}


@pytest.fixture
def side(mock, telemetry):
    """A consumer with a message from local, and a producer of staging."""
    return Side(mock, telemetry)


class Side:
    def __init__(self, mock, telemetry):
        self.mock, self.source, self.target = mock, mock.topic(), mock.topic("next")
        mock.send(self.source, b"a", headers=[("otelp", HEADER)])
        self.pipe = telemetry.instrument(environment="staging")
        self.consumer, self.producer = mock.consumer(self.source), mock.producer()

    def call(self, *, direct):
        """The client's own method, or a function of the application around it."""
        return functools.partial(self.consumer.poll, 10_000) if direct else self.poll

    def poll(self):
        return self.consumer.poll(10_000)

    def send(self):
        self.producer.send(self.target, b"x", partition=0).get(10)

    def said(self):
        """What the headers of all that was sent say: hops, environment, whether the origin is not now."""
        count = self.producer.send(self.target, b"last", partition=0).get(10).offset
        reader = self.mock.consumer(self.target)
        read = [
            pipeline_header.decode(dict(record.headers)["otelp"]) for record in self.mock.poll(reader, count + 1)[:-1]
        ]
        return [(each.hops, each.environment, each.origin_ms <= BEGAN_MS) for each in read]


@pytest.mark.parametrize("direct", [True, False], ids=["", "in a function"])
@pytest.mark.parametrize("way", WAYS)
def test_what_awaits_a_poll_has_the_batch_in_hand(side, way, direct):
    """And so have its child tasks, and what it hands to a thread. After the consumer is closed it begins here."""

    async def main():
        assert await WAYS[way](side.call(direct=direct))
        side.send()
        await asyncio.create_task(asyncio.to_thread(side.send))
        await asyncio.to_thread(side.consumer.close)
        await asyncio.sleep(0)
        side.send()

    asyncio.run(main())

    assert (side.said(), strays) == ([LATER, LATER, FIRST], set())


def polled_before_it_is_chained(monkeypatch):
    """The call has returned its batch, and has not ended yet; when it does, who awaits it is known."""
    polled, chained = threading.Event(), threading.Event()
    has_polled, wrap = awaited_batch._Polled.has_polled, asyncio.futures.wrap_future

    def hold(self, *arguments, **named):
        has_polled(self, *arguments, **named)
        polled.set()
        assert chained.wait(20)

    def wait(future, **named):
        polled.wait(2)  # What else is handed to a thread polls nothing.
        made = wrap(future, **named)
        chained.set()
        return made

    monkeypatch.setattr(awaited_batch._Polled, "has_polled", hold)
    monkeypatch.setattr(asyncio.futures, "wrap_future", wait)


def done_before_it_is_chained(monkeypatch):
    """The call has ended before anybody could say that they await it."""
    wrap = asyncio.futures.wrap_future

    def wait(future, **named):
        concurrent.futures.wait([future])
        return wrap(future, **named)

    monkeypatch.setattr(asyncio.futures, "wrap_future", wait)


def chained_before_we_hear_of_its_end(monkeypatch):
    """The future is done, and whoever chains theirs is told at once; those that were there before, only then."""
    wrap, invoke = asyncio.futures.wrap_future, concurrent.futures.Future._invoke_callbacks
    done, chained = threading.Event(), threading.Event()

    def hold(self):
        done.set()
        chained.wait(2)
        invoke(self)

    def wait(future, **named):
        done.wait(2)
        made = wrap(future, **named)
        chained.set()
        return made

    monkeypatch.setattr(concurrent.futures.Future, "_invoke_callbacks", hold)
    monkeypatch.setattr(asyncio.futures, "wrap_future", wait)


@pytest.mark.parametrize(
    "order", [polled_before_it_is_chained, done_before_it_is_chained, chained_before_we_hear_of_its_end]
)
@pytest.mark.parametrize("direct", [True, False], ids=["", "in a function"])
@pytest.mark.parametrize("way", ["to_thread", "run_in_executor", "wait_for"])
def test_a_poll_that_is_quicker_than_who_awaits_it(side, monkeypatch, way, direct, order):
    """The pool's thread runs before `run_in_executor` has chained the future that is awaited to the pool's."""

    async def main():
        order(monkeypatch)
        assert await WAYS[way](side.call(direct=direct))
        monkeypatch.undo()
        side.send()
        await asyncio.create_task(asyncio.to_thread(side.send))

    asyncio.run(main())

    assert (side.said(), strays) == ([LATER, LATER], set())


def test_what_a_coroutine_waits_for_in_vain_is_nobodys(side):
    """It blocks its loop for a pool's answer: nothing is claimed, before the loop has looked and after it."""

    async def main():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(side.call(direct=True)).result()
            pool.submit(lambda: None).result()  # By then the thread has told of the first one.
        side.send()
        await asyncio.sleep(0)
        side.send()

    asyncio.run(main())

    assert side.said() == [UNKNOWN, UNKNOWN]


@below_at_above("engine.awaited_batch._DEPTH", 4, LATER, LATER, FIRST)
def test_functions_between_the_pool_and_the_poll(side, size, outcome):
    """Up to four of the application: deeper down it is a program of its own."""

    def around(depth):
        return side.call(direct=True)() if depth == 1 else around(depth - 1)

    async def main():
        await asyncio.to_thread(around, size)
        side.send()

    asyncio.run(main())

    assert side.said() == [outcome]


def test_another_task_has_it_not(side):
    """What it sends begins here: a request that is served meanwhile."""

    async def main():
        polled, sent = asyncio.Event(), asyncio.Event()

        async def serve():
            await polled.wait()
            side.send()
            sent.set()

        served = asyncio.create_task(serve())
        await asyncio.to_thread(side.poll)
        polled.set()
        await sent.wait()
        await served

    asyncio.run(main())

    assert side.said() == [FIRST]


@pytest.mark.parametrize("direct", [True, False], ids=["", "in a function"])
def test_a_pools_own_thread_keeps_nothing(side, direct):
    """It works for others next."""
    with ThreadPoolExecutor(1) as pool:

        async def main():
            await asyncio.get_running_loop().run_in_executor(pool, side.call(direct=direct))

        asyncio.run(main())
        pool.submit(side.send).result()

    assert side.said() == [FIRST]


def test_a_loop_in_a_pools_thread_has_its_batch(side):
    """It polls and handles in one function, whoever awaits that."""

    def consume():
        side.poll()
        side.send()

    async def main():
        await asyncio.to_thread(consume)

    asyncio.run(main())

    assert side.said() == [LATER]


def test_where_nobody_is_found_nothing_is_claimed(side):
    """Without asyncio: unknown, and said once, until the next batch; also when the consumer is forgotten."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(side.call(direct=True)).result()
        side.send()
        pool.submit(side.consumer.close).result()
    side.send()

    assert (side.said(), strays) == ([UNKNOWN, FIRST], set())
    assert [problem for problem in side.pipe.status().problems if "polled by a pool's thread" in problem] != []


def test_a_consumer_that_is_forgotten_is_forgotten(side):
    """It keeps nobody from saying where data begins."""
    side.mock.clients.remove(side.consumer)
    with ThreadPoolExecutor(1) as pool:
        concurrent.futures.wait([pool.submit(side.call(direct=True))])
        before = len(strays)
        side.consumer.close()
        side.consumer = None
    gc.collect()

    assert (before, len(strays)) == (1, 0)


def test_a_poll_in_a_thread_of_its_own_is_the_threads(side):
    """No pool: as everywhere, who has polled has it in hand."""

    def consume():
        side.poll()
        side.send()

    thread = threading.Thread(target=consume)
    thread.start()
    thread.join()

    assert side.said() == [LATER]


def asks(side, *, direct):
    """`next()` itself, or a function of the application that calls it."""
    return functools.partial(next, side.consumer) if direct else (lambda: next(side.consumer))


@pytest.mark.parametrize("direct", [True, False], ids=["", "in a function"])
@pytest.mark.parametrize("way", ["to_thread", "run_in_executor", "wait_for"])
def test_what_awaits_next_rests_on_its_message(side, way, direct):
    """Its child tasks, and what it hands to a thread, too; `process()` has it in hand. No span stays current."""
    current = []

    async def main():
        record = await WAYS[way](asks(side, direct=direct))
        side.send()
        await asyncio.create_task(asyncio.to_thread(side.send))
        with otel_pipeline.process(record):
            current.append(otel_pipeline.current().hops)
        current.extend([otel_pipeline.current(), await in_executor(get_current)])
        await asyncio.to_thread(side.consumer.close)
        await asyncio.sleep(0)
        side.send()

    asyncio.run(main())

    assert (side.said(), current, strays) == ([LATER, LATER, FIRST], [1, None, {}], set())


@pytest.mark.parametrize("direct", [True, False], ids=["", "in a function"])
def test_a_pools_own_thread_keeps_no_message(side, direct):
    """Nothing is current in it, and where nobody is found who has the message, nothing is claimed."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asks(side, direct=direct)).result()
        left = pool.submit(get_current).result()
        side.send()
        pool.submit(side.consumer.close).result()
    side.send()

    assert (left, side.said(), strays) == ({}, [UNKNOWN if direct else FIRST, FIRST], set())


def test_a_for_loop_in_a_pools_thread_has_its_message(side):
    """In hand, with its span, as everywhere; who awaits the function is told of nothing."""
    current = []

    def consume():
        for _ in side.consumer:
            current.append(otel_pipeline.current().hops)
            side.send()
            break

    async def main():
        await asyncio.to_thread(consume)
        side.send()

    asyncio.run(main())

    assert (side.said(), current) == ([LATER, FIRST], [1])


@pytest.mark.no_check
def test_a_failure_of_ours_is_not_in_the_applications_log(side, monkeypatch, caplog):
    """What fails when the pool's call is done is counted; the future, which calls us back, has nothing to log."""

    def fail():
        raise RuntimeError("of ours")

    monkeypatch.setattr(awaited_batch, "in_hand", fail)
    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(asks(side, direct=True)).result()
    said = [record.name for record in caplog.records if record.name.startswith("concurrent")]

    assert (bool(polled), said, side.pipe.status().errors) == (True, [], {"batch.pool": 1})
