"""FastStream: one trace through its handlers, on whichever client its broker rests."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import time
import warnings
from typing import Annotated

import pytest
from opentelemetry import trace
from opentelemetry.trace import Span  # noqa: TC002 - FastStream reads it

from otel_pipeline.testing.trees import tree

pytest.importorskip("faststream")
pytest.importorskip("aiokafka")
pytest.importorskip("confluent_kafka")

from confluent_kafka import Producer
from faststream import AckPolicy, Context, confluent, kafka
from faststream.confluent.opentelemetry import KafkaTelemetryMiddleware as ConfluentTelemetryMiddleware
from faststream.kafka.opentelemetry import KafkaTelemetryMiddleware

pytestmark = [
    pytest.mark.broker,
    # FastStream before 0.7 gives aiokafka what that does not take any more.
    pytest.mark.filterwarnings("ignore:The `(api_version|loop)` (parameter|argument):DeprecationWarning"),
    # And leaves its workers' queues to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <function MemoryObject:pytest.PytestUnraisableExceptionWarning"
    ),
]

_numbers = itertools.count(1)
_RUN = time.time_ns() // 1_000_000 % 1_000_000
QUIET = logging.getLogger("faststream.quiet")


def current():
    span = trace.get_current_span()
    return span.name if span.is_recording() else None


def flow(telemetry, *attributes, links=False):
    """The tree without what one call has returned: how many calls there are is the broker's affair."""
    spans = [span for span in telemetry.spans() if span.attributes.get("messaging.operation.type") != "receive"]
    return tree(spans, attributes, links=links)


class Rests:
    """The client that a broker rests on."""

    def __init__(self, library, broker, middleware, send, address, **options):
        self.library, self.middleware, self.send, self.address = library, middleware, send, address
        self._broker, self._options = broker, options

    def broker(self, **options):
        return self._broker(self.address, logger=QUIET, **self._options, **options)

    def topic(self, name):
        """A topic of this test alone, which is there."""
        made = f"{name}-fs-{_RUN}-{next(_numbers)}"
        Producer({"bootstrap.servers": self.address}).list_topics(made, 10)
        return made


@pytest.fixture(autouse=True)
def _nothing_of_it_is_left():
    """FastStream before 0.7 leaves anyio's streams open, of which Python would complain in whatever test comes later."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(params=["aiokafka", "confluent-kafka"])
def rests(request, embedded):
    if request.param == "aiokafka":
        return Rests("aiokafka", kafka.KafkaBroker, KafkaTelemetryMiddleware, "send", embedded)
    # The embedded broker makes topics when they are asked for, and not in this way.
    options = {"allow_auto_create_topics": False}
    return Rests("confluent-kafka", confluent.KafkaBroker, ConfluentTelemetryMiddleware, "produce", embedded, **options)


@pytest.fixture
def run(telemetry, rests):
    """Runs an application: `declare` gets the broker, and returns what to do with it until the seen messages are here."""
    pipe = telemetry.instrument(libraries=["faststream", rests.library])

    def run(declare, count, **options):
        async def main():
            broker, seen = rests.broker(**options), asyncio.Queue()
            feed = declare(broker, seen.put_nowait)
            async with broker:
                await broker.start()
                await feed()
                return [await asyncio.wait_for(seen.get(), 30) for _ in range(count)]

        return asyncio.run(main())

    run.pipe = pipe
    return run


EARLIEST = {"auto_offset_reset": "earliest"}


def chained(source, target, **of_publisher):
    """An application of two handlers, and what they see."""

    def declare(broker, seen):
        @broker.subscriber(source, group_id=f"a-{source}", **EARLIEST)
        @broker.publisher(target)
        async def first(body: str) -> str:
            await asyncio.sleep(0)
            seen(current())
            return f"{body}-1"

        @broker.subscriber(target, group_id=f"b-{source}", **EARLIEST)
        async def second(body: str) -> None:
            seen(f"{current()} {body}")

        async def feed():
            await broker.publish("m", source)

        return feed

    return declare


def test_handlers_and_what_they_publish_are_one_trace(telemetry, rests, run):
    """From the first publish to the last handler."""
    source, target = rests.topic("in"), rests.topic("out")

    assert run(chained(source, target), 2) == [f"process {source}", f"process {target} m-1"]
    assert flow(telemetry) == (
        f"{rests.send} {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        f"    {rests.send} {target} PRODUCER\n"
        f"      process {target} CONSUMER"
    )
    assert (run.pipe.status().problems, run.pipe.status().errors) == ((), {})


def test_a_batch_has_one_span_linked_to_all(telemetry, rests, run):
    """What its handler publishes is the span's child."""
    source, target = rests.topic("in"), rests.topic("out")

    def declare(broker, seen):
        @broker.subscriber(source, group_id=f"a-{source}", batch=True, max_records=2, **EARLIEST)
        async def handle(bodies: list[str]) -> None:
            await broker.publish(bodies[0], target)
            seen((current(), bodies))

        async def feed():
            await broker.publish_batch("a", "b", topic=source, partition=0)

        return feed

    assert run(declare, 1) == [(f"process {source}", ["a", "b"])]
    spans = telemetry.spans()
    (process,) = [span for span in spans if span.kind == "CONSUMER"]
    senders = {(span.trace_id, span.span_id) for span in spans if span.name == f"{rests.send} {source}"}
    (sent,) = [span for span in spans if span.name == f"{rests.send} {target}"]
    assert {(link.trace_id, link.span_id) for link in process.links} == senders
    assert (len(senders), sent.parent_span_id) == (2, process.span_id)
    assert process.attributes["messaging.batch.message_count"] == 2


