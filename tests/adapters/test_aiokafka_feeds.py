"""What aiokafka's own machinery tells of pace and order: positions, fetches, assignments, commits, clusters."""

from __future__ import annotations

import asyncio
from struct import Struct
from types import SimpleNamespace

import pytest

from otel_pipeline.brokers.kafka import aiokafka_fetches
from otel_pipeline.brokers.kafka.feeds import Answer
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.clients import Position

aiokafka = pytest.importorskip("aiokafka")
pytestmark = pytest.mark.broker
NEWER = tuple(map(int, aiokafka.__version__.split(".")[:2])) >= (0, 13)
"""Whether it asks for all that brokers tell."""


async def until(true):
    async def look():
        while not true():  # noqa: ASYNC110 - the client tells nobody
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 20)


def known(application):
    (found,) = application.pipe._engine.consumers.all()
    return found


def test_positions_of_what_is_assigned(application):
    """Known before the first message is asked for; none once the consumer has stopped."""

    async def main(app):
        topic, consumer, _ = await app.filled(3)
        partition, found = aiokafka.TopicPartition(topic, 0), []
        consumer_known = known(application)
        await until(lambda: consumer_known.positions()[partition].offset == 0)
        await consumer.getone()
        consumer.pause(partition)
        found.append(dict(consumer_known.positions()))
        consumer.unsubscribe()
        found.append(dict(consumer_known.positions()))
        await consumer.stop()
        found.append(dict(consumer_known.positions()))
        return topic, found

    topic, found = application(main)
    assert found == [{(topic, 0): Position(1, True)}, {}, {}]


def test_lag_is_known_before_anything_is_asked_for(application):
    """It fetches from the start; a consumer that nobody asks is behind."""

    async def main(app):
        await app.filled(3)
        flows = application.pipe._monitoring.flows

        def pace():
            (found,) = [each.pace for each in flows.now() if each.flow.key.group is None and each.pace.assigned]
            return found

        await until(lambda: any(each.pace.lag for each in flows.now()))
        (of_consumer,) = pace().consumers
        return pace().lag, of_consumer.in_hand

    assert application(main) == (3, 0)


def test_what_several_tasks_have_in_hand_is_counted(application):
    """One each; a batch as a whole."""

    async def main(app):
        topic, producer = app.topic(), await app.producer(linger_ms=100)
        await asyncio.gather(*(producer.send_and_wait(topic, b"x", partition=0) for _ in range(5)))
        consumer = await app.consumer(topic)
        flows, tasks = application.pipe._monitoring.flows, []

        def now():
            ((found,),) = [each.pace.consumers for each in flows.now() if each.pace.assigned]
            return found.in_hand, found.waiting

        async def hold(call, has):
            await call()
            has.set()
            await asyncio.sleep(60)

        async def many():
            return await consumer.getmany(timeout_ms=20_000, max_records=2)

        found = []
        for call in (consumer.getone, many, consumer.getone):
            has = asyncio.Event()
            tasks.append(asyncio.create_task(hold(call, has)))
            await has.wait()
            found.append(now())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return [*found, now()]

    assert application(main) == [(1, 4), (3, 2), (4, 1), (0, 1)]


def test_membership(application):
    """Of a group that assigns; not of partitions that the application has chosen, nor where a call was cancelled."""

    async def main(app):
        topic, _, _ = await app.filled(1, group_id="readers")
        chooses = known(application)
        subscribed = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=app.address, group_id="others")
        await app.started(subscribed)
        (other,) = [each for each in application.pipe._engine.consumers.all() if each is not chooses]
        found = [chooses.is_member(), other.is_member()]
        waiting = asyncio.create_task(subscribed.getone())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        return [*found, other.is_member()]

    assert application(main) == [False, True, False]


def test_partitions_that_are_given_anew(application):
    """Those from which messages have come before."""

    async def main(app):
        topic, consumer, _ = await app.filled(1)
        (consumer_known, told), partition = (known(application), []), aiokafka.TopicPartition(topic, 0)
        await consumer.getone()
        consumer_known.partitions[topic, 0].observer = SimpleNamespace(assigned=lambda: told.append("anew"))
        for partitions in ([aiokafka.TopicPartition(topic, 1)], [partition], [partition]):
            consumer.assign(partitions)
            told.append(len(partitions))
        await consumer.stop()
        return told

    assert application(main) == [1, "anew", 1, "anew", 1]


