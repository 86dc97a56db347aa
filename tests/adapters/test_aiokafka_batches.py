"""aiokafka's `getmany`: the batch in hand is the task's that asked for it, and what it sends then rests on it."""

from __future__ import annotations

import asyncio

import pytest

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.awaited_batch import strays

aiokafka = pytest.importorskip("aiokafka")
pytestmark = pytest.mark.broker

WAIT_MS = 20_000
LATER, FIRST, UNKNOWN = (2, True), (1, True), (1, False)


async def said(app, topic, count):
    """What the headers of the messages say: hops, and whether it is known when their data began."""
    consumer, found = await app.consumer(topic), []
    for _ in range(count):
        header = dict((await consumer.getone()).headers)["otelp"]
        read = pipeline_header.decode(header)
        found.append((read.hops, bool(read.origin_ms)))
    return found


def test_each_task_has_a_batch_of_its_own(telemetry, application):
    """What one asks for does not take away what another has; it ends with the next call, the task, or the consumer."""

    async def main(app):
        _, consumer, producer = await app.filled(3)
        target = app.topic("next")
        (known,) = application.pipe._engine.consumers.all()
        has, turn, in_hand = asyncio.Event(), asyncio.Event(), []

        async def send():
            await producer.send_and_wait(target, b"x", partition=0)

        async def first():
            await consumer.getmany(timeout_ms=WAIT_MS, max_records=1)
            has.set()
            await turn.wait()
            in_hand.append(len(known.batches()))
            await send()
            await consumer.getmany()
            await send()

        async def second():
            for _ in range(2):
                await consumer.getmany(timeout_ms=WAIT_MS, max_records=1)
                await send()
            await has.wait()
            turn.set()

        await asyncio.gather(first(), second())
        in_hand.append(len(known.batches()))
        return in_hand, await said(app, target, 4)

    assert application(main) == ([2, 0], [LATER, LATER, LATER, FIRST])


def test_one_message_after_a_batch(telemetry, application):
    """Asking in one way ends what was handed out in the other."""

    async def main(app):
        _, consumer, _ = await app.filled(3)
        (known,) = application.pipe._engine.consumers.all()
        found = []
        for call in (consumer.getone(), consumer.getmany(timeout_ms=WAIT_MS, max_records=1), consumer.getone()):
            await call
            found.append((len(known.deliveries()), len(known.batches())))
        await consumer.stop()
        return found, (known.deliveries(), known.batches())

    assert application(main) == ([(1, 0), (0, 1), (1, 0)], ([], []))


AWAITED = {
    "create_task": asyncio.create_task,
    "wait_for": lambda call: asyncio.wait_for(call, 30),
    "wait_for of a task": lambda call: asyncio.wait_for(asyncio.create_task(call), 30),
    "gather": lambda call: asyncio.gather(call, asyncio.sleep(0)),
}


@pytest.mark.parametrize("way", AWAITED)
def test_what_awaits_the_call_has_the_batch(telemetry, application, way):
    """Also where it runs in a task of its own, whose context does not reach the code that awaits it."""

    async def main(app):
        _, consumer, producer = await app.filled(1)
        target = app.topic("next")
        assert await AWAITED[way](consumer.getmany(timeout_ms=WAIT_MS))
        await producer.send_and_wait(target, b"x", partition=0)
        await consumer.getmany()
        await asyncio.sleep(0)
        await producer.send_and_wait(target, b"x", partition=0)
        return await said(app, target, 2)

    assert application(main) == [LATER, FIRST]
    assert application.pipe.status().problems == ()


@pytest.mark.parametrize("way", AWAITED)
def test_what_awaits_one_message_rests_on_it(telemetry, application, way):
    """It has no span there, and what is sent does not begin there either."""

    async def main(app):
        _, consumer, producer = await app.filled(1)
        target = app.topic("next")
        assert await AWAITED[way](consumer.getone())
        await producer.send_and_wait(target, b"x", partition=0)
        await consumer.getmany()
        await asyncio.sleep(0)
        await producer.send_and_wait(target, b"x", partition=0)
        return await said(app, target, 2)

    assert application(main) == [LATER, FIRST]


