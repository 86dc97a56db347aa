"""confluent-kafka on a real broker: one trace with kafka-python on either side, transactions, and whether it keeps pace."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import Counter

import pytest
from kafka import KafkaConsumer, KafkaProducer

import otel_pipeline
from otel_pipeline.detectors.order import REDELIVERED

confluent_kafka = pytest.importorskip("confluent_kafka")
from confluent_kafka import Consumer, Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

pytestmark = [pytest.mark.real, pytest.mark.broker]
MESSAGES = 100
TIMEOUT_S = 60


@pytest.fixture
def topics(real_broker):
    """A function that makes topics of one partition."""

    def make(*names):
        found = [f"{name}-{uuid.uuid4().hex[:8]}" for name in names]
        admin = AdminClient({"bootstrap.servers": real_broker.bootstrap})
        made = admin.create_topics([NewTopic(name, 1, 1) for name in found])
        for future in made.values():
            future.result(TIMEOUT_S)
        return found

    return make


def consumer_of(address, topic, **settings):
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"group-{topic}",
            "auto.offset.reset": "earliest",
            "log_level": 0,
            **settings,
        }
    )
    consumer.subscribe([topic])
    return consumer


def one_by_one(address, source, producer, target):
    consumer, left = consumer_of(address, source), MESSAGES
    deadline = time.monotonic() + TIMEOUT_S
    while left:
        assert time.monotonic() < deadline
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            producer.produce(target, message.value())
            left -= 1
    producer.flush(TIMEOUT_S)
    consumer.close()


def many(address, source, producer, target):
    consumer, left = consumer_of(address, source), MESSAGES
    deadline = time.monotonic() + TIMEOUT_S
    while left:
        assert time.monotonic() < deadline
        messages = consumer.consume(50, 0.5)
        for message in messages:
            if message.error() is None:
                producer.produce(target, message.value())
                left -= 1
    producer.flush(TIMEOUT_S)
    consumer.close()


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
    """kafka-python, `poll`, a loop over `consume`, kafka-python: 100 of 100, each the child of the one before."""
    telemetry.as_in_production()
    pipe = telemetry.instrument(libraries=["kafka-python", "confluent-kafka"])
    address, (first, second, third) = real_broker.bootstrap, topics("first", "second", "third")
    sends = KafkaProducer(bootstrap_servers=address)
    for number in range(MESSAGES):
        sends.send(first, b"%d" % number)
    sends.close()
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    one_by_one(address, first, producer, second)
    many(address, second, producer, third)
    reader = KafkaConsumer(third, bootstrap_servers=address, auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    hops = Counter(otel_pipeline.current().hops for _record in itertools.islice(reader, MESSAGES))
    reader.close()

    way = ("send first", "process first", "produce second", "process second", "produce third", "process third")
    assert ways(telemetry, f"process {third}") == {way: MESSAGES}
    assert hops == {3: MESSAGES}
    assert (pipe.status().errors, pipe.status().problems) == ({}, ())


def pace_of(pipe, topic):
    """The pace of the only consumer of a topic."""
    (pace,) = [each.pace for each in pipe._monitoring.flows.now() if each.flow.key.destination == topic]
    return pace


def test_pace_is_that_of_the_log(telemetry, real_broker, topics):
    """Behind by what was written meanwhile, known while the application waits in a call; caught up when it has read it."""
    telemetry.real_time()
    pipe = telemetry.instrument(libraries=["confluent-kafka"])
    address, (topic,) = real_broker.bootstrap, topics("pace")
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    for number in range(10):
        producer.produce(topic, b"%d" % number)
    producer.flush(TIMEOUT_S)
    consumer, deadline = consumer_of(address, topic), time.monotonic() + TIMEOUT_S
    while consumer.poll(0.5) is None:
        assert time.monotonic() < deadline
    behind = pace_of(pipe, topic)
    for _ in range(9):
        assert consumer.poll(10).error() is None
    caught_up = pace_of(pipe, topic)
    consumer.close()

    assert (behind.assigned, behind.lag) == (1, 9)
    assert (caught_up.assigned, caught_up.lag) == (1, 0)
    assert pipe.status().errors == {}


def test_the_mark_of_a_transaction_is_not_taken_for_a_message_that_waits(telemetry, real_broker, topics, monkeypatch):
    """Aborted transactions are no loss; what stays before the end of the log is unknown, and never "not served"."""
    telemetry.real_time()
    pipe = telemetry.instrument(libraries=["confluent-kafka"])
    monkeypatch.setattr("otel_pipeline.brokers.kafka.confluent_kafka_pace.BLIND_AFTER_S", 2.0)
    address, (topic,) = real_broker.bootstrap, topics("transactions")
    producer = Producer({"bootstrap.servers": address, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(TIMEOUT_S)
    for commits in (True, False, True):
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(topic, b"a", partition=0)
        if commits:
            producer.commit_transaction(TIMEOUT_S)
        else:
            producer.flush(TIMEOUT_S)
            producer.abort_transaction(TIMEOUT_S)
    consumer, found, deadline = consumer_of(address, topic), 0, time.monotonic() + TIMEOUT_S
    while found < 20:
        assert time.monotonic() < deadline
        found += consumer.poll(0.5) is not None
    at_the_mark, waited = pace_of(pipe, topic), time.monotonic() + 5
    while time.monotonic() < waited:
        assert consumer.poll(0.5) is None
    later = pace_of(pipe, topic)
    (flow,) = [each for each in pipe.health().flows if each.destination == topic]
    consumer.close()

    assert (at_the_mark.lag, later.lag, later.assigned) == (1, None, 1)
    light = flow.lights["pace"]
    assert (light.state, light.why[:40]) == ("grey", "not known: what is left may be an open t")
    assert flow.lights["order"].state in {"grey", "green"}
    assert pipe.status().errors == {}


@pytest.mark.skipif(not hasattr(confluent_kafka, "ShareConsumer"), reason="this version has no share consumers")
def test_a_share_group_is_one_trace_and_says_what_came_again(telemetry, real_broker, topics):
    """Two consumers of one group: each message is handled once, in its sender's trace; what one releases comes again."""
    from confluent_kafka import AcknowledgeType, ShareConsumer
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    telemetry.real_time()
    pipe = telemetry.instrument(libraries=["confluent-kafka"])
    address, (source, target) = real_broker.bootstrap, topics("source", "target")
    group = f"group-{source}"
    begins = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[begins])
    admin = AdminClient({"bootstrap.servers": address})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(TIMEOUT_S)
    producer = Producer({"bootstrap.servers": address, "log_level": 0})
    for number in range(MESSAGES):
        producer.produce(source, b"%d" % number)
    assert producer.flush(TIMEOUT_S) == 0
    settings = {"bootstrap.servers": address, "group.id": group, "log_level": 0}
    sharing = [ShareConsumer({**settings, "share.acknowledgement.mode": "explicit"}) for _ in range(2)]
    for consumer in sharing:
        consumer.subscribe([source])
    handled, released, deadline = Counter(), set(), time.monotonic() + TIMEOUT_S
    while len(handled) < MESSAGES:
        assert time.monotonic() < deadline
        for consumer in sharing:
            for message in consumer.poll(0.2):
                offset = message.offset()
                if offset % 10 == 0 and message.delivery_count() == 1:
                    released.add(offset)
                    consumer.acknowledge(message, AcknowledgeType.RELEASE)
                    continue
                producer.produce(target, message.value())
                consumer.acknowledge(message)
                handled[offset] += 1
            consumer.commit_sync()
    producer.flush(TIMEOUT_S)
    evidence = [each for each in pipe._monitoring.evidence() if each.key.destination == source and each.key.group]
    (flow,) = [each for each in pipe.health().flows if each.destination == source]
    for consumer in sharing:
        consumer.close()

    again = sum(each.counts[REDELIVERED] for each in evidence)
    sent = [span for span in telemetry.spans() if span.name == f"produce {target}"]
    by_id = {span.span_id: span for span in telemetry.spans()}
    chains = Counter(
        (by_id[span.parent_span_id].name, by_id[by_id[span.parent_span_id].parent_span_id].name) for span in sent
    )
    assert (set(handled.values()), len(released), again) == ({1}, 10, 10)
    assert chains == {(f"process {source}", f"produce {source}"): MESSAGES}
    assert (flow.lights["pace"].state, flow.lights["pace"].why[:25]) == ("grey", "not known: a share group ")
    assert pipe.status().errors == {}
