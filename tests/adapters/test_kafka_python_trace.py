"""One trace through a broker, and what is current when."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import KafkaConsumer, KafkaProducer
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

import otel_pipeline
from otel_pipeline.testing.trees import tree

TRACER = trace.get_tracer("application")


def flow(telemetry, *attributes, links=False):
    """The tree without the pulls: how many there are is the broker's affair."""
    return tree([span for span in telemetry.spans() if not span.name.startswith("poll")], attributes, links=links)


def current():
    """The name of the current span, or None."""
    span = trace.get_current_span()
    return getattr(span, "name", None) if span.is_recording() else None


def test_what_the_pull_says_and_whose_clients_they_are(telemetry, mock):
    """All attributes of what one call has returned; server and client id on all three spans."""
    topic = mock.topic()
    telemetry.instrument()
    producer = mock.send(topic, b"a", key=b"k")
    consumer = mock.consumer(topic, group_id="readers", client_id="reader")
    for _record in consumer:
        break
    producer.close()

    host, port = mock.address.split(":")
    found = {span.name.split()[0]: dict(span.attributes) for span in telemetry.spans()}
    assert {(each["server.address"], each["server.port"]) for each in found.values()} == {(host, int(port))}
    assert [found[name]["messaging.client.id"] for name in ("send", "process")] == [
        producer.config["client_id"],
        "reader",
    ]
    found["poll"].pop("kafka.cluster.id", None)
    assert found["poll"] == {
        "messaging.system.name": "kafka",
        "server.address": host,
        "server.port": int(port),
        "messaging.client.id": "reader",
        "messaging.consumer.group.name": "readers",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": "0",
        "messaging.operation.name": "poll",
        "messaging.operation.type": "receive",
        "messaging.batch.message_count": 1,
    }


@pytest.mark.parametrize("leave", ["return", "exhausted"])
def test_no_span_stays_current_after_the_loop(telemetry, mock, leave):
    """However the loop is left, the span has ended and nothing of ours is current."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a", b"b")
    consumer = mock.consumer(topic, consumer_timeout_ms=1_500)
    before = get_current()
    inside = []

    def loop():
        for _record in consumer:
            inside.append(current())
            if leave == "return":
                return

    loop()

    count = 2 if leave == "exhausted" else 1
    assert inside == [f"process {topic}"] * count
    assert (current(), get_current() is before) == (None, True)
    assert [span.name for span in telemetry.spans()].count(f"process {topic}") == count


def test_a_loop_wrapped_in_a_generator_that_is_dropped(telemetry, mock):
    """Dropping the generator leaves the loop inside of it."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a", b"b")

    def values():
        for record in mock.consumer(topic):
            yield record.value

    generator = values()
    assert (next(generator), current()) == (b"a", f"process {topic}")
    del generator
    gc.collect()

    assert current() is None


def test_two_consumers_interleaved(telemetry, mock):
    """Each message is the child of its own sender, and nothing is left current."""
    first, second = mock.topic("first"), mock.topic("second")
    telemetry.instrument()
    mock.send(first, b"a", b"b")
    mock.send(second, b"c", b"d")
    one, two = iter(mock.consumer(first)), iter(mock.consumer(second))
    for _ in range(2):
        next(one)
        next(two)
    del one, two
    gc.collect()

    spans = {(span.trace_id, span.span_id): span for span in telemetry.spans()}
    parents = [
        (span.name, spans[span.trace_id, span.parent_span_id].name)
        for span in spans.values()
        if span.kind == "CONSUMER"
    ]
    assert sorted(parents) == sorted(
        [(f"process {first}", f"send {first}")] * 2 + [(f"process {second}", f"send {second}")] * 2
    )
    assert current() is None


