"""The relay with faults: an independent reader finds what was injected, and so does the detector of order and loss."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import otel_pipeline
from otel_pipeline.brokers.embedded import API_VERSION, embedded_broker
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.engine.pipeline_header import NAME, decode, encode, stamp, tag_of
from otel_pipeline.testing.faults import FaultsError, Relay
from otel_pipeline.testing.faults.options import faults_of
from otel_pipeline.testing.faults.plan import Message, Plan

client = pytest.importorskip("kafka")
cimpl = pytest.importorskip("confluent_kafka.cimpl")
admin = pytest.importorskip("confluent_kafka.admin")

pytestmark = [pytest.mark.broker, pytest.mark.once]
PARTITIONS = 4
BASE_MS = 1_700_000_000_000
_numbers = itertools.count(1)


@dataclass
class Broker:
    address: str
    options: dict
    real: bool

    def topics(self):
        """A source and a destination of this test alone."""
        number = next(_numbers)
        names = f"source-{os.getpid()}-{number}", f"destination-{os.getpid()}-{number}"
        if self.real:
            maker = admin.AdminClient({"bootstrap.servers": self.address})
            made = maker.create_topics([admin.NewTopic(name, PARTITIONS, 1) for name in names])
            for future in made.values():
                future.result(20)
        else:
            maker = cimpl.Producer({"bootstrap.servers": self.address, "log_level": 0})
            for name in names:
                maker.list_topics(name, timeout=10)
        return names

    def send(self, topic, messages):
        """Messages as (partition, value, headers), acknowledged."""
        producer = cimpl.Producer({"bootstrap.servers": self.address, "log_level": 0, "enable.idempotence": True})
        failed = []
        for number, (partition, value, headers) in enumerate(messages):
            producer.produce(
                topic,
                value=value,
                key=b"key-%d" % number,
                partition=partition,
                headers=headers,
                timestamp=BASE_MS + number,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            producer.poll(0)
        assert (producer.flush(20), failed) == (0, [])

    def read(self, topic):
        """All that is there, by an independent client: a list of records for each partition."""
        consumer = client.KafkaConsumer(
            bootstrap_servers=self.address, auto_offset_reset="earliest", enable_auto_commit=False, **self.options
        )
        places = [client.TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        found = {place.partition: [] for place in places}
        deadline = time.monotonic() + 30
        while any(consumer.position(place) < ends[place] for place in places):
            assert time.monotonic() < deadline, f"{sum(map(len, found.values()))} of {sum(ends.values())} came"
            for place, records in consumer.poll(200).items():
                found[place.partition] += records
        consumer.close()
        return found


@pytest.fixture(scope="module")
def embedded():
    with embedded_broker() as address:
        yield Broker(address, {"api_version": API_VERSION}, real=False)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def broker(request):
    if request.param == "embedded":
        return request.getfixturevalue("embedded")
    return Broker(request.getfixturevalue("real_broker").bootstrap, {}, real=True)


def header(producer, number, tag, environment="test"):
    return encode(
        flags=8,
        hops=3,
        environment=environment,
        origin_ms=BASE_MS,
        newest_ms=BASE_MS,
        path=77,
        producer_id=producer,
        sequence=number,
        tag=tag,
    )


def numbered(topic, count, producers=(11,), partitions=(0, 1)):
    """Messages of these producers, each numbering its own in every partition, values are JSON."""
    given = Counter()
    for turn in range(count):
        partition = partitions[turn % len(partitions)]
        producer = producers[turn // len(partitions) % len(producers)]
        given[partition, producer] += 1
        number = given[partition, producer]
        value = json.dumps({"turn": turn, "number": number, "who": {"name": "ann", "age": 7}}).encode()
        yield partition, value, [("other", b"x"), (NAME, header(producer, number, tag_of(topic, partition)))]


def read_header(record):
    return decode(dict(record.headers)[NAME])


def orders(topic, found):
    """The detector's counts after all has been read."""
    counts = Counter()
    for partition, records in found.items():
        order = PartitionOrder(tag_of(topic, partition), time.monotonic)
        for record in records:
            read = read_header(record)
            order.one(record.offset, read.producer_id, read.sequence, read.tag)
        order.close()
        for name in ("missing_before_broker", "reordered", "duplicate", "relayed", "open", "redelivered"):
            counts[name] += getattr(order, name)
    return {name: count for name, count in counts.items() if count}


