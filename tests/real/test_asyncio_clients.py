"""aiokafka on a real broker: one trace with kafka-python on either side, transactions, and whether it keeps pace."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

import otel_pipeline
from otel_pipeline.detectors.order import MISSING
from otel_pipeline.engine import pipeline_header

aiokafka = pytest.importorskip("aiokafka")
pytestmark = [pytest.mark.real, pytest.mark.broker]
MESSAGES = 100
TIMEOUT_S = 60


@pytest.fixture
def topics(real_broker):
    """A function that makes topics of one partition."""

    def make(*names):
        found = [f"{name}-{uuid.uuid4().hex[:8]}" for name in names]
        admin = KafkaAdminClient(bootstrap_servers=real_broker.bootstrap)
        try:
            admin.create_topics([NewTopic(name, 1, 1) for name in found])
        finally:
            admin.close()
        return found

    return make


def consumer_of(address, topic, **options):
    return aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=address, group_id=f"group-{topic}", auto_offset_reset="earliest", **options
    )


async def one_by_one(address, source, sends, target):
    async with consumer_of(address, source) as consumer:
        left = MESSAGES
        async for message in consumer:
            await sends.send_and_wait(target, message.value)
            left -= 1
            if not left:
                return


async def many(address, source, sends, target):
    async with consumer_of(address, source) as consumer:
        left = MESSAGES
        while left:
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                left -= len(messages)
                for message in messages:
                    await sends.send_and_wait(target, message.value)


def ways(telemetry, last):
    """How many messages have come which way, by the names of the spans up to the last one's."""
    spans = {span.span_id: span for span in telemetry.spans() if span.kind != "CLIENT"}
    found = Counter()
    for span in [span for span in spans.values() if span.name == last]:
        steps, above = [], span
        while above is not None:
            assert above.trace_id == span.trace_id
            steps.append(above.name.split("-")[0])
            above = spans.get(above.parent_span_id)
        found[tuple(reversed(steps))] += 1
    return found


def test_one_trace_over_both_clients_and_both_ways_to_receive(telemetry, real_broker, topics):
    """kafka-python, `async for`, a loop over `getmany`, kafka-python: 100 of 100, each the child of the one before."""
    telemetry.as_in_production()
    pipe = telemetry.instrument(libraries=["kafka-python", "aiokafka"])
    address, (first, second, third) = real_broker.bootstrap, topics("first", "second", "third")
    producer = KafkaProducer(bootstrap_servers=address)
    for number in range(MESSAGES):
        producer.send(first, b"%d" % number)
    producer.close()

    async def main():
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=address) as sends:
            both = one_by_one(address, first, sends, second), many(address, second, sends, third)
            await asyncio.wait_for(asyncio.gather(*both), TIMEOUT_S)

    asyncio.run(main())
    reader = KafkaConsumer(third, bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    hops = Counter(otel_pipeline.current().hops for _record in itertools.islice(reader, MESSAGES))
    reader.close()

    way = ("send first", "process first", "send second", "process second", "send third", "process third")
    assert ways(telemetry, f"process {third}") == {way: MESSAGES}
    assert hops == {3: MESSAGES}
    assert (pipe.status().errors, pipe.status().problems) == ({}, ())


def test_aborted_transactions_are_no_loss(telemetry, real_broker, topics):
    """Of who reads committed messages: half of the transactions are aborted, and all numbers that are due have come."""
    telemetry.instrument(libraries=["aiokafka"])
    monitoring = otel_pipeline.instrument()._monitoring
    address, (topic,) = real_broker.bootstrap, topics("transactions")

    async def main():
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=address, transactional_id=topic) as producer:
            for number in range(10):
                await producer.begin_transaction()
                for _ in range(3):
                    await producer.send_and_wait(topic, b"%d" % number)
                await (producer.abort_transaction() if number % 2 else producer.commit_transaction())
        async with consumer_of(address, topic, isolation_level="read_committed") as consumer:
            read = [await consumer.getone() for _ in range(15)]
            numbers = [pipeline_header.decode(dict(message.headers)["otelp"]).sequence for message in read]
            monitoring.flows.look()
            (found,) = [each for each in monitoring.evidence() if each.key.destination == topic and each.messages]
            return numbers, dict(found.counts.of(MISSING))

    numbers, missing = asyncio.run(main())
    # Each begins anew after an abort: 1 2 3.
    assert numbers == [1, 2, 3] * 5
    assert not any(missing.values())


def test_how_far_behind_it_is(telemetry, real_broker, topics):
    """Known from the start, and to the message."""
    monitoring = telemetry.instrument(libraries=["aiokafka"])._monitoring
    address, (topic,) = real_broker.bootstrap, topics("pace")

    def lag():
        monitoring.flows.look()
        ((found,),) = [each.pace.consumers for each in monitoring.flows.now() if each.flow.key.destination == topic]
        return found.waiting, found.in_hand, found.member

    async def main():
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=address, linger_ms=50) as producer:
            await asyncio.gather(*(producer.send_and_wait(topic, b"x") for _ in range(50)))
            async with consumer_of(address, topic) as consumer:
                first = await consumer.getone()
                seen = [lag()]
                rest = await consumer.getmany(timeout_ms=1_000)
                seen.append(lag())
                return first.offset, sum(map(len, rest.values())), seen

    assert asyncio.run(main()) == (0, 49, [(49, 1, True), (0, 49, True)])
