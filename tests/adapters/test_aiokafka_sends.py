"""aiokafka's batches that the application builds, and its transactions."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.engine import pipeline_header

aiokafka = pytest.importorskip("aiokafka")
pytestmark = pytest.mark.broker


def append(batch, value, **options):
    return batch.append(timestamp=None, key=None, value=value, **options)


def sent(telemetry, *names):
    """Of each send, in turn: status, and these attributes."""
    found = [span for span in telemetry.spans() if span.kind == "PRODUCER"]
    return [(span.status, *(span.attributes.get(name) for name in names)) for span in found]


def counted(telemetry):
    """What was sent, by destination and error."""
    return {
        (point.attributes["messaging.destination.name"], point.attributes.get("error.type")): point.value
        for point in telemetry.metric("messaging.client.sent.messages").points
        if point.value
    }


def test_each_message_of_a_batch_has_a_span_of_its_own(telemetry, application):
    """From when it was put in until the batch is answered, and within whatever put it in."""

    async def main(app):
        topic, producer = app.topic(), await app.producer()
        batch = producer.create_batch()
        for value in (b"a", b"b"):
            with trace.get_tracer("application").start_as_current_span("put in"):
                append(batch, value, headers=[("tenant", b"7")])
        before = telemetry.tree()
        future = await producer.send_batch(batch, topic, partition=1)
        answer = await future
        consumer = await app.consumer(topic)
        consumer.assign([aiokafka.TopicPartition(topic, 1)])
        headers = [[name for name, _ in (await consumer.getone()).headers] for _ in range(2)]
        return topic, before, type(future), answer.offset, headers

    topic, before, kind, offset, headers = application(main)
    assert (kind, offset, headers) == (asyncio.Future, 0, [["tenant", "traceparent", "otelp"]] * 2)
    assert before == "put in INTERNAL\nput in INTERNAL"
    names = ("messaging.destination.name", "messaging.destination.partition.id", "kafka.offset")
    assert sent(telemetry, *names) == [("UNSET", topic, "1", 0), ("UNSET", topic, "1", 1)]
    chain = f"put in INTERNAL\n  send {topic} PRODUCER\n    process {topic} CONSUMER"
    spans = [span for span in telemetry.spans() if span.kind != "CLIENT"]
    assert {span.name for span in spans} == {"put in", f"send {topic}", f"process {topic}"}
    assert telemetry.tree().count(chain) == 2
    assert counted(telemetry) == {(topic, None): 2}


def test_what_the_client_does_not_take_was_never_sent(telemetry, application):
    """A batch that is full says so; the message goes into the next one, once."""

    async def main(app):
        topic, producer = app.topic(), await app.producer(max_batch_size=1_500)
        value, put_in, batches = b"x" * 150, 0, []
        batch = producer.create_batch()
        while len(batches) < 2:
            if append(batch, value) is None:
                batches.append(batch)
                batch = producer.create_batch()
            else:
                put_in += 1
        for full in batches:
            await (await producer.send_batch(full, topic, partition=0))
        return topic, put_in

    topic, put_in = application(main)
    assert put_in > 2
    assert counted(telemetry) == {(topic, None): put_in}
    assert len(sent(telemetry)) == put_in


class Live(SpanProcessor):
    """Which spans have begun and not ended."""

    def __init__(self):
        self.spans = set()

    def on_start(self, span, parent_context=None):
        self.spans.add(span.get_span_context().span_id)

    def on_end(self, span):
        self.spans.discard(span.get_span_context().span_id)


def test_no_span_is_left_open_by_what_is_not_sent(telemetry, application):
    """A message that a full batch refuses, or that cannot be put in: its span is over, and nobody exports it."""
    live = Live()
    trace.get_tracer_provider().add_span_processor(live)

    async def main(app):
        topic, producer = app.topic(), await app.producer(max_batch_size=1_000)
        batch = producer.create_batch()
        with pytest.raises(TypeError):
            append(batch, object())
        put_in = 0
        while append(batch, b"x" * 150) is not None:
            put_in += 1
        await (await producer.send_batch(batch, topic, partition=0))
        return put_in

    put_in = application(main)
    assert put_in > 2
    assert (live.spans, len(sent(telemetry))) == (set(), put_in)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_an_excluded_topic_s_batch_is_as_the_application_made_it(telemetry, embedded, tmp_path, compression):
    """Nothing of ours is in it, and all else is, by the byte; it has neither spans nor counts, and none is left open."""
    from tests.adapters.aiokafka_application import Application

    live, topic = Live(), Application.topic("internal")
    file = tmp_path / "otel_pipeline.yaml"
    file.write_text("exclude: {destinations: ['internal*']}")
    pipe = telemetry.instrument(libraries=["aiokafka"], config_file=file)
    trace.get_tracer_provider().add_span_processor(live)
    own = [
        {},
        {"headers": [("tenant", b"7"), ("tenant", b"8")]},
        {"headers": [("traceparent", b"00-%032x-%016x-01" % (1, 2)), ("otelp", b"x")]},
        {"headers": []},
        {"headers": [("a", None)]},
    ]

    async def written(app, *, ours):
        producer, found = await app.producer(compression_type=compression), []
        shared = [("tenant", b"7")]
        pipe._engine.active = ours
        batch = producer.create_batch()
        for number, headers in enumerate(own):
            found.append(batch.append(timestamp=1_700_000_000_000 + number, key=b"k", value=b"%d" % number, **headers))
        found.append(batch.append(timestamp=1_700_000_000_009, key=None, value=b"last", headers=shared))
        shared[0] = ("tenant", b"changed")
        future = await producer.send_batch(batch, topic, partition=0)
        pipe._engine.active = True
        return batch, (await future).offset, [(each.offset, each.timestamp) for each in found]

    async def main():
        app = Application(embedded)
        ours, plain = await written(app, ours=True), await written(app, ours=False)
        consumer = await app.consumer(topic)
        read = [await consumer.getone() for _ in range(12)]
        await app.close()
        return ours, plain, [(m.timestamp, m.key, m.value, [*m.headers]) for m in read]

    (batch, at, told), (plain, later, told_plain), read = asyncio.run(main())
    assert (at, later, told, batch.record_count(), batch.size()) == (0, 6, told_plain, 6, plain.size())
    assert read[:6] == read[6:]
    assert [headers for *_, headers in read[:6]] == [
        [],
        own[1]["headers"],
        own[2]["headers"],
        [],
        own[4]["headers"],
        [("tenant", b"7")],
    ]
    assert telemetry.metric("messaging.client.sent.messages") is None
    assert (telemetry.spans(), live.spans, pipe.status().errors) == ([], set(), {})


def test_a_batch_that_fails_may_be_sent_again(telemetry, application):
    """Spans end with the client's error, and all is counted both times."""

    async def main(app):
        topic, producer = app.topic(), await app.producer()
        batch = producer.create_batch()
        append(batch, b"a")
        with pytest.raises(AssertionError, match="Unrecognized partition"):
            await producer.send_batch(batch, topic, partition=99)
        append(batch, b"b")
        await (await producer.send_batch(batch, topic, partition=0))
        return topic

    topic = application(main)
    assert sent(telemetry) == [("ERROR",), ("UNSET",)]
    assert counted(telemetry) == {(topic, "AssertionError"): 1, (topic, None): 2}