def census(found):
    """What was written, by comparing numbers alone: how many were late, doubled; and all that came."""
    late, doubled, seen = 0, 0, Counter()
    for partition, records in found.items():
        newest = Counter()
        for record in records:
            read = read_header(record)
            key = partition, read.producer_id, read.sequence
            doubled += seen[key] > 0
            late += not seen[key] and read.sequence < newest[read.producer_id]
            newest[read.producer_id] = max(newest[read.producer_id], read.sequence)
            seen[key] += 1
    return {"late": late, "doubled": doubled, "different": len(seen)}


def contents(found):
    return {
        partition: [(each.key, each.value, each.headers, each.timestamp) for each in records]
        for partition, records in found.items()
    }


def test_without_faults_all_stays_but_the_tag(broker):
    """Partition, key, value, headers with their nulls and repetitions, and timestamp."""
    source, destination = broker.topics()
    tag, plain = tag_of(source, 1), header(11, 1, tag_of(source, 1), "laptop-of-ann")
    elsewhere = header(11, 2, (tag + 1) & 0xFFFF)
    broker.send(
        source,
        [
            (0, b"", [("a", b""), ("a", None), ("b", b"\xff")]),
            (1, None, [(NAME, plain)]),
            (1, b"\x00binary", [(NAME, elsewhere)]),
            (1, b"x", [(NAME, b"not readable")]),
            (3, b"x", []),
        ],
    )

    with Relay(broker.address, source, destination) as relay:
        injected = relay.wait_until_relayed(5)

    expected = contents(broker.read(source))
    key, value, _, timestamp = expected[1][0]
    expected[1][0] = key, value, [(NAME, stamp(plain, 1, tag_of(destination, 1)))], timestamp
    assert contents(broker.read(destination)) == expected
    assert (injected.relayed, injected.written, injected.drop, injected.not_applicable) == (5, 5, 0, 0)


@pytest.mark.parametrize(("displacement", "share", "producers"), [(50, 0.01, (11,)), (1_000, 0.02, (11, 12, 13))])
def test_what_was_injected_is_what_is_found(broker, displacement, share, producers):
    """By comparing numbers, and by the detector: exactly, with a displacement up to 1,000."""
    source, destination = broker.topics()
    broker.send(source, numbered(source, 12_000, producers))

    faults = {"drop": share, "duplicate": share, "reorder": share, "displacement": displacement}
    with Relay(broker.address, source, destination, seed=7, **faults) as relay:
        relay.wait_until_relayed(12_000)
    injected = relay.injected
    found = broker.read(destination)

    assert min(injected.drop, injected.duplicate, injected.reorder) > 12_000 * share / 2
    assert census(found) == {
        "late": injected.reorder,
        "doubled": injected.duplicate,
        "different": 12_000 - injected.drop,
    }
    assert sum(map(len, found.values())) == injected.written
    assert orders(destination, found) == {
        "missing_before_broker": injected.drop - injected.lost_head - injected.lost_tail,
        "reordered": injected.reorder,
        "duplicate": injected.duplicate,
    }
    by_partition = injected.by_partition
    assert {partition: len(records) for partition, records in found.items() if records} == {
        partition: by_partition[partition]["written"] for partition in (0, 1)
    }
    assert sum(each["drop"] for each in by_partition.values()) == injected.drop