def test_where_nobody_awaits_the_call_nothing_is_claimed(telemetry, application):
    """Until the next call it is not known whether what is sent begins here, which is said."""

    async def main(app):
        _, consumer, producer = await app.filled(1)
        target, task = app.topic("next"), asyncio.create_task(consumer.getmany(timeout_ms=WAIT_MS))
        done = asyncio.Event()
        task.add_done_callback(lambda _task: done.set())
        await done.wait()
        await producer.send_and_wait(target, b"x", partition=0)
        await consumer.getmany()
        await producer.send_and_wait(target, b"x", partition=0)
        return await said(app, target, 2)

    assert application(main) == [UNKNOWN, FIRST]
    (problem,) = application.pipe.status().problems
    assert problem.startswith("messages were polled by a task of its own, and nothing tells who handles them")
    assert not strays


def test_a_call_that_is_cancelled_or_fails(telemetry, application):
    """The client's own exceptions; the time is over that it waited."""

    async def main(app):
        topic = app.topic()
        producer = await app.producer()
        await producer.send_and_wait(topic, b"x", partition=1)  # So that it is there; partition 0 is empty.
        consumer = await app.consumer(topic)
        (known,) = application.pipe._engine.consumers.all()
        outcomes = []
        for call in (consumer.getone(), consumer.getmany(timeout_ms=WAIT_MS)):
            task = asyncio.create_task(call)
            await asyncio.sleep(0.05)
            asking = known.polling.began_ns > 0
            task.cancel()
            await asyncio.wait({task})
            outcomes.append((asking, task.cancelled(), known.polling.began_ns))
        with pytest.raises(ValueError, match="max_records"):
            await consumer.getmany(max_records=0)
        await consumer.stop()
        with pytest.raises(aiokafka.errors.ConsumerStoppedError):
            await consumer.getmany()
        return outcomes

    assert application(main) == [(True, True, 0), (True, True, 0)]
    failed = {
        point.attributes["error.type"].rsplit(".", 1)[-1]: point.count
        for point in telemetry.metric("messaging.client.operation.duration").points
        if "error.type" in point.attributes
    }
    assert failed == {"ValueError": 1, "ConsumerStoppedError": 1}


def test_several_tasks_that_wait(telemetry, application):
    """One that is given a message leaves the others waiting."""

    async def main(app):
        topic, consumer, producer = await app.filled(0)
        await producer.send_and_wait(topic, b"x", partition=1)
        (known,) = application.pipe._engine.consumers.all()
        tasks = {asyncio.create_task(consumer.getone()) for _ in range(2)}
        await asyncio.sleep(0.05)
        waited_ns = known.polling.waited_ns
        await producer.send_and_wait(topic, b"x", partition=0)
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        found = [len(done), known.polling.began_ns > 0, known.polling.waited_ns > waited_ns]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return [*found, known.polling.began_ns]

    assert application(main) == [1, True, True, 0]


async def chained(target, producer, messages):
    """Send in a loop over a batch; what was sent says which message it was made of."""
    for message in messages:
        await asyncio.sleep(0)
        await producer.send_and_wait(target, b"%d" % message.offset, partition=0)


def sent_under(telemetry):
    """For each message that was sent to the next topic, the offset of the one that was in hand."""
    processed = {span.span_id: span for span in telemetry.spans() if span.kind == "CONSUMER"}
    return sorted(
        processed[span.parent_span_id].attributes["kafka.offset"]
        for span in telemetry.spans()
        if span.name.startswith("send next")
    )


def test_tasks_that_loop_over_batches_of_one_consumer(telemetry, application):
    """Each step has its message in hand, whatever the others ask for meanwhile."""

    async def main(app):
        _, consumer, producer = await app.filled(6)
        target, left = app.topic("next"), 6

        async def work():
            nonlocal left
            while left > 0:
                left -= 1
                for messages in (await consumer.getmany(timeout_ms=WAIT_MS, max_records=1)).values():
                    await chained(target, producer, messages)

        await asyncio.gather(*(work() for _ in range(3)))
        reader = await app.consumer(target)
        return sorted([int((await reader.getone()).value) for _ in range(6)])

    assert application(main) == list(range(6))
    assert sent_under(telemetry) == list(range(6))
    assert application.pipe.status().errors == {}


def test_a_loop_over_what_a_task_of_its_own_has_returned(telemetry, application):
    """The list brings its messages along."""

    async def main(app):
        _, consumer, producer = await app.filled(1)
        polled = await asyncio.wait_for(asyncio.create_task(consumer.getmany(timeout_ms=WAIT_MS)), 30)
        for messages in polled.values():
            await chained(app.topic("next"), producer, messages)

    application(main)
    assert sent_under(telemetry) == [0]
