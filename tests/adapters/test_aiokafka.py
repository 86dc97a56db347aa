"""aiokafka: the message in hand is the task's, and ends with the loop, the task or the consumer, whichever is first."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys

import pytest
from opentelemetry import trace

import otel_pipeline
from otel_pipeline.testing.trees import tree
from tests.adapters.aiokafka_application import Application

aiokafka = pytest.importorskip("aiokafka")
pytestmark = pytest.mark.broker

LIBRARIES = ["aiokafka"]


def current():
    span = trace.get_current_span()
    return getattr(span, "name", None) if span.is_recording() else None


def processed(telemetry):
    """Error type and offset of each process span, in the order of their offsets."""
    found = [span for span in telemetry.spans() if span.kind == "CONSUMER"]
    return sorted((span.attributes["kafka.offset"], span.attributes.get("error.type")) for span in found)


def parents(telemetry):
    """Name and the parent's name of each span."""
    spans = {(span.trace_id, span.span_id): span for span in telemetry.spans()}
    return sorted(
        (span.name.split("-")[0], getattr(spans.get((span.trace_id, span.parent_span_id)), "name", "").split("-")[0])
        for span in spans.values()
    )


def test_tasks_that_share_a_consumer_have_each_its_own_message(telemetry, application):
    """What one asks for does not end what another has in hand."""

    async def main(app):
        topic, consumer, producer = await app.filled(6)
        target, seen = app.topic("next"), []

        async def worker(number):
            for _ in range(2):
                message = await consumer.getone()
                await asyncio.sleep(0.01 * number)
                await producer.send_and_wait(target, message.value, partition=0)
                seen.append(current() == f"process {topic}")

        await asyncio.gather(*(worker(number) for number in range(3)))
        return seen

    assert application(main) == [True] * 6
    assert processed(telemetry) == [(offset, None) for offset in range(6)]
    chains = [("process orders", "send orders"), ("send next", "process orders"), ("send orders", "")]
    assert parents(telemetry) == sorted(chains * 6)
    assert len({span.trace_id for span in telemetry.spans()}) == 6


def test_tasks_that_a_handler_starts_go_on_in_its_trace(telemetry, application):
    """One for each message, also when the loop is long past it."""

    async def main(app):
        _, consumer, producer = await app.filled(3)
        target, tasks = app.topic("next"), []

        async def later(message):
            await asyncio.sleep(0.05)
            await producer.send_and_wait(target, message.value, partition=0)

        async for message in consumer:
            tasks.append(asyncio.create_task(later(message)))
            if len(tasks) == 3:
                break
        await asyncio.gather(*tasks)

    application(main)
    assert parents(telemetry).count(("send next", "process orders")) == 3


@pytest.mark.parametrize("way", ["break", "caught", "generator"])
def test_the_context_ends_with_the_loop(telemetry, application, way):
    """At once: what the task does then belongs to no message."""

    async def main(app):
        _, consumer, _ = await app.filled(2)

        async def messages():
            async for message in consumer:
                yield message

        if way == "caught":
            with contextlib.suppress(ZeroDivisionError):
                async for _message in consumer:
                    1 / 0  # noqa: B018
        elif way == "break":
            async for _message in consumer:
                break
        else:
            generator = messages()
            async for _message in generator:
                break
            await generator.aclose()
        return current()

    assert application(main) is None
    assert processed(telemetry) == [(0, None)]


@pytest.mark.parametrize("looked_at", [True, False])
def test_an_exception_that_ends_the_task_is_on_the_span(telemetry, application, looked_at):
    """And asyncio still says when nobody has looked at it."""
    said = []

    async def main(app):
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context["message"]))
        _, consumer, _ = await app.filled(1)

        async def handle():
            async for _message in consumer:
                raise KeyError("of the handler")

        task = asyncio.create_task(handle())
        await asyncio.wait({task})
        if looked_at:
            assert isinstance(task.exception(), KeyError)
        del task
        gc.collect()

    application(main)
    assert processed(telemetry) == [(0, "KeyError")]
    assert said == ([] if looked_at else ["Task exception was never retrieved"])


