"""faust-streaming: one trace through its agents. Not in the matrix: `pip install faust-streaming==0.15.3`."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import warnings

import pytest
from opentelemetry import trace

import otel_pipeline
from otel_pipeline.engine import pipeline_header
from otel_pipeline.testing.trees import tree

faust = pytest.importorskip("faust")
pytest.importorskip("aiokafka")
pytest.importorskip("confluent_kafka")

from confluent_kafka import Producer  # noqa: E402 - after what skips this file

pytestmark = [
    pytest.mark.broker,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # faust leaves loops, queues and connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # And its producer's thread ends with an exception of its own.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

_numbers = itertools.count(1)
_RUN = time.time_ns() // 1_000_000 % 1_000_000


def current():
    span = trace.get_current_span()
    return span.name if span.is_recording() else None


def flow(telemetry, *attributes, links=False):
    """The tree without what one call has returned: how many calls there are is the broker's affair."""
    spans = [span for span in telemetry.spans() if span.attributes.get("messaging.operation.type") != "receive"]
    return tree(spans, attributes, links=links)


@pytest.fixture(autouse=True)
def _nothing_of_it_is_left():
    """Otherwise Python would complain of it in whatever test comes later."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def topic(embedded):
    def topic(name):
        """A topic of this test alone, which is there."""
        made = f"{name}-fa-{_RUN}-{next(_numbers)}"
        Producer({"bootstrap.servers": embedded}).list_topics(made, 10)
        return made

    return topic


@pytest.fixture
def run(telemetry, embedded, tmp_path):
    """Runs an application: `declare` gets it, and returns what to do with it until the seen messages are here."""

    def run(declare, count, libraries=("faust", "aiokafka"), configured="", **options):
        (tmp_path / "otel_pipeline.yaml").write_text(configured)
        run.pipe = telemetry.instrument(libraries=list(libraries), config_file=tmp_path / "otel_pipeline.yaml")

        async def main():
            app = faust.App(
                f"a-{_RUN}-{next(_numbers)}",
                broker=f"kafka://{embedded}",
                store="memory://",
                topic_partitions=1,
                topic_allow_declare=False,
                topic_disable_leader=True,
                web_enabled=False,
                datadir=str(tmp_path),
                consumer_auto_offset_reset="earliest",
                loop=asyncio.get_running_loop(),
                key_serializer="raw",
                value_serializer="raw",
                **options,
            )
            seen = asyncio.Queue()
            feed = declare(app, seen.put_nowait)
            app.finalize()
            async with app:
                await feed()
                found = [await asyncio.wait_for(seen.get(), 10) for _ in range(count)]
                await asyncio.sleep(0)
            return found

        return asyncio.run(main())

    return run


def test_agents_and_what_they_send_are_one_trace(telemetry, topic, run):
    """From the first send to the last agent, with sinks and what is sent later."""
    source, target, last = topic("in"), topic("out"), topic("last")

    def declare(app, seen):
        orders, scored, done = (app.topic(each, value_type=bytes) for each in (source, target, last))

        @app.agent(orders, sink=[scored])
        async def score(stream):
            async for value in stream:
                await asyncio.sleep(0)
                done.send_soon(value=b"soon")
                seen(current())
                yield value + b"-1"

        @app.agent(scored)
        async def collect(stream):
            async for event in stream.events():
                seen((current(), event.value, sorted(event.headers)))

        async def feed():
            await orders.send(value=b"m")

        return feed

    assert sorted(run(declare, 2), key=str) == [
        (f"process {target}", b"m-1", ["otelp", "traceparent"]),
        f"process {source}",
    ]
    assert flow(telemetry) == (
        f"send {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        f"    send {last} PRODUCER\n"
        f"    send {target} PRODUCER\n"
        f"      process {target} CONSUMER"
    )
    assert (run.pipe.status().problems, run.pipe.status().errors) == ((), {})


@pytest.fixture(params=["compiled stream", "stream in Python"])
def either_stream(request, monkeypatch):
    if request.param == "stream in Python":
        monkeypatch.setattr("faust.streams._CStreamIterator", None)


def by_value(handle):
    async def agent(stream):
        async for value in stream:
            handle(value)

    return agent


def by_event(handle):
    async def agent(stream):
        async for event in stream.events():
            handle(event.value)

    return agent


def by_item(handle):
    async def agent(stream):
        async for _, value in stream.items():  # noqa: PERF102 - no mapping
            handle(value)

    return agent


def yielding(handle):
    async def agent(stream):
        async for value in stream:
            handle(value)
            yield value

    return agent


@pytest.mark.usefixtures("either_stream")
def test_the_agents_exception_is_on_the_span(telemetry, topic, run):
    """In each kind of loop; faust starts the agent anew, and what it then handles has none."""
    sources = {topic(kind.__name__): kind for kind in (by_value, by_event, by_item, yielding)}

    def declare(app, seen):
        def handle(value):
            seen(value)
            if value == b"a":
                raise LookupError("of the agent")

        topics = [app.topic(name, value_type=bytes) for name in sources]
        for each, kind in zip(topics, sources.values(), strict=True):
            app.agent(each, name=kind.__name__)(kind(handle))

        async def feed():
            for each, value in itertools.product(topics, (b"a", b"b")):
                await each.send(value=value, partition=0)

        return feed

    assert sorted(run(declare, 8)) == [b"a"] * 4 + [b"b"] * 4
    found = [
        (span.name, span.attributes["kafka.offset"], span.attributes.get("error.type", ""))
        for span in telemetry.spans()
        if span.kind == "CONSUMER"
    ]
    assert sorted(found) == sorted(
        (f"process {each}", offset, error) for each in sources for offset, error in ((0, "LookupError"), (1, ""))
    )
    assert run.pipe.status().errors == {}


@pytest.mark.parametrize("method", ["take", "take_events", "noack_take", "take_with_timestamp"])
@pytest.mark.usefixtures("either_stream")
def test_a_batch_has_one_span_linked_to_all(telemetry, topic, run, method):
    """What the agent sends is the span's child."""
    source, target = topic("in"), topic("out")

    def declare(app, seen):
        orders, scored = (app.topic(each, value_type=bytes) for each in (source, target))

        @app.agent(orders)
        async def score(stream):
            more = ("at",) if method == "take_with_timestamp" else ()
            async for batch in getattr(stream, method)(2, 5, *more):
                await scored.send(value=b"scored")
                for event in batch if method == "noack_take" else ():
                    await stream.ack(event)
                seen((current(), len(batch)))

        async def feed():
            for value in (b"a", b"b", b"c", b"d"):
                await orders.send(value=value)

        return feed

    assert run(declare, 2) == [(f"process {source}", 2)] * 2
    spans = telemetry.spans()
    batches = [span for span in spans if span.kind == "CONSUMER"]
    senders = {(span.trace_id, span.span_id) for span in spans if span.name == f"send {source}"}
    assert {(link.trace_id, link.span_id) for span in batches for link in span.links} == senders
    assert [span.attributes["messaging.batch.message_count"] for span in batches] == [2, 2]
    sent = [span.parent_span_id for span in spans if span.name == f"send {target}"]
    assert sent == [span.span_id for span in batches]
    assert (len(senders), run.pipe.status().errors) == (4, {})