@pytest.mark.parametrize("displacement", [1, 10, 1_000])
@pytest.mark.parametrize("producers", [1, 5])
def test_the_detector_agrees_whatever_the_shares(displacement, producers):
    """The plan alone, without a broker: many shares up to everything, producers that come as they like."""
    found, expected = [], []
    for seed in range(8):
        roll = random.Random(seed)
        shares = {"drop": roll.choice([0, 0.01, 0.6]), "duplicate": roll.choice([0, 0.01, 0.5])}
        faults = faults_of({**shares, "reorder": roll.choice([0.01, 0.1, 1.0]), "displacement": displacement})
        plan, order, given, out = Plan(seed, "a", "b"), PartitionOrder(tag_of("b", 0), time.monotonic), Counter(), []
        for offset in range(roll.choice([50, 1_500])):
            producer = roll.randint(1, producers)
            given[producer] += 1
            headers = [(NAME, header(producer, given[producer], tag_of("a", 0)))]
            out += plan.take(Message(0, offset, None, b"x", headers, BASE_MS), faults)
        out += plan.release()
        counts = plan.counts + Counter((name, 0) for each in out for name in each.faults)
        for offset, each in enumerate(out):
            read = decode(each.message.headers[0][1])
            order.one(offset, read.producer_id, read.sequence, read.tag)
        order.close()
        found.append((order.missing_before_broker, order.reordered, order.duplicate, order.open))
        lost = counts["drop", 0] - counts["lost_head", 0] - counts["lost_tail", 0]
        expected.append((lost, counts["reorder", 0], counts["duplicate", 0], 0))

    assert found == expected


def test_two_runs_do_the_same_and_another_seed_does_not(broker):
    source, destination = broker.topics()
    others = [broker.topics()[1] for _ in range(2)]
    broker.send(source, numbered(source, 3_000))
    faults = {"drop": 0.05, "duplicate": 0.05, "reorder": 0.1, "displacement": 40, "change_field": "who.age"}
    faults |= {"change_share": 0.1, "foreign_environment": "laptop", "foreign_environment_share": 0.1}
    runs = []
    for seed, target in ((7, destination), (7, others[0]), (8, others[1])):
        with Relay(broker.address, source, target, seed=seed, **faults) as relay:
            relay.wait_until_relayed(3_000)
        found = broker.read(target)
        runs.append((
            relay.injected,
            [[(each.key, each.value, read_header(each)._replace(tag=0)) for each in found[p]] for p in found],
        ))  # fmt: skip

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_another_fault_does_not_change_what_the_first_one_chooses(embedded):
    source, first = embedded.topics()
    second = embedded.topics()[1]
    embedded.send(source, numbered(source, 2_000))
    left = []
    for target, more in ((first, {}), (second, {"duplicate": 0.1})):
        with Relay(embedded.address, source, target, seed=3, drop=0.1, **more) as relay:
            relay.wait_until_relayed(2_000)
        left.append({(p, each.key) for p, records in embedded.read(target).items() for each in records})

    assert left[0] == left[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"change_field": "who.age"}, {"number": 1, "who": {"name": "ann", "age": None}}),
        ({"change_field": "$.who.age", "change": "retype"}, {"number": 1, "who": {"name": "ann", "age": "7"}}),
        ({"change_field": "who['name']", "change": "retype"}, {"number": 1, "who": {"name": ["ann"], "age": 7}}),
        ({"change_field": "who", "change": "remove"}, {"number": 1}),
        (
            {"change_field": "who.name", "change": "rename", "change_to": "label"},
            {"number": 1, "who": {"label": "ann", "age": 7}},
        ),
    ],
)
def test_a_field_is_changed_and_all_else_stays(embedded, options, expected):
    source, destination = embedded.topics()
    embedded.send(source, numbered(source, 400, partitions=(0,)))
    embedded.send(source, [(0, b"no json", [])])

    with Relay(embedded.address, source, destination, seed=1, change_share=0.25, **options) as relay:
        injected = relay.wait_until_relayed(401)
    pairs = list(zip(embedded.read(source)[0], embedded.read(destination)[0], strict=True))
    changed = [(before, after) for before, after in pairs if before.value != after.value]

    assert len(changed) == injected.change_field > 50
    for before, after in changed:
        turn, number = (json.loads(before.value)[name] for name in ("turn", "number"))
        assert json.loads(after.value) == {"turn": turn, **expected, "number": number}
    assert list(json.loads(changed[0][1].value))[:2] == ["turn", "number"]