def test_a_cancelled_handler_has_failed_at_nothing(telemetry, application):
    """It was told to stop."""

    async def main(app):
        _, consumer, _ = await app.filled(1)
        begun = asyncio.Event()

        async def handle():
            async for _message in consumer:
                begun.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(handle())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})

    application(main)
    assert processed(telemetry) == [(0, None)]


def test_the_span_ends_where_the_loop_was_left(telemetry, application):
    """Not when the event loop comes to look at it: that may be much later. The counted clock ticks 1 ms a look."""

    async def main(app):
        _, consumer, _ = await app.filled(1)
        async for _message in consumer:
            break
        for _ in range(5_000):
            telemetry.clock_ns()

    application(main)
    (span,) = [span for span in telemetry.spans() if span.kind == "CONSUMER"]
    assert span.end_ns - span.start_ns < 100_000_000


def test_what_is_in_hand_ends_with_the_task_and_with_the_consumer(telemetry, application):
    """A task that never asks again, and others that are still at it when the consumer stops."""

    async def main(app):
        _, consumer, _ = await app.filled(2)

        async def once():
            await consumer.getone()
            raise LookupError("after it")

        await asyncio.gather(once(), return_exceptions=True)
        await consumer.getone()
        before = processed(telemetry)
        await consumer.stop()
        return before, current()

    assert application(main) == ([(0, "LookupError")], None)
    assert processed(telemetry) == [(0, "LookupError"), (1, None)]


HIDING = {
    "create_task": lambda consumer: asyncio.wait_for(asyncio.create_task(consumer.getone()), 10),
    "gather": lambda consumer: asyncio.gather(consumer.getone()),
    "anext": lambda consumer: asyncio.create_task(aiokafka.AIOKafkaConsumer.__anext__(consumer)),
}


@pytest.mark.parametrize("way", HIDING)
def test_no_span_is_made_up_where_no_context_arrives(telemetry, embedded, way):
    """A task for the call alone: the message is counted, it is said once, and `process()` works."""
    pipe = telemetry.instrument(libraries=LIBRARIES)

    async def main():
        app = Application(embedded)
        topic, consumer, producer = await app.filled(2)
        try:
            for _ in range(2):
                found = await HIDING[way](consumer)
                message = found[0] if isinstance(found, list) else found
                assert current() is None
            with otel_pipeline.process(message):
                await producer.send_and_wait(app.topic("next"), b"x", partition=0)
        finally:
            await app.close()
        return topic

    topic = asyncio.run(main())
    (said,) = [problem for problem in pipe.status().problems if "task of its own" in problem]
    assert "handle them in `with otel_pipeline.process(message)`" in said
    assert processed(telemetry) == [(1, None)]
    assert parents(telemetry).count(("send next", "process orders")) == 1
    consumed = {
        point.attributes["messaging.destination.name"]: point.value
        for point in telemetry.metric("messaging.client.consumed.messages").points
    }
    assert consumed == {topic: 2}


def test_wait_for_hides_the_context_before_python_3_12(telemetry, application):
    """From then on it waits in the same task."""

    async def main(app):
        topic, consumer, _ = await app.filled(1)
        await asyncio.wait_for(consumer.getone(), 10)
        return topic, current()

    topic, name = application(main)
    assert name == (f"process {topic}" if sys.version_info >= (3, 12) else None)


def test_what_send_gives_is_the_clients(telemetry, application):
    """Its own future, which anybody may cancel; partition and offset come from it."""

    async def main(app):
        topic, producer = app.topic(), await app.producer()
        future = await producer.send(topic, b"a", partition=1)
        answer = await future
        cancelled = await producer.send(topic, b"b", partition=1)
        cancelled.cancel()
        await producer.flush()
        await asyncio.sleep(0)
        return type(future), (answer.partition, answer.offset), cancelled.cancelled()

    assert application(main) == (asyncio.Future, (1, 0), True)
    assert [
        (span.status, span.attributes["messaging.destination.partition.id"], span.attributes.get("kafka.offset"))
        for span in telemetry.spans()
    ] == [("UNSET", "1", 0), ("UNSET", "1", None)]