def test_a_batch_that_is_never_sent(telemetry, application):
    """Leaves nothing behind."""

    async def main(app):
        batch = (await app.producer()).create_batch()
        append(batch, b"a")
        with pytest.raises(TypeError):
            append(batch, object())

    application(main)
    assert (telemetry.spans(), application.pipe.status().errors) == ([], {})


def test_an_open_batch_that_send_adds_to(telemetry, application):
    """As the client allows: what `send()` adds has its context already, and its own answer."""

    async def main(app):
        topic, producer = app.topic(), await app.producer(linger_ms=200)
        await producer.partitions_for(topic)
        batch = producer.create_batch()
        append(batch, b"a")
        of_batch = await producer.send_batch(batch, topic, partition=0)
        of_send = await producer.send(topic, b"b", partition=0)
        offsets = (await of_batch).offset, (await of_send).offset
        consumer = await app.consumer(topic)
        headers = [dict((await consumer.getone()).headers) for _ in range(2)]
        return (
            topic,
            offsets,
            [sorted(each) for each in headers],
            [pipeline_header.decode(each["otelp"]) for each in headers],
        )

    topic, offsets, names, read = application(main)
    assert (offsets, names) == ((0, 1), [["otelp", "traceparent"]] * 2)
    assert [bool(each.sequence) for each in read] == [False, True]
    assert sorted(sent(telemetry, "kafka.offset")) == [("UNSET", 0), ("UNSET", 1)]
    assert counted(telemetry) == {(topic, None): 2}