def test_what_cannot_be_changed_is_not_counted_as_changed(embedded):
    source, destination = embedded.topics()
    embedded.send(source, [(0, b"no json", []), (0, b'{"a": 1}', []), (0, None, []), (0, b'{"b": {"c": 1}}', [])])

    with Relay(embedded.address, source, destination, change_field="b.c", change="remove") as relay:
        injected = relay.wait_until_relayed(4)

    assert (injected.change_field, injected.not_applicable) == (1, 3)
    assert [each.value for each in embedded.read(destination)[0]] == [b"no json", b'{"a": 1}', None, b'{"b":{}}']


@pytest.mark.parametrize(("before", "after"), [("test", "local"), ("test", "laptop"), ("café", "test"), ("a", "b")])
def test_the_environment_is_another_and_the_other_bytes_stay(embedded, before, after):
    source, destination = embedded.topics()
    tags = tag_of(source, 0), tag_of(destination, 0)
    sent = [header(11, number, tags[0], before) for number in range(1, 41)]
    embedded.send(source, [(0, b"x", [(NAME, each)]) for each in sent])

    with Relay(embedded.address, source, destination, foreign_environment=after) as relay:
        injected = relay.wait_until_relayed(40)

    arrived = [dict(each.headers)[NAME] for each in embedded.read(destination)[0]]
    assert arrived == [header(11, number, tags[1], after) for number in range(1, 41)]
    assert injected.foreign_environment == 40


def test_a_delay_keeps_the_order_and_lasts(broker):
    """Each chosen message is written at least that much later; those behind it wait."""
    source, destination = broker.topics()
    with Relay(broker.address, source, destination, seed=2, delay=0.6, delay_share=0.1) as relay:
        before = time.monotonic()
        broker.send(source, numbered(source, 200, partitions=(0,)))
        injected = relay.wait_until_relayed(200)
        took = time.monotonic() - before
    found = broker.read(destination)

    assert injected.delay > 5
    assert 0.6 <= took < 10
    assert orders(destination, found) == {}
    assert contents(found)[0][0][3] == BASE_MS


def test_a_stop_cuts_a_delay_short_and_does_not_count_it(embedded):
    source, destination = embedded.topics()
    relay = Relay(embedded.address, source, destination, delay=600.0).start()
    embedded.send(source, numbered(source, 50))
    until(lambda: relay._read == 50)
    before = time.monotonic()
    relay.stop()

    assert time.monotonic() - before < 5
    assert (relay.injected.relayed, relay.injected.delay) == (50, 0)
    assert sum(map(len, embedded.read(destination).values())) == 50


def test_a_freeze_before_a_message(broker):
    """Nothing more is written until it thaws; then all is."""
    source, destination = broker.topics()
    broker.send(source, numbered(source, 100))
    with Relay(broker.address, source, destination, freeze=600.0, freeze_at=41) as relay:
        relay.wait_until_relayed(40)
        until(lambda: relay.injected.freeze == 1)
        assert relay.injected.relayed == 40
        with pytest.raises(TimeoutError, match=r"40 of 100 messages were relayed in 0\.3 s, 40 read, the .* frozen"):
            relay.wait_until_relayed(100, timeout=0.3)
        relay.thaw()
        relay.wait_until_relayed(100)

    assert orders(destination, broker.read(destination)) == {}


def test_a_freeze_on_command_stops_a_running_stream(embedded):
    """What is not under way to the broker at that moment stays in the source, also when a stop follows the thaw."""
    source, destination = embedded.topics()
    embedded.send(source, numbered(source, 20_000))
    with Relay(embedded.address, source, destination) as relay:
        relay.wait_until_relayed(1)
        relay.freeze()
        until(lambda: relay._unacknowledged == 0)
        relayed = relay.wait_until_relayed(1).relayed
        with pytest.raises(TimeoutError, match="the relay is frozen"):
            relay.wait_until_relayed(20_000, timeout=0.5)
        assert relay.injected.relayed == relayed < 20_000
        relay.thaw()
        relay.wait_until_relayed(20_000)

    assert orders(destination, embedded.read(destination)) == {}