def test_sends_that_fail_or_are_given_up(telemetry, application):
    """The client's own errors, on the spans; a send that is cancelled while it waits has not been sent."""

    async def main(app):
        topic, producer = app.topic(), await app.producer(max_request_size=1_000)
        with pytest.raises(aiokafka.errors.MessageSizeTooLargeError):
            await producer.send(topic, b"x" * 2_000)
        await producer.stop()
        with pytest.raises(aiokafka.errors.ProducerClosed):
            await producer.send(topic, b"x", partition=0)
        other = await app.producer()
        waiting = asyncio.create_task(other.send(app.topic("not there yet"), b"x"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})

    application(main)
    assert [(span.status, span.attributes["error.type"].rsplit(".", 1)[-1]) for span in telemetry.spans()] == [
        ("ERROR", "MessageSizeTooLargeError"),
        ("ERROR", "ProducerClosed"),
        ("ERROR", "CancelledError"),
    ]


def test_nobody_acknowledges_with_acks_0(telemetry, embedded):
    """The send ends when the client lets go of it."""
    pipe = telemetry.instrument(libraries=LIBRARIES)

    async def main():
        app = Application(embedded)
        producer = await app.producer(acks=0)
        answer = await producer.send_and_wait(app.topic(), b"x", partition=0)
        await app.close()
        return answer

    assert asyncio.run(main()) is None
    assert ([span.status for span in telemetry.spans()], pipe.status().errors) == (["UNSET"], {})


def test_numbers_are_in_order_whatever_tasks_send(telemetry, embedded):
    """Two hundred at once, in small batches, so that many have to wait for room: none is late, none is missing."""
    from otel_pipeline.testing.pipeline_flow import PipelineFlow

    original = telemetry.instrument
    telemetry.instrument = lambda **options: original(libraries=LIBRARIES, **options)
    try:
        flow = PipelineFlow(telemetry)
    finally:
        del telemetry.instrument

    async def main():
        app = Application(embedded)
        topic, producer = app.topic(), await app.producer(max_batch_size=500)
        await asyncio.gather(*(producer.send_and_wait(topic, b"x" * 50, partition=0) for _ in range(200)))
        consumer = await app.consumer(topic)
        for _ in range(200):
            await consumer.getone()
        flow.assert_in_order(topic)
        flow.assert_nothing_lost(topic)
        await app.close()

    asyncio.run(main())


def test_settings_that_can_lose_data_are_said(telemetry, application):
    """Of both clients, by their own names for them."""

    async def main(app):
        producer = await app.producer()
        await producer.send_and_wait(app.topic(), b"x", partition=0)
        await (await app.producer(enable_idempotence=True)).send_and_wait(app.topic(), b"x", partition=0)
        _, consumer, _ = await app.filled(1, group_id="g", enable_auto_commit=True, auto_offset_reset="latest")
        await consumer.commit()

    application(main)
    found = {
        (point.attributes["otel_pipeline.client_library"], point.attributes["otel_pipeline.hazard"])
        for point in telemetry.metric("otel_pipeline.client.hazard").points
    }
    assert found == {
        ("aiokafka", name)
        for name in (
            "acknowledged_by_leader_only",
            "retries_repeat",
            "new_group_skips_history",
            "commits_by_time",
        )
    }


def test_an_excluded_consumer_iterates_as_ever(telemetry, embedded, tmp_path):
    """Nothing of ours stands in between."""
    file = tmp_path / "otel_pipeline.yaml"
    file.write_text('exclude: {clients: ["probe"]}')
    telemetry.instrument(libraries=LIBRARIES, config_file=file)

    async def main():
        probe, other = (
            aiokafka.AIOKafkaConsumer(bootstrap_servers=embedded, client_id=name) for name in ("probe", "other")
        )
        found = aiter(probe) is probe, aiter(other) is other
        await probe.stop()
        await other.stop()
        return found

    assert asyncio.run(main()) == (True, False)