@pytest.mark.usefixtures("either_stream")
def test_what_faust_itself_sends_is_the_messages_child(telemetry, topic, run):
    """By `through` and by `forward`; a message that a filter stops has been processed as well."""
    source, via, target = topic("in"), topic("via"), topic("out")

    def declare(app, seen):
        orders, between, scored = (app.topic(each, value_type=bytes) for each in (source, via, target))

        @app.agent(orders)
        async def score(stream):
            async for event in stream.filter(lambda value: value != b"no").through(between).events():
                await event.forward(scored)
                seen(current())

        @app.agent(scored)
        async def collect(stream):
            async for event in stream.events():
                seen((current(), sorted(event.headers)))

        async def feed():
            await orders.send(value=b"no", partition=0)
            await orders.send(value=b"m", partition=0)

        return feed

    assert sorted(run(declare, 2), key=str) == [
        (f"process {target}", ["otelp", "traceparent"]),
        f"process {via}",
    ]
    assert flow(telemetry) == (
        f"send {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        f"    send {via} PRODUCER\n"
        f"      process {via} CONSUMER\n"
        f"send {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        f"    send {via} PRODUCER\n"
        f"      process {via} CONSUMER\n"
        f"        send {target} PRODUCER\n"
        f"          process {target} CONSUMER"
    )
    assert run.pipe.status().errors == {}