@pytest.mark.parametrize("planned", [1, 30, 50])
def test_a_freeze_before_a_message_that_has_passed_comes_with_the_next_one(embedded, planned):
    source, destination = embedded.topics()
    messages = list(numbered(source, 60))
    with Relay(embedded.address, source, destination) as relay:
        embedded.send(source, messages[:30])
        relay.wait_until_relayed(30)
        relay.add(freeze=0.2, freeze_at=planned)
        embedded.send(source, messages[30:])
        relay.wait_until_relayed(60)

    assert relay.injected.freeze == 1


def test_faults_on_and_off_one_after_the_other(broker):
    """As a demo does: a burst, then duplicates, then a freeze on command, then nothing."""
    source, destination = broker.topics()
    messages = list(numbered(source, 800, partitions=(0,)))
    with Relay(broker.address, source, destination, seed=5) as relay:
        relay.drop_range(100, 149)
        broker.send(source, messages[:200])
        relay.wait_until_relayed(200)
        relay.clear()
        relay.add(duplicate=0.5)
        broker.send(source, messages[200:400])
        relay.wait_until_relayed(400)
        doubled = relay.injected.duplicate
        relay.clear()
        relay.freeze()
        broker.send(source, messages[400:600])
        assert relay.injected.relayed == 400
        relay.thaw()
        relay.wait_until_relayed(600)
        relay.drop_range(700, partition=0)
        broker.send(source, messages[600:])
        injected = relay.wait_until_relayed(800)

    assert doubled > 50
    assert (injected.drop, injected.lost_tail, injected.duplicate, injected.freeze) == (150, 100, doubled, 1)
    assert orders(destination, broker.read(destination)) == {"missing_before_broker": 50, "duplicate": doubled}


def test_a_burst_at_the_head_and_the_tail_is_said_to_leave_no_gap(embedded):
    source, destination = embedded.topics()
    embedded.send(source, numbered(source, 100, partitions=(2,)))

    relay = Relay(embedded.address, source, destination, drop=1.0, last=9)
    relay.drop_range(50, 54)
    relay.drop_range(90)
    with relay:
        injected = relay.wait_until_relayed(100)

    assert (injected.drop, injected.lost_head, injected.lost_tail) == (25, 10, 10)


def test_what_is_held_waits_for_others_again_after_a_wait(embedded):
    """A wait releases what is held then, once; later messages are displaced as before."""
    source, destination = embedded.topics()
    messages = list(numbered(source, 2_000, partitions=(0,)))
    with Relay(embedded.address, source, destination, seed=5, reorder=0.1, displacement=20) as relay:
        embedded.send(source, messages[:1_000])
        first = relay.wait_until_relayed(1_000).reorder
        embedded.send(source, messages[1_000:])
        second = relay.wait_until_relayed(2_000).reorder

    assert min(first, second - first) > 50
    assert orders(destination, embedded.read(destination)) == {"reordered": second}


def test_latest_begins_with_what_is_sent_after_the_start(broker):
    source, destination = broker.topics()
    broker.send(source, numbered(source, 20))
    with Relay(broker.address, source, destination, auto_offset_reset="latest") as relay:
        broker.send(source, [(0, b"later", [])])
        relay.wait_until_relayed(1)

    assert [each.value for each in broker.read(destination)[0]] == [b"later"]