def test_a_consumer_handed_to_another_thread(telemetry, mock):
    """The loop may run where the consumer was not made; the thread that made it sees nothing."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a")
    consumer = mock.consumer(topic)
    seen = []

    def work():
        for _record in consumer:
            seen.append(current())
            break
        seen.append(current())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert (seen, current()) == ([f"process {topic}", None], None)


def test_next_on_an_executor_leaves_no_span_on_the_pools_thread(telemetry, mock):
    """The span is there and ends, but pool threads never inherit it."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a", b"b")
    consumer = mock.consumer(topic)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            pool.submit(next, consumer).result()
        inside = pool.submit(current).result()
    consumer.close()

    assert (inside, current()) == (None, None)
    assert [span.name for span in telemetry.spans()].count(f"process {topic}") == 2


def test_tasks_beside_the_loop_have_their_own_context(telemetry, mock):
    """A task that was there before sees no span; one that the handler starts continues its trace, even later."""
    topic, later = mock.topic(), mock.topic("later")
    telemetry.instrument()
    producer = mock.send(topic, b"a")

    async def beside(seen, gate):
        seen.append(current())
        await gate.wait()
        seen.append(current())

    async def after(gate):
        await gate.wait()
        producer.send(later, b"x").get(10)

    async def main():
        gate, seen = asyncio.Event(), []
        running = asyncio.create_task(beside(seen, gate))
        await asyncio.sleep(0)
        for _record in mock.consumer(topic):
            started = asyncio.create_task(after(gate))
            break
        gate.set()
        await asyncio.gather(running, started)
        return seen, current()

    assert asyncio.run(main()) == ([None, None], None)
    assert f"  process {topic} CONSUMER\n    send {later} PRODUCER" in flow(telemetry)


def test_the_applications_own_context_is_kept(telemetry, mock):
    """What the application attached on top inside of the handler stays; ours is not a parent any more."""
    topic, later = mock.topic(), mock.topic("later")
    telemetry.instrument()
    producer = mock.send(topic, b"a")
    token = None
    for _record in mock.consumer(topic):
        token = attach(baggage.set_baggage("tenant", "7"))
        break
    kept = baggage.get_baggage("tenant")
    producer.send(later, b"x").get(10)
    detach(token)

    assert kept == "7"
    roots = [line for line in telemetry.tree().splitlines() if not line.startswith(" ")]
    assert f"send {later} PRODUCER" in roots


def test_polling_inside_a_span_of_the_application(telemetry, mock):
    """The message's trace goes on, and links to the application's span; the pull is that span's child."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a")
    with TRACER.start_as_current_span("main"):
        for _record in mock.consumer(topic):
            break

    assert telemetry.tree(links=True) == (
        f"send {topic} PRODUCER\n  process {topic} CONSUMER -> send {topic} -> main\n"
        f"main INTERNAL\n  poll {topic} CLIENT -> send {topic}"
    )


def test_process_parent_ambient_and_link(telemetry, mock, tmp_path):
    """`process.parent` chooses the application's own span, or none."""
    found = {}
    for parent in ("ambient", "link"):
        topic = mock.topic()
        file = tmp_path / f"{parent}.yaml"
        file.write_text(f"process: {{parent: {parent}}}")
        pipe = telemetry.instrument(config_file=file)
        mock.send(topic, b"a")
        with TRACER.start_as_current_span("main"):
            for _record in mock.consumer(topic):
                break
        found[parent] = telemetry.tree(links=True).replace(topic, "T")
        pipe.uninstrument()
        telemetry.clear()

    assert found == {
        "ambient": "send T PRODUCER\nmain INTERNAL\n  poll T CLIENT -> send T\n  process T CONSUMER -> send T",
        "link": "send T PRODUCER\nprocess T CONSUMER -> send T -> main\nmain INTERNAL\n  poll T CLIENT -> send T",
    }