@pytest.mark.parametrize("option", ["producer_threaded", "stream_publish_on_commit"])
def test_what_is_sent_later_is_the_messages_child(telemetry, topic, run, option):
    """In another thread, or when the offset is committed."""
    source, target = topic("in"), topic("out")

    def declare(app, seen):
        orders, scored = (app.topic(each, value_type=bytes) for each in (source, target))

        @app.agent(orders)
        async def score(stream):
            async for value in stream:
                if option == "producer_threaded":
                    scored.send_soon(value=value)
                else:
                    await scored.send(value=value)

        @app.agent(scored)
        async def collect(stream):
            async for value in stream:
                seen(value)

        async def feed():
            await orders.send(value=b"m")

        return feed

    assert run(declare, 1, broker_commit_every=1, broker_commit_interval=0.1, **{option: True}) == [b"m"]
    assert flow(telemetry) == (
        f"send {source} PRODUCER\n"
        f"  process {source} CONSUMER\n"
        f"    send {target} PRODUCER\n"
        f"      process {target} CONSUMER"
    )
    assert run.pipe.status().errors == {}


def test_actors_of_one_agent_have_each_its_own_message(telemetry, topic, run):
    """With `concurrency`, and two agents on one topic: a span for each event that an agent handles."""
    source = topic("in")

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)

        @app.agent(orders, concurrency=3)
        async def score(stream):
            async for value in stream:
                await asyncio.sleep(0.02)
                seen((value, trace.get_current_span().get_span_context().span_id))

        @app.agent(orders)
        async def collect(stream):
            async for value in stream:
                seen((value, trace.get_current_span().get_span_context().span_id))

        async def feed():
            for number in range(6):
                await orders.send(value=b"%d" % number, partition=0)

        return feed

    seen = run(declare, 12)
    spans = telemetry.spans()
    sent = {span.attributes["kafka.offset"]: span.span_id for span in spans if span.kind == "PRODUCER"}
    processed = {span.span_id: span.parent_span_id for span in spans if span.kind == "CONSUMER"}
    assert {f"{span_id:016x}": sent[int(value)] for value, span_id in seen} == processed
    assert len(processed) == 12


@pytest.mark.usefixtures("either_stream")
def test_a_message_that_a_filter_stops_ends_there(telemetry, topic, run):
    """And not when the next one comes."""
    source = topic("in")

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)

        def stopped(value):
            asyncio.get_running_loop().call_later(0.2, lambda: seen([span.kind for span in telemetry.spans()]))
            return False

        @app.agent(orders)
        async def score(stream):
            async for value in stream.filter(stopped):
                seen(value)

        async def feed():
            await orders.send(value=b"m", partition=0)

        return feed

    (kinds,) = run(declare, 1)
    assert [kind for kind in kinds if kind != "CLIENT"] == ["PRODUCER", "CONSUMER"]
    assert flow(telemetry) == f"send {source} PRODUCER\n  process {source} CONSUMER"


def test_a_loop_that_is_left_ends_the_message(telemetry, topic, run):
    """What comes after it belongs to no message."""
    source = topic("in")

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)

        @app.agent(orders)
        async def score(stream):
            async for value in stream:
                seen(value)
                break
            seen(current())
            await asyncio.sleep(60)

        async def feed():
            await orders.send(value=b"m")

        return feed

    assert run(declare, 2) == [b"m", None]
    assert flow(telemetry) == f"send {source} PRODUCER\n  process {source} CONSUMER"


def test_what_changes_a_table_is_the_messages_child(telemetry, topic, run):
    """Its changelog is sent by faust, later."""
    source = topic("in")

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)
        changes = app.topic(topic("changes"), key_type=bytes, value_type=bytes)
        table = app.Table("counts", changelog_topic=changes, partitions=1)

        @app.agent(orders)
        async def score(stream):
            async for value in stream:
                table[b"k"] = value
                seen(value)

        async def feed():
            await orders.send(value=b"m", partition=0)

        return feed

    assert run(declare, 1) == [b"m"]
    names = {span.span_id: span.name for span in telemetry.spans()}
    assert [names[span.parent_span_id] for span in telemetry.spans() if span.name.startswith("send changes")] == [
        f"process {source}"
    ]


def test_its_messages_are_counted_and_judged(telemetry, topic, run):
    """Order and pace are known as with `getmany`."""
    source = topic("in")

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)

        @app.agent(orders)
        async def score(stream):
            async for value in stream:
                if value == b"119":
                    await asyncio.sleep(1.5)  # What the client knows of the log's end is read once a second.
                    (flow,) = [each for each in run.pipe.health().flows if each.group]
                    lights.append({name: light.state for name, light in flow.lights.items()})
                seen(value)

        async def feed():
            for number in range(120):
                await orders.send(value=b"%d" % number, partition=0)

        return feed

    lights = []
    run(declare, 120)

    found = lights[0]
    assert (found["order"], found["pace"]) == ("green", "green")
    assert [point.value for point in telemetry.metric("messaging.client.consumed.messages").points] == [120]