def test_the_relay_is_not_instrumented_and_the_sdks_own_metric_says_what_was_injected(embedded, telemetry, monkeypatch):
    """Neither by us nor by others who put their own classes into confluent_kafka."""
    monkeypatch.setattr("confluent_kafka.Producer", None)
    monkeypatch.setattr("confluent_kafka.Consumer", None)
    source, destination = embedded.topics()
    telemetry.instrument("sender", environment="test")
    options = {"bootstrap_servers": embedded.address, **embedded.options}
    producer = client.KafkaProducer(linger_ms=0, **options)
    for number in range(300):
        producer.send(source, b"%d" % number, partition=0)
    producer.flush(20)
    producer.close()
    telemetry.clear()
    with Relay(embedded.address, source, destination, seed=4, drop=0.1, duplicate=0.1, reorder=0.1) as relay:
        relay.wait_until_relayed(300)
    injected = relay.injected

    assert telemetry.spans() == []
    found = embedded.read(destination)
    assert orders(destination, found) == {
        "missing_before_broker": injected.drop - injected.lost_head - injected.lost_tail,
        "reordered": injected.reorder,
        "duplicate": injected.duplicate,
    }
    consumer = client.KafkaConsumer(group_id="g", auto_offset_reset="earliest", **options)
    consumer.assign([client.TopicPartition(destination, 0)])
    for _ in range(injected.written):
        next(consumer)
    points = telemetry.metric("otel_pipeline.order.violations").points
    consumer.close()
    assert {point.attributes["otel_pipeline.violation"]: point.value for point in points if point.value} == {
        "reordered": injected.reorder,
        "duplicate": injected.duplicate,
    }


def test_the_fixture_starts_relays_and_stops_them(embedded, faults):
    source, destination = embedded.topics()
    embedded.send(source, numbered(source, 10))

    relay = faults(embedded.address, source, destination, seed=1, duplicate=1.0)

    assert relay.wait_until_relayed(10).written == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.5}, "drop: 1.5 is no share: give a number from 0 to 1, for example 0.01"),
        ({"drop": float("nan")}, "drop: nan is no share: give a number from 0 to 1, for example 0.01"),
        ({"delay": -1}, "delay: -1 is no time: give seconds, 0 or more, for example 2.5"),
        ({"displacement": 5}, "displacement: goes together with reorder, which is not given"),
        ({"reorder": 0.1, "displacement": 0}, "displacement: 0 does not fit: give a whole number, 1 or more"),
        ({"change_field": "a..b"}, "change_field: 'a..b' is no path of a field"),
        ({"change_field": "a", "change": "rename"}, "change_to: the new name of the field"),
        ({"change_field": "a", "change": "burn"}, "change: 'burn' is no change: give one of rename, null, retype, rem"),
        ({"change_field": 5}, "change_field: 5 is no text: give a str"),
        ({"foreign_environment": "x" * 17}, "foreign_environment: the header has room for 16 bytes"),
        ({"first": 9, "last": 3}, "last: offset 3 is before first, 9"),
        ({"dorp": 0.1}, "dorp: no such fault; there are drop, duplicate, "),
        ({"destination": "a"}, "destination: is 'a' like source"),
    ],
)
def test_a_wrong_option_is_named_with_the_remedy(options, message):
    with pytest.raises(FaultsError) as raised:
        Relay("nowhere:1", **{"source": "a", "destination": "b", **options})

    assert str(raised.value).startswith(message)


def test_start_says_what_is_missing(broker):
    source, _ = broker.topics()
    missing = f"missing-{os.getpid()}"
    with pytest.raises(FaultsError, match=f"destination: there is no topic '{missing}' at .*: create it first"):
        Relay(broker.address, source, missing).start()
    with pytest.raises(FaultsError, match=f"source: there is no topic '{missing}' at .*: create it first"):
        Relay(broker.address, missing, source).start()
    with pytest.raises(FaultsError, match="client_settings: the client refuses its settings"):
        Relay(broker.address, missing, source, client_settings={"no.such": "x"}).start()


def test_start_says_that_there_is_no_broker():
    before = time.monotonic()
    with pytest.raises(FaultsError, match=r"bootstrap_servers: no Kafka broker answers at 127\.0\.0\.1:1 .*: start"):
        Relay("127.0.0.1:1", "a", "b").start()

    assert time.monotonic() - before < 10