def test_what_a_batch_rests_on(telemetry, application):
    """On the message that is in hand where it is put in."""

    async def main(app):
        _, consumer, producer = await app.filled(2)
        target, batch = app.topic("next"), producer.create_batch()
        for _ in range(2):
            append(batch, (await consumer.getone()).value)
        await consumer.stop()
        await (await producer.send_batch(batch, target, partition=0))
        reader = await app.consumer(target)
        read = [pipeline_header.decode(dict((await reader.getone()).headers)["otelp"]) for _ in range(2)]
        return [(each.hops, each.producer_id, each.sequence, each.origin_ms > 0) for each in read]

    assert application(main) == [(2, 0, 0, True)] * 2
    of_sources = [span for span in telemetry.spans() if span.name.startswith("process orders")]
    of_targets = [span for span in telemetry.spans() if span.name.startswith("send next")]
    assert [span.parent_span_id for span in of_targets] == [span.span_id for span in of_sources]


def test_nobody_acknowledges_a_batch_with_acks_0(telemetry, application):
    """And a future that is cancelled tells nothing: its messages are on their way."""

    async def main(app):
        topic = app.topic()
        for options, cancels in (({"acks": 0}, False), ({}, True)):
            producer = await app.producer(**options)
            batch = producer.create_batch()
            append(batch, b"a")
            future = await producer.send_batch(batch, topic, partition=0)
            if cancels:
                future.cancel()
                await producer.flush()
                await asyncio.sleep(0)
            else:
                assert await future is None
        return topic

    topic = application(main)
    assert sent(telemetry, "kafka.offset") == [("UNSET", None)] * 2
    assert (counted(telemetry), application.pipe.status().errors) == ({(topic, None): 2}, {})


def test_the_contract_of_the_topic(telemetry, embedded, tmp_path, monkeypatch):
    """Is looked at when it is known which one that is."""
    from tests.adapters.aiokafka_application import Application

    topic = Application.topic()
    (tmp_path / f"{topic}.json").write_text(
        Contract(topic, {"$": Field(("object",), True), "id": Field(("int",), True)}).dumps()
    )
    monkeypatch.setenv("OTEL_PIPELINE_CONTRACTS_DIRECTORY", str(tmp_path))
    pipe = telemetry.instrument(libraries=["aiokafka"])

    async def main():
        app = Application(embedded)
        producer = await app.producer()
        batch = producer.create_batch()
        append(batch, b'{"id": 1}')
        append(batch, b'{"id": "1"}')
        await (await producer.send_batch(batch, topic, partition=0))
        await app.close()

    asyncio.run(main())
    violations = {
        point.attributes["otel_pipeline.kind"]: point.value
        for point in telemetry.metric("otel_pipeline.contract.violations").points
        if point.value
    }
    assert (violations, pipe.status().problems) == ({"type_changed": 1}, ())


def test_a_transaction_that_is_aborted_loses_nothing(telemetry, application):
    """What comes after it has numbers of another producer: those of the aborted messages never arrive."""

    async def main(app):
        topic, producer = app.topic(), await app.producer(transactional_id=app.topic("transaction"))

        def identifier():
            ((now,),) = [list(tell()) for tell in application.pipe._engine.producers]
            return now.producer.identifier

        async with producer.transaction():
            await producer.send_and_wait(topic, b"a", partition=0)
        found = [identifier()]
        with contextlib.suppress(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"b", partition=0)
                1 / 0  # noqa: B018
        found.append(identifier())
        async with producer.transaction():
            await producer.send_and_wait(topic, b"c", partition=0)
        return [*found, identifier()]

    committed, aborted, after = application(main)
    assert (committed != aborted, aborted == after) == (True, True)


def test_a_client_whose_batches_have_drifted(telemetry, monkeypatch):
    """Are left alone, which is said; all else works."""
    from aiokafka.producer.message_accumulator import BatchBuilder

    monkeypatch.setattr(BatchBuilder, "append", lambda self, value: None)
    send_batch = aiokafka.AIOKafkaProducer.send_batch
    pipe = telemetry.instrument(libraries=["aiokafka"])
    (status,) = [each for each in pipe.status().adapters if each.name == "aiokafka"]

    assert (status.state, aiokafka.AIOKafkaProducer.send_batch is send_batch) == ("instrumented", True)
    assert [each for each in pipe.status().problems if "batches that the application builds carry no context" in each]