@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_it_is_said_how_the_client_goes_on(application, reset):
    """Where its position is no longer in the log."""

    async def main(app):
        topic, consumer, _ = await app.filled(3)
        consumer._auto_offset_reset = reset  # As it was made; the fetcher has a copy.
        aiokafka_fetches.follow(consumer, known(application))
        await consumer.seek_to_beginning()
        await consumer.getmany(timeout_ms=20_000)
        told = []
        fetches = known(application).fetches[topic, 0]
        fetches.order = SimpleNamespace(out_of_range=lambda *what: told.append(what), gapped=False)
        consumer.seek(aiokafka.TopicPartition(topic, 0), 100)
        await until(lambda: told)
        fetches.order = None
        return told

    assert application(main)[:1] == [(100, reset)]


@pytest.mark.parametrize(("first", "expected"), [({0, 1}, []), ({0}, [3])], ids=["as many", "one more"])
def test_a_partition_that_is_younger_than_the_consumer(application, monkeypatch, first, expected):
    """What lies before the position that the client itself has taken is left out, and counted."""

    async def main(app):
        topic, producer, told = app.topic(), await app.producer(), []
        for value in (b"a", b"b", b"c"):
            await producer.send_and_wait(topic, value, partition=1)
        consumer = await app.consumer(topic, auto_offset_reset="latest")
        monkeypatch.setattr(consumer._client.cluster, "partitions_for_topic", lambda _topic: first)
        place = known(application).fetch_observer(topic, 1)
        monkeypatch.setattr(type(place), "skipped", lambda _self, count: told.append(count))
        consumer.assign([aiokafka.TopicPartition(topic, 1)])
        await until(lambda: place.answered_s)
        return told

    assert application(main) == (expected if NEWER else [])


def test_the_cluster_is_known(application):
    """Where the client asks for metadata that have it."""

    async def main(app):
        topic, producer = app.topic(), await app.producer()
        await producer.send_and_wait(topic, b"x", partition=0)
        consumer = await app.consumer(topic)
        await consumer.getone()
        return aiokafka_fetches.cluster(producer), aiokafka_fetches.cluster(consumer)

    of_producer, of_consumer = application(main)
    assert of_producer == of_consumer
    assert (of_producer is not None) == NEWER


@pytest.mark.parametrize(
    ("version", "fields", "committed_only", "expected"),
    [
        (3, (0, 9), False, (0, 9, 9, -1)),
        (4, (0, 9, 7, None), False, (0, 9, 9, -1)),
        (4, (0, 9, 7, None), True, (0, 7, 9, -1)),
        (4, (0, 9, -1, None), True, (0, 9, 9, -1)),
        (5, (1, 9, 7, 2, None), True, (1, 7, 9, 2)),
        (11, (0, 9, 7, 2, None, -1), False, (0, 9, 9, 2)),
    ],
)
def test_what_answers_say(version, fields, committed_only, expected):
    """Of each version that the client asks for; the records come last, here the marker of a transaction."""
    marker = Struct(">qi4xb4xh").pack(8, 50, 2, 1 << 5)
    response = SimpleNamespace(API_VERSION=version, topics=[("orders", [(1, *fields, marker)])])

    assert dict(aiokafka_fetches._answers(response, committed_only=committed_only)) == {
        ("orders", 1): Answer(*expected, markers=[8])
    }


def test_a_client_that_drifted_has_no_pace(telemetry, monkeypatch):
    """Nothing of it is followed, and one line says so; all else works."""
    from aiokafka.consumer.subscription_state import SubscriptionState

    monkeypatch.setattr(SubscriptionState, "assign_from_user", lambda self, other: None)
    bare = aiokafka.client.AIOKafkaClient.send
    pipe = telemetry.instrument(libraries=["aiokafka"])
    (status,) = [each for each in pipe.status().adapters if each.name == "aiokafka"]

    assert (status.state, aiokafka.client.AIOKafkaClient.send is bare) == ("instrumented", True)
    assert [each for each in pipe.status().problems if "whether consumers keep pace is not known" in each]


def test_asking_is_seen_whoever_asks(application):
    """A framework may pass the client's own methods by, as faust does: what it sends is not said to begin here."""

    async def main(app):
        _, consumer, producer = await app.filled(1)
        polling, target, found = known(application).polling, app.topic("next"), []
        asked_ns = polling.since_ns
        with consumer._subscription.fetch_context():
            found.append(polling.began_ns > 0)
            await consumer._fetcher.fetched_records((), timeout=20)
        await producer.send_and_wait(target, b"x", partition=0)
        message = await (await app.consumer(target)).getone()
        origin_ms = pipeline_header.decode(dict(message.headers)["otelp"]).origin_ms
        await consumer.stop()
        return [*found, polling.began_ns, polling.since_ns > asked_ns, origin_ms]

    assert application(main) == [True, 0, True, 0]
    (said,) = application.pipe.status().problems
    assert said.startswith("messages were polled by code that passes getone() and getmany() by, and nothing tells")