def test_a_client_that_drifted_is_left_alone(telemetry, monkeypatch):
    """Another signature of send: nothing is patched; of the private append: no numbers, which is said."""
    from aiokafka.producer.message_accumulator import MessageBatch

    with monkeypatch.context() as drifted:
        drifted.setattr(aiokafka.AIOKafkaProducer, "send", lambda self, topic, message: None)
        getone = aiokafka.AIOKafkaConsumer.getone
        pipe = telemetry.instrument(libraries=LIBRARIES)
        (status,) = [each for each in pipe.status().adapters if each.name == "aiokafka"]
        assert (status.state, aiokafka.AIOKafkaConsumer.getone is getone) == ("skipped", True)
        pipe.uninstrument()
    monkeypatch.setattr(MessageBatch, "append", lambda self, record: None)
    pipe = telemetry.instrument(libraries=LIBRARIES)
    (status,) = [each for each in pipe.status().adapters if each.name == "aiokafka"]

    assert (status.state, status.reason) == ("instrumented", "")
    assert [problem for problem in pipe.status().problems if "MessageBatch.append is not as known" in problem]


def test_it_is_used_where_it_is_installed(telemetry):
    """Nobody has to name it."""
    (status,) = [each for each in telemetry.instrument().status().adapters if each.name == "aiokafka"]

    assert (status.state, status.reason) == ("instrumented", "")


def test_the_whole_tree(telemetry, application):
    """Send, handler, own span, next send."""

    async def main(app):
        topic, consumer, producer = await app.filled(1)
        target = app.topic("next")
        async for message in consumer:
            with trace.get_tracer("application").start_as_current_span("handle"):
                await producer.send_and_wait(target, message.value, partition=0)
            break
        return topic, target

    topic, target = application(main)
    assert tree(telemetry.spans(), (), links=True) == (
        f"send {topic} PRODUCER\n  process {topic} CONSUMER -> send {topic}\n    handle INTERNAL\n      send {target} PRODUCER"
    )


def test_without_a_loop_an_iterator_is_only_made(telemetry, embedded):
    """`aiter()` outside of every task is the client's to allow."""
    telemetry.instrument(libraries=LIBRARIES)

    async def make():
        return aiokafka.AIOKafkaConsumer(bootstrap_servers=embedded)

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(make())
    iterator = aiter(client)
    del iterator
    loop.run_until_complete(client.stop())
    loop.close()

    assert telemetry.spans() == []


def test_a_task_that_outlives_its_consumers_keeps_nothing_of_them(telemetry, application):
    """A service that connects again and again, for months."""

    async def main(app):
        topic, producer = app.topic(), await app.producer()
        await producer.send_and_wait(topic, b"a", partition=0)
        for _ in range(3):
            consumer = await app.consumer(topic)
            await consumer.getone()
            await consumer.stop()
            app._clients.remove(consumer)
        del consumer
        gc.collect()
        return [type(found).__name__ for found in gc.get_objects() if type(found).__name__ in ours]

    ours = {"TasksInHand", "OpenDelivery"}
    assert application(main) == []
    assert processed(telemetry) == [(0, None)] * 3


def test_contrib_beside_ours_gives_no_second_span(telemetry, embedded):
    """Whichever came first, a message has one span and one context on each side; it is said."""
    contrib = pytest.importorskip("opentelemetry.instrumentation.aiokafka")
    contrib.AIOKafkaInstrumentor().instrument(tracer_provider=telemetry.tracer_provider)
    pipe = telemetry.instrument(libraries=LIBRARIES)

    async def main():
        app = Application(embedded)
        topic, producer = app.topic(), await app.producer()
        await producer.send_and_wait(topic, b"a", partition=0)
        contrib.AIOKafkaInstrumentor().instrument(tracer_provider=telemetry.tracer_provider)
        pipe.replace_others()
        await producer.send_and_wait(topic, b"b", partition=0)
        consumer = await app.consumer(topic)
        found = [[name for name, _ in (await consumer.getone()).headers] for _ in range(2)]
        await app.close()
        return topic, found

    topic, found = asyncio.run(main())
    assert found == [["traceparent", "otelp"]] * 2
    names = [f"send {topic}", f"send {topic}", f"process {topic}", f"process {topic}"]
    assert [span.name for span in telemetry.spans()] == names
    assert any("taken off" in problem for problem in pipe.status().problems)