def test_workers_have_each_its_own_message(telemetry, rests, run):
    """They take messages out of a queue of the framework's."""
    source = rests.topic("in")

    def declare(broker, seen):
        @broker.subscriber(source, group_id=f"a-{source}", max_workers=3, ack_policy=AckPolicy.ACK_FIRST, **EARLIEST)
        async def handle(body: str) -> None:
            await asyncio.sleep(0.02)
            seen((body, trace.get_current_span().get_span_context().span_id))

        async def feed():
            for number in range(6):
                await broker.publish(str(number), source)

        return feed

    seen = dict(run(declare, 6))
    spans = telemetry.spans()
    sent = [span.span_id for span in spans if span.kind == "PRODUCER"]
    processed = {span.parent_span_id: span.span_id for span in spans if span.kind == "CONSUMER"}
    assert {body: int(processed[sent[int(body)]], 16) for body in seen} == seen
    assert len([span for span in spans if span.kind == "CONSUMER"]) == 6
    assert (run.pipe.status().problems, run.pipe.status().errors) == ((), {})


def test_the_handlers_exception_is_on_the_span(telemetry, rests, run):
    """Also where the framework goes on as if nothing had happened."""
    source = rests.topic("in")

    def declare(broker, seen):
        @broker.subscriber(source, group_id=f"a-{source}", ack_policy=AckPolicy.ACK, **EARLIEST)
        async def handle(body: str) -> None:
            seen(body)
            if body == "a":
                raise LookupError("of the handler")

        async def feed():
            await broker.publish("a", source, partition=0)
            await broker.publish("b", source, partition=0)

        return feed

    assert run(declare, 2) == ["a", "b"]
    errors = [span.attributes.get("error.type") for span in telemetry.spans() if span.kind == "CONSUMER"]
    assert errors == ["LookupError", None]


def test_its_own_telemetry_gives_way(telemetry, rests, run):
    """One span and one context for each message, said once; what handlers may ask for is there."""
    source, target = rests.topic("in"), rests.topic("out")

    def declare(broker, seen):
        @broker.subscriber(source, group_id=f"a-{source}", **EARLIEST)
        @broker.publisher(target)
        async def first(body: str, span: Annotated[Span, Context("span")]) -> str:
            seen((span.name, current()))
            return body

        @broker.subscriber(target, group_id=f"b-{source}", **EARLIEST)
        async def second(body: str, headers: Annotated[dict, Context("message.headers")]) -> None:
            seen(sorted(headers))

        async def feed():
            await broker.publish("m", source)

        return feed

    own = rests.middleware(tracer_provider=trace.get_tracer_provider())
    seen = run(declare, 2, middlewares=[own])
    assert seen[0] == (f"process {source}", f"process {source}")
    assert [name for name in seen[1] if name in {"traceparent", "otelp"}] == ["otelp", "traceparent"]
    assert flow(telemetry) == (
        f"{rests.send} {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        f"    {rests.send} {target} PRODUCER\n"
        f"      process {target} CONSUMER"
    )
    (said,) = run.pipe.status().problems
    assert said.startswith("FastStream's own telemetry middleware makes no spans")


def test_a_message_that_an_application_asks_for_itself(telemetry, rests, run):
    """Of a subscriber without handlers: it is in hand as the client's own; not where a pool's thread has polled it."""
    source = rests.topic("in")

    def declare(broker, seen):
        subscriber = broker.subscriber(source, group_id=f"a-{source}", **EARLIEST)

        async def feed():
            await broker.publish("m", source)
            async for message in subscriber:
                seen((await message.decode(), current()))
                break

        return feed

    assert run(declare, 1) == [("m", f"process {source}" if rests.library == "aiokafka" else None)]


def test_an_application_in_its_own_tests(telemetry):
    """FastStream's test broker calls handlers without a broker, and without a client."""
    pipe = telemetry.instrument(libraries=["faststream", "aiokafka"])

    async def main():
        broker, seen = kafka.KafkaBroker("nowhere:9092", logger=QUIET), []

        @broker.subscriber("in")
        async def handle(body: str) -> None:
            seen.append((body, current()))

        async with kafka.TestKafkaBroker(broker):
            await broker.publish("m", "in")
        return seen

    assert asyncio.run(main()) == [("m", "process in")]
    assert pipe.status().errors == {}


@pytest.mark.no_check  # FastStream's own metrics are of older conventions.
def test_without_its_client_it_is_left_as_it_was(telemetry, rests):
    """No span, no context, and its own telemetry works."""
    pipe = telemetry.instrument(libraries=["faststream"])
    source = rests.topic("in")

    async def main():
        own = rests.middleware(tracer_provider=trace.get_tracer_provider())
        broker, seen = rests.broker(middlewares=[own]), asyncio.Queue()

        @broker.subscriber(source, group_id=f"a-{source}", **EARLIEST)
        async def handle(body: str) -> None:
            seen.put_nowait(current())

        async with broker:
            await broker.start()
            await broker.publish("m", source)
            return await asyncio.wait_for(seen.get(), 30)

    assert asyncio.run(main()) == f"{source} process"
    assert pipe.status().problems == ()


def test_a_framework_that_drifted_is_left_alone(telemetry, monkeypatch):
    """Nothing of it is patched, and one line says why."""
    from faststream._internal.endpoint.subscriber.usecase import SubscriberUsecase

    async def process_message(self, message, scope):
        """As of a later version."""

    monkeypatch.setattr(SubscriberUsecase, "process_message", process_message)
    pipe = telemetry.instrument(libraries=["faststream"])
    (status,) = [each for each in pipe.status().adapters if each.name == "faststream"]

    assert (status.state, SubscriberUsecase.process_message) == ("skipped", process_message)