def test_a_destination_with_too_few_partitions_is_refused():
    with (
        embedded_broker({"a": 3, "b": 2}) as address,
        pytest.raises(FaultsError, match=r"destination: 'b' has 2 partitions, 'a' has 3, .*: create it with 3"),
    ):
        Relay(address, "a", "b").start()


def test_stop_says_what_the_broker_did_not_take_and_ends_in_time():
    """The broker goes away in the middle."""
    with embedded_broker({"a": 1, "b": 1}) as address:
        relay = Relay(address, "a", "b", freeze=600.0, freeze_at=11).start()
        broker = Broker(address, {"api_version": API_VERSION}, real=False)
        broker.send("a", numbered("a", 20, partitions=(0,)))
        relay.wait_until_relayed(10)
        until(lambda: relay.injected.freeze == 1)
    before = time.monotonic()
    with pytest.raises(FaultsError, match=r"10 messages were not acknowledged within 3\.5 s of the stop"):
        relay.stop()

    assert time.monotonic() - before < 5
    assert (relay.running, relay.injected.relayed) == (False, 10)
    relay.stop()


def test_a_relay_runs_once(embedded):
    source, destination = embedded.topics()
    with Relay(embedded.address, source, destination) as relay:
        assert relay.running
        with pytest.raises(FaultsError, match="this relay was started already: make another"):
            relay.start()


def command(*arguments):
    return [sys.executable, "-m", "otel_pipeline.testing.faults", *arguments]


def test_the_command_prints_the_counts(broker):
    source, destination = broker.topics()
    broker.send(source, numbered(source, 5_000))
    topics = ["--bootstrap-servers", broker.address, "--source", source, "--destination", destination]
    faults = ["--drop", "0.01", "--duplicate", "0.01", "--reorder", "0.01", "--displacement", "1000", "--seed", "7"]
    with subprocess.Popen(command(*topics, *faults), stdout=subprocess.PIPE, text=True) as running:
        # Ctrl-C, once the first messages are there; what is held is written at the end.
        until(lambda: sum(map(len, broker.read(destination).values())) > 4_000)
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate(timeout=10)
    counts = json.loads(printed)
    found = broker.read(destination)

    assert (running.returncode, counts["relayed"]) == (0, 5_000)
    assert orders(destination, found) == {
        "missing_before_broker": counts["drop"] - counts["lost_head"] - counts["lost_tail"],
        "reordered": counts["reorder"],
        "duplicate": counts["duplicate"],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop", "much"], "--drop: 'much' is no share: give a number from 0 to 1, for example 0.01\n"),
        (["--freeze-at", "3"], "--freeze-at: goes together with freeze, which is not given\n"),
        (["--seconds", "0"], "--seconds: 0 is no time: give seconds, more than 0, for example 60\n"),
        (["--seed", "1.5"], "--seed: 1.5 is no seed: give a whole number\n"),
        (["--client-setting", "x"], "--client-setting: 'x' is no setting: write it as security.protocol=SSL\n"),
    ],
)
def test_the_command_names_the_wrong_option(arguments, message):
    topics = ["--bootstrap-servers", "nowhere:1", "--source", "a", "--destination", "b"]
    ended = subprocess.run(command(*topics, *arguments), capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", message)


def test_the_command_ends_by_itself(embedded):
    source, destination = embedded.topics()
    topics = ["--bootstrap-servers", embedded.address, "--source", source, "--destination", destination]
    ended = subprocess.run(command(*topics, "--seconds", "0.5"), capture_output=True, text=True, check=True)

    assert json.loads(ended.stdout)["relayed"] == 0


def until(true, seconds=20):
    """Wait for what happens in another thread or process."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_pages_example_runs(tmp_path):
    """As a user has it: a file of its own, and the plugin."""
    page = (Path(otel_pipeline.__file__).parents[1] / "docs" / "faults.md").read_text("utf-8")
    source = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "test_page.py").write_text(source)
    plugins = ["-p", "no:otel_pipeline", "-p", "otel_pipeline.testing.plugin", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "test_page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(otel_pipeline.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