def test_its_own_tests_are_left_alone(telemetry):
    """`test_context` gives agents what never was a message."""
    pipe = telemetry.instrument(libraries=["faust", "aiokafka"])

    async def main():
        app = faust.App("tested", broker="kafka://nowhere", store="memory://", loop=asyncio.get_running_loop())
        app.flow_control.resume()
        seen = []

        @app.agent(app.topic("in", value_type=str))
        async def handle(stream):
            async for value in stream:
                seen.append((value, current()))
                yield value

        async with handle.test_context() as agent:
            await agent.put("m")
        return seen

    assert asyncio.run(main()) == [("m", None)]
    assert (pipe.status().errors, telemetry.spans()) == ({}, [])


REJECTING = "destinations: {'*': {foreign: {production: reject}}}\nhealth: {on_reject: raise}"


def test_an_event_that_is_rejected_does_not_reach_the_agent(telemetry, topic, embedded, run):
    """What is raised in its place ends the agent, as any exception; the next event reaches the one that faust starts."""
    source = topic("in")
    foreign = pipeline_header.encode(
        flags=0, hops=1, environment="production", origin_ms=1, newest_ms=0, path=1, producer_id=7, sequence=0, tag=0
    )
    producer = Producer({"bootstrap.servers": embedded})
    producer.produce(source, b"foreign", partition=0, headers=[("otelp", foreign)])
    producer.flush(10)

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)

        @app.agent(orders)
        async def score(stream):
            try:
                async for value in stream:
                    seen(value)
            except otel_pipeline.ForeignEnvironmentError:
                seen("rejected")
                raise

        async def feed():
            await orders.send(value=b"ours", partition=0)

        return feed

    assert run(declare, 2, configured=REJECTING) == ["rejected", b"ours"]
    errors = [span.attributes.get("error.type") for span in telemetry.spans() if span.kind == "CONSUMER"]
    assert errors == ["otel_pipeline.detectors.environments.ForeignEnvironmentError", None]


def test_without_its_client_it_is_left_as_it_was(telemetry, topic, run):
    """No span, and no header."""
    source = topic("in")

    def declare(app, seen):
        orders = app.topic(source, value_type=bytes)

        @app.agent(orders)
        async def score(stream):
            async for event in stream.events():
                seen((current(), event.headers))

        async def feed():
            await orders.send(value=b"m")

        return feed

    assert run(declare, 1, libraries=["faust"]) == [(None, {})]
    assert (telemetry.spans(), run.pipe.status().errors, run.pipe.status().problems) == ([], {}, ())


def test_everything_is_put_back(telemetry):
    """By `uninstrument()`."""
    from faust.agents.agent import Agent
    from faust.app._attached import Attachments
    from faust.sensors.base import SensorDelegate
    from faust.streams import Stream
    from faust.topics import Topic
    from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ThreadedProducer
    from faust.transport.producer import ProducerBuffer

    owners = (
        Agent,
        Attachments,
        SensorDelegate,
        Stream,
        Topic,
        AIOKafkaConsumerThread,
        ThreadedProducer,
        ProducerBuffer,
    )
    before = [dict(vars(owner)) for owner in owners]
    pipe = telemetry.instrument(libraries=["faust"])
    changed = sum(dict(vars(owner)) != was for owner, was in zip(owners, before, strict=True))
    pipe.uninstrument()

    assert (changed, [dict(vars(owner)) for owner in owners]) == (len(owners), before)


def test_a_framework_that_drifted_is_left_alone(telemetry, monkeypatch):
    """Nothing of it is patched, and one line says why."""
    from faust.agents.agent import Agent
    from faust.streams import Stream

    async def _execute_actor(self, coro, aref, more):
        """As of a later version."""

    aiter_before = vars(Stream)["__aiter__"]
    monkeypatch.setattr(Agent, "_execute_actor", _execute_actor)
    pipe = telemetry.instrument(libraries=["faust"])
    (status,) = [each for each in pipe.status().adapters if each.name == "faust-streaming"]

    assert (status.state, vars(Stream)["__aiter__"]) == ("skipped", aiter_before)