def test_process_in_a_pool_switches_the_iterators_spans_off(telemetry, mock):
    """What a loop hands to a pool is processed there; nothing is counted twice."""
    topic = mock.topic()
    pipe = telemetry.instrument()
    mock.send(topic, b"a", b"b", b"c")
    consumer = mock.consumer(topic)

    @otel_pipeline.process
    def handle(record):
        return record.value, current()

    with ThreadPoolExecutor(1) as pool:
        results = []
        for record in consumer:
            results.append(pool.submit(handle, record).result())
            if len(results) == 3:
                break

    assert results == [(value, f"process {topic}") for value in (b"a", b"b", b"c")]
    # The first was handed out before that was known.
    assert [span.name for span in telemetry.spans()].count(f"process {topic}") == 4
    assert any("switched off" in problem for problem in pipe.status().problems)


def test_process_decorates_every_kind_of_function(telemetry, mock):
    """Functions, coroutine functions and generators of both kinds; none leaves its span current."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a")
    (record,) = mock.poll(mock.consumer(topic), 1)
    seen = []

    @otel_pipeline.process
    def plain(record):
        seen.append(current())

    @otel_pipeline.process()
    async def coroutine(self, record):
        await asyncio.sleep(0)
        seen.append(current())

    @otel_pipeline.process
    def generator(*, record):
        seen.append(current())
        yield 1
        seen.append(current())

    @otel_pipeline.process
    async def asynchronous(record):
        seen.append(current())
        yield 1
        await asyncio.sleep(0)
        seen.append(current())

    async def drain():
        between = [current() async for _ in asynchronous(record)]
        return between, current()

    plain(record)
    asyncio.run(coroutine(object(), record))
    between = [current() for _ in generator(record=record)]

    assert (between, asyncio.run(drain()), current()) == ([None], ([None], None), None)
    assert seen == [f"process {topic}"] * 6
    assert [span.name for span in telemetry.spans()].count(f"process {topic}") == 4


def test_subclasses_are_instrumented(telemetry, mock):
    """Overriding methods that call super() keep working, once."""

    class Producer(KafkaProducer):
        def send(self, topic, value, **rest):
            return super().send(topic, value + b"!", **rest)

    class Consumer(KafkaConsumer):
        def __next__(self):
            return super().__next__().value

    topic = mock.topic()
    telemetry.instrument()
    mock.producer(Producer).send(topic, b"a", partition=0).get(10)
    values = []
    for value in mock.consumer(topic, kind=Consumer):
        values.append((value, current()))
        break

    assert values == [(b"a!", f"process {topic}")]
    assert flow(telemetry) == f"send {topic} PRODUCER\n  process {topic} CONSUMER"


def test_an_invalid_span_of_the_application_is_no_parent(telemetry, mock):
    """What is current but has no ids: a new trace begins, sampled or not."""
    topic = mock.topic()
    found = []
    for sampler in (ALWAYS_ON, ALWAYS_OFF):
        telemetry.sample(ParentBased(sampler))
        pipe = telemetry.instrument()
        token = attach(trace.set_span_in_context(trace.INVALID_SPAN))
        mock.send(topic, b"a")
        detach(token)
        pipe.uninstrument()
    for record in mock.consumer(topic):
        found.append(dict(record.headers)["traceparent"])
        if len(found) == 2:
            break

    assert [(value[3:35] != b"0" * 32, value[36:52] != b"0" * 16) for value in found] == [(True, True)] * 2


def open_deliveries():
    return [found for found in gc.get_objects() if type(found).__name__ == "OpenDelivery"]


def test_deliveries_do_not_wait_for_the_garbage_collector(telemetry, mock):
    """A finished delivery and its context are gone at once."""
    topic = mock.topic()
    telemetry.instrument()
    mock.send(topic, b"a", b"b")
    gc.collect()
    gc.disable()
    try:
        before = open_deliveries()
        for at, record in enumerate(mock.consumer(topic), start=1):
            with otel_pipeline.process(record):
                pass
            if at == 2:
                break
        left = [each for each in open_deliveries() if not any(each is known for known in before)]
    finally:
        gc.enable()

    assert left == []
