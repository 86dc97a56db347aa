"""Order and loss on a real broker, through the real client: what is found is what was injected, and nothing else.

The rules' numbers are those of docs/design/order.md.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections import Counter

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_pipeline.detectors.order import TURNED_AWAY
from otel_pipeline.testing.faults import Relay
from tests.real.client_stuck import ClientStuckError

pytestmark = [pytest.mark.real, pytest.mark.broker, pytest.mark.once]
MESSAGES = 12_000
LOST_AFTER_S = 1.0
"""As the fixture configures it."""
WAYS = ("iterator", "poll")


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"drop": 0.01}, {"before_broker": 109}),
        ({"duplicate": 0.01}, {"duplicate": 123}),
        ({"reorder": 0.01, "displacement": 1_000}, {"reordered": 124}),
        (
            {"drop": 0.01, "duplicate": 0.01, "reorder": 0.01, "displacement": 1_000},
            {"before_broker": 109, "duplicate": 123, "reordered": 124},
        ),
    ],
    ids="+".join,
)
def test_what_was_injected_is_found(watched, faults, expected):
    """Losses, copies and late messages, each alone and together, by both ways of reading.

    What the relay counts, what an independent reader recomputes from the numbers that came, and what the detectors
    find are the same. A loss before a producer's first message or behind its last one would leave no gap.
    """
    source, destination = watched.topic(2), watched.topic(2)
    watched.send(source, MESSAGES, partitions=(0, 1))
    with Relay(watched.address, source, destination, seed=7, **faults) as relay:
        injected = relay.wait_until_relayed(MESSAGES)
    counted = {
        "before_broker": injected.drop - injected.lost_head - injected.lost_tail,
        "duplicate": injected.duplicate,
        "reordered": injected.reorder,
    }
    assert {name: count for name, count in counted.items() if count} == expected

    for by in WAYS:
        group = f"{destination}-{by}"
        consumer = watched.consumer(destination, group=group, partitions=2)
        records = watched.read_and_settle(consumer, by, injected.written, destination, group)

        assert (len(records), watched.truth(records)) == (injected.written, expected)
        assert watched.found(destination, group) == expected


@pytest.mark.parametrize("by", WAYS)
def test_faults_while_the_consumer_is_reading(watched, by):
    """The same with a consumer that is at the end of the log all the time: held messages are late, and not lost."""
    source, destination = watched.topic(2), watched.topic(2)
    consumer = watched.consumer(destination, partitions=2)
    faults = {"drop": 0.01, "duplicate": 0.01, "reorder": 0.01, "displacement": 500}
    with Relay(watched.address, source, destination, seed=11, **faults) as relay:
        sending = threading.Thread(target=watched.send, args=(source, MESSAGES), kwargs={"partitions": (0, 1)})
        sending.start()
        first = watched.read(consumer, by, MESSAGES // 2)
        sending.join(30)
        injected = relay.wait_until_relayed(MESSAGES)
    records = first + watched.read_and_settle(consumer, by, injected.written - len(first), destination)

    expected = {"before_broker": 128, "duplicate": 118, "reordered": 116}
    assert (injected.drop, injected.duplicate, injected.reorder) == tuple(expected.values())
    assert (len(records), watched.truth(records)) == (injected.written, expected)
    assert watched.found(destination) == expected


@pytest.mark.parametrize("by", WAYS)
def test_a_burst_is_found_and_a_tail_only_by_the_numbers_that_were_given(watched, by):
    """2,000 messages in a row, twice the window; and the last 100, behind which nothing comes."""
    source, destination = watched.topic(), watched.topic()
    with Relay(watched.address, source, destination) as relay:
        relay.drop_range(2_000, 3_999)
        relay.drop_range(5_900)
        watched.send(source, 6_000)
        injected = relay.wait_until_relayed(6_000)
    assert (injected.drop, injected.lost_tail) == (2_100, 100)

    consumer = watched.consumer(destination)
    records = watched.read_and_settle(consumer, by, 3_900, destination)
    watched.read(watched.consumer(source), by, 6_000)

    assert watched.truth(records) == {"before_broker": 2_000}
    assert watched.found(destination) == {"before_broker": 2_000}
    assert watched.found(source) == {}
    assert list(watched.newest(source).values()) == [6_000]
    assert watched.newest(destination) == dict.fromkeys(watched.newest(source), 5_900)


@pytest.mark.parametrize("by", WAYS)
def test_two_producers_on_one_partition(watched, by):
    """Each has numbers of its own."""
    source, destination = watched.topic(), watched.topic()
    watched.send(source, MESSAGES, producers=[watched.producer(), watched.producer()])
    faults = {"drop": 0.01, "duplicate": 0.01, "reorder": 0.01, "displacement": 1_000}
    with Relay(watched.address, source, destination, seed=5, **faults) as relay:
        injected = relay.wait_until_relayed(MESSAGES)
    consumer = watched.consumer(destination)
    records = watched.read_and_settle(consumer, by, injected.written, destination)

    truth = watched.truth(records)
    assert watched.found(destination) == truth
    # Which of the two sent first is the network's choice, and with it which message has nothing that passes it.
    assert truth["duplicate"] == injected.duplicate
    assert truth["before_broker"] == injected.drop - injected.lost_head - injected.lost_tail
    assert truth["reordered"] == injected.reorder
    assert min(truth.values()) > 100


@pytest.mark.parametrize("by", WAYS)
def test_a_thousand_producers_on_one_partition(watched, by):
    """Each is compared with itself alone, and none is forgotten for another one."""
    topic, chance = watched.topic(), random.Random(9)
    injected = watched.send_as_many(topic, 1_000, 12, chance, drop=0.01, duplicate=0.01, reorder=0.01)
    records = watched.read_and_settle(watched.consumer(topic), by, injected.pop("written"), topic)

    assert watched.found(topic) == watched.truth(records) == injected
    assert min(injected.values()) > 80
    assert watched.evidence(topic).counts[TURNED_AWAY] == 0


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("noticed", [True, False])
def test_a_topic_that_is_made_anew(watched, by, noticed):
    """Under a consumer that goes on: its losses are losses, and what has the old offsets is not read again.

    Where the client has not noticed when messages come, it begins behind some of them, and these were skipped.
    """
    topic = watched.topic()
    watched.send(topic, 500)
    consumer = watched.consumer(topic, metadata_max_age_ms=500)
    watched.read(consumer, by, 500)
    watched.make_anew(topic)
    if noticed:
        watched.read(consumer, by, lambda: watched.position(consumer, topic) == 0)
    injected = watched.send_as_many(topic, 2, 150, random.Random(3), drop=0.05, duplicate=0, reorder=0)
    written = injected.pop("written")
    assert 250 < written < 300

    records = watched.read(consumer, by, lambda: watched.position(consumer, topic) == written)
    records += watched.read(consumer, by, watched.seen_to_the_end(topic))
    skipped = written - len(records)
    assert watched.found(topic) == watched.truth(records) | ({"skipped": skipped} if skipped else {})
    assert not noticed or (skipped, watched.truth(records)) == (0, injected)


@pytest.mark.parametrize("by", WAYS)
def test_four_threads_send_to_one_partition(watched, by):
    """Nothing is lost, so nothing is found."""
    topic, producer = watched.topic(), watched.producer()
    threads = [
        threading.Thread(target=watched.send, args=(topic, 3_000), kwargs={"producers": [producer]}) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    records = watched.read_and_settle(watched.consumer(topic), by, 12_000, topic)

    assert (len(records), watched.found(topic)) == (12_000, {})
    assert list(watched.newest(topic).values()) == [12_000]


@pytest.mark.parametrize("by", WAYS)
def test_a_producer_that_restarts(watched, by):
    """Its numbers begin anew, under another id; a gap of the first stays one."""
    source, destination = watched.topic(), watched.topic()
    with Relay(watched.address, source, destination) as relay:
        relay.drop_range(500, 509)
        for start in range(3):
            (producer,) = watched.send(source, 1_000, first=1_000 * start)
            producer.close()
        relay.wait_until_relayed(3_000)
    watched.read_and_settle(watched.consumer(destination), by, 2_990, destination)

    assert watched.found(destination) == {"before_broker": 10}
    assert list(watched.newest(destination).values()) == [1_000, 1_000, 1_000]


SEEKS = (
    ("read", 700),
    (200, 300),
    (650, 400),
    (2_000, 500),
    ("beginning", 1_200),
    (2_499, 101),
    ("end", 0),
    (1_000, 2_000),
)


def test_rule_1_seeks_are_rewound_and_nothing_is_lost(watched):
    """Backwards, ahead, to the beginning and to the end, over 3,000 messages of which 10 are late."""
    from kafka import TopicPartition

    source, topic = watched.topic(), watched.topic()
    watched.send(source, 3_000)
    with Relay(watched.address, source, topic, seed=2, reorder=0.004, displacement=1_000) as relay:
        injected = relay.wait_until_relayed(3_000)
    consumer, partition = watched.consumer(topic, consumer_timeout_ms=10_000), TopicPartition(topic, 0)
    highest, again, runs = -1, 0, []
    for where, count in SEEKS:
        if where == "beginning":
            consumer.seek_to_beginning(partition)
        elif where == "end":
            consumer.seek_to_end(partition)
        elif where != "read":
            consumer.seek(partition, where)
        for record in itertools.islice(consumer, count):
            if record.offset <= highest:
                again += 1
                continue
            if record.offset != highest + 1 or not runs:
                runs.append([])
            runs[-1].append(record)
            highest = record.offset
    watched.read(consumer, "poll", watched.seen_to_the_end(topic))

    reordered = sum(watched.truth(run).get("reordered", 0) for run in runs)
    assert (injected.reorder, len(runs), again, reordered) == (11, 2, 3_151, 7)
    assert watched.found(topic) == {"rewound": 3_151, "reordered": 7}


def test_rule_1_a_gap_before_a_seek_ahead_is_no_loss(watched):
    """What would have closed it was passed over, as the application wished."""
    from kafka import TopicPartition

    source, topic = watched.topic(), watched.topic()
    watched.send(source, 3_000)
    with Relay(watched.address, source, topic, seed=2, reorder=0.1, displacement=1_000) as relay:
        relay.wait_until_relayed(3_000)
    consumer = watched.consumer(topic, consumer_timeout_ms=10_000)
    for _ in range(1_000):
        next(consumer)
    assert watched.found(topic)["open"] > 20
    consumer.seek_to_end(TopicPartition(topic, 0))
    watched.read(consumer, "poll", watched.seen_to_the_end(topic, gaps_stay=True))
    watched.send(topic, 10)
    watched.read_and_settle(consumer, "poll", 10, topic)

    found = watched.found(topic)
    assert (found.pop("reordered") > 0, found) == (True, {})


@pytest.mark.parametrize("by", WAYS)
def test_rule_2_joining_in_the_middle(watched, by):
    """Numbers below the first that is seen are never missing, and are late for nobody."""
    from kafka import TopicPartition

    source, destination = watched.topic(), watched.topic()
    watched.send(source, 10_000)
    with Relay(watched.address, source, destination, seed=3, reorder=0.05, drop=0.01, displacement=1_000) as relay:
        injected = relay.wait_until_relayed(10_000)
    consumer = watched.consumer(destination)
    consumer.seek(TopicPartition(destination, 0), 5_000)
    records = watched.read_and_settle(consumer, by, injected.written - 5_000, destination)

    assert records[0].offset == 5_000
    assert watched.found(destination) == watched.truth(records) == {"before_broker": 53, "reordered": 244}


@pytest.mark.parametrize("by", WAYS)
def test_rule_3_compaction(watched, by):
    """Two producers in turn; what the broker has thrown away was not lost, and the log's offsets tell."""
    topic = watched.topic(cleanup_policy="compact", segment_ms=1_000, min_cleanable_dirty_ratio=0.01)
    chance = random.Random(4)
    producers = [watched.producer(), watched.producer()]

    def send(count):
        watched.send(topic, count, producers=producers, key=lambda _: b"%d" % chance.randrange(200))

    send(3_000)
    deadline = time.monotonic() + 40
    while True:
        # A segment is closed by a message that comes more than a second later.
        time.sleep(1.1)
        send(2)
        reader = watched.consumer(topic, group="unwatched", client_id="unwatched")
        left = len(watched.read(reader, "poll", watched.passed(reader, topic)))
        reader.close()
        if left < 1_500:
            break
        assert time.monotonic() < deadline, f"{left} messages are left"
    send(1_000)
    consumer = watched.consumer(topic)
    group = consumer.config["group_id"]
    records = watched.read(consumer, by, watched.passed(consumer, topic))
    records += watched.read(consumer, by, watched.seen_to_the_end(topic, group))

    assert 400 < len(records) < 2_800
    assert watched.found(topic, group) == {}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_rule_4_aborted_transactions(watched, isolation, by):
    """Every third transaction is aborted, before or after its messages reached the broker; 3,000 messages in all."""
    topic = watched.topic()
    producer = watched.producer(transactional_id=f"{topic}-id")
    producer.init_transactions()
    committed = flushed = 0
    for turn in range(30):
        producer.begin_transaction()
        for each in range(100):
            producer.send(topic, b"%d" % each, partition=0)
        if turn % 3 != 1:
            producer.commit_transaction()
            committed += 100
            continue
        if turn % 2:
            producer.flush()
            flushed += 100
        producer.abort_transaction()
    consumer = watched.consumer(topic, isolation_level=isolation)
    records = watched.read(consumer, by, watched.passed(consumer, topic))
    records += watched.read(consumer, by, watched.seen_to_the_end(topic))

    assert (committed, flushed) == (2_000, 500)
    if isolation == "read_committed":
        assert len(records) == committed
    else:
        assert len(records) >= committed + flushed
    assert watched.found(topic) == {}
    assert (watched.evidence(topic).pace.lag, watched.evidence(topic).pace.time_lag_s[0]) == (0, 0.0)


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_rule_3_commit_markers_excuse_nothing(watched, isolation, by):
    """Each has an offset. A hundred transactions, and of each tenth the first message is lost: right behind a marker."""
    topic = watched.topic()
    sent = [[10 * turn + each for each in range(1, 11) if turn % 10 != 5 or each > 1] for turn in range(100)]
    watched.send_in_transactions(topic, sent)
    consumer = watched.consumer(topic, isolation_level=isolation)
    records = watched.read_and_settle(consumer, by, 990, topic)

    assert (len(records), records[-1].offset) == (990, 1_088)
    assert watched.found(topic) == {"before_broker": 10}


@pytest.mark.parametrize("partitions", [1, 4])
def test_rule_5_a_plain_relay_is_not_judged(watched, partitions):
    """It copies headers as they are, to another number of partitions, and leaves some messages out."""
    from confluent_kafka import cimpl

    source, destination = watched.topic(3), watched.topic(partitions)
    watched.send(source, 3_000, partitions=(0, 1, 2))
    copied = watched.read(watched.consumer(source, partitions=3), "poll", 3_000)
    client = cimpl.Producer({"bootstrap.servers": watched.address, "log_level": 0})
    sent = 0
    for record in copied:
        if record.offset % 3:
            with suppress_instrumentation():  # As another process.
                client.produce(destination, record.value, headers=record.headers, partition=record.offset % partitions)
            sent += 1
            client.poll(0)
    assert client.flush(30) == 0
    consumer = watched.consumer(destination, partitions=partitions)
    watched.read_and_settle(consumer, "poll", sent, destination)

    assert watched.found(source) == {}
    assert watched.found(destination) == {"relayed": sent}


@pytest.mark.parametrize(("by", "commits"), [("iterator", True), ("poll", False)])
def test_rule_6_members_come_and_go(watched, by, commits):  # noqa: C901 - two members and a producer
    """A second member joins and leaves again and again while 10,000 messages flow: nothing is lost or doubled."""
    topic, group = watched.topic(3), f"group-{uuid.uuid4().hex}"
    options = {"subscribe": True, "group": group, "enable_auto_commit": commits, "auto_commit_interval_ms": 100}
    # A member that left while others joined is waited for, until its session ends: 45 s without this.
    options |= {"heartbeat_interval_ms": 100, "session_timeout_ms": 6_000}
    stop, got, failed, moves = threading.Event(), Counter(), [], []

    def member(turns):
        """One that stays, or that comes six times and leaves when it has had some messages.

        Not for ever: without commits whoever gets a partition begins it anew, and nobody would come to an end.
        """
        try:
            for _ in range(6 if turns else 1):
                consumer = watched.consumer(topic, **options)
                moves.append(turns)
                mine = 0
                while not stop.is_set() and (turns is None or mine < turns):
                    for record in _some(consumer, by):
                        got[record.partition, record.offset] += 1
                        mine += 1
                consumer.close()
        except Exception as error:
            failed.append(error)

    members = [threading.Thread(target=member, args=(turns,)) for turns in (None, 300)]
    for each in members:
        each.start()
    producer = watched.producer()
    sent, deadline = 0, time.monotonic() + 60
    while not failed and time.monotonic() < deadline and (sent < 10_000 or len(moves) < 5):
        watched.send(topic, 100, partitions=(0, 1, 2), producers=[producer], first=sent)
        sent += 100
        stop.wait(0.08)
    while len(got) < sent and time.monotonic() < deadline and not failed:
        stop.wait(0.1)
    stop.wait(2 * LOST_AFTER_S)  # A gap would be given up by then.
    stop.set()
    for each in members:
        each.join(30)

    assert failed == []
    if len(got) < sent or len(moves) < 5:
        pytest.skip(
            f"the client's group did not come to rest: {len(got)} of {sent} messages, {len(moves)} joins in 60 s"
        )
    assert watched.found(topic, group) == {}


def _some(consumer, by, at_most=500):
    if by == "iterator":
        return itertools.islice(consumer, at_most)
    return [record for batch in consumer.poll(100, max_records=at_most).values() for record in batch]


@pytest.mark.parametrize("by", WAYS)
def test_rule_7_a_slow_topic(watched, by):
    """A message each 20 ms, of which 20 are lost: each is found when its gap is `lost_after` old, and not before."""
    source, destination = watched.topic(), watched.topic()
    lost = range(10, 210, 10)
    gaps, stop = [], threading.Event()
    consumer = watched.consumer(destination, consumer_timeout_ms=50)
    producer = watched.producer(linger_ms=0)

    def send():
        for turn in range(500):
            producer.send(source, b"%d" % turn, partition=0)
            stop.wait(0.02)

    newest, looks = -1, []
    with Relay(watched.address, source, destination) as relay:
        for offset in lost:
            relay.drop_range(offset, offset)
        sending = threading.Thread(target=send)
        sending.start()
        # Until the last gap is found, which is when messages still come.
        while not looks or looks[-1][1] < len(lost):
            for record in _some(consumer, by, 20):
                turn = int(record.value)
                gaps += [time.monotonic()] * (turn - newest - 1)
                newest = turn
            if gaps:
                looks.append((time.monotonic(), watched.found(destination).get("before_broker", 0)))
            assert sending.is_alive(), looks[-1]
        stop.set()
        sending.join(30)

    assert len(gaps) == len(lost)
    for now_s, found in looks:
        old, young = (sum(now_s - seen_s >= age_s for seen_s in gaps) for age_s in (LOST_AFTER_S, 3 * LOST_AFTER_S))
        assert young <= found <= old
    assert watched.found(destination) == {"before_broker": len(lost)}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(
    ("reset", "expected"),
    [("earliest", {"expired": 400}), ("latest", {"offset_reset": 700})],
    ids=["earliest", "latest"],
)
def test_rule_8_retention_while_the_consumer_is_down(watched, reset, expected, by):
    """300 of 1,000 messages are committed; 700 are deleted."""
    topic = watched.topic()
    group = f"group-of-{topic}"
    watched.send(topic, 1_000)
    consumer = watched.consumer(topic, group=group, consumer_timeout_ms=10_000)
    for _ in range(300):
        next(consumer)
    consumer.commit()
    consumer.close()
    watched.delete_before(topic, 700)

    consumer = watched.consumer(topic, group=group, auto_offset_reset=reset)
    if reset == "latest":
        watched.read(consumer, by, watched.passed(consumer, topic))
        watched.send(topic, 10)
    records = watched.read_and_settle(consumer, by, 300 if reset == "earliest" else 10, topic)

    assert records[0].offset == (700 if reset == "earliest" else 1_000)
    assert watched.found(topic) == expected


@pytest.mark.parametrize("by", WAYS)
def test_rule_8_retention_overtakes_a_slow_consumer(watched, by):
    """It has what it had fetched; then it is told that its position is gone."""
    topic = watched.topic()
    watched.send(topic, 3_000)
    consumer = watched.consumer(topic, max_partition_fetch_bytes=10_000, max_poll_records=50)
    records = list(_some(consumer, by, 50))
    watched.delete_before(topic, 2_500)
    records += watched.read(consumer, by, watched.passed(consumer, topic))
    watched.read(consumer, by, watched.seen_to_the_end(topic))

    offsets = [record.offset for record in records]
    fetched = offsets.index(2_500)
    assert offsets == [*range(fetched), *range(2_500, 3_000)]
    assert watched.found(topic) == {"expired": 2_500 - fetched}


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("reset", ["earliest", "latest"])
def test_rule_8_partitions_that_are_added(watched, reset, by):
    """Messages come to them before the consumer knows of them: with `latest` these are skipped, and nothing else is."""
    for _ in range(4):
        try:
            topic, read = _partitions_are_added(watched, reset, by)
            break
        except ClientStuckError as error:
            stuck = error
    else:
        raise stuck

    skipped = 430 - read
    assert watched.found(topic) == ({"skipped": skipped} if skipped else {})
    assert skipped == 0 if reset == "earliest" else 0 < skipped <= 200


def _partitions_are_added(watched, reset, by):
    topic = watched.topic()
    consumer = watched.consumer(topic, subscribe=True, auto_offset_reset=reset, metadata_max_age_ms=1_000)
    watched.read_until_assigned(consumer, by, topic, 1)
    producers = watched.send(topic, 100)
    records = watched.read(consumer, by, 100)
    for producer in producers:
        producer.close()

    watched.add_partitions(topic, 3)
    watched.send(topic, 300, partitions=(0, 1, 2))
    records += watched.read_until_assigned(consumer, by, topic, 3)
    watched.send(topic, 30, partitions=(0, 1, 2))
    records += watched.read(consumer, by, watched.seen_to_the_end(topic))
    return topic, len(records)


@pytest.mark.parametrize("by", WAYS)
def test_rule_9_refused_sends(watched, by):
    """6 are refused by the broker, 3 by the client, which gives no number; the application sends all 9 once more."""
    from kafka.errors import KafkaError

    topic = watched.topic(max_message_bytes=10_000)
    # An idempotent producer of this client refuses everything after the first refusal by the broker.
    producer = watched.producer(max_request_size=50_000, linger_ms=0, enable_idempotence=False)
    for turn in range(600):
        size = 20_000 if turn % 100 == 50 else 60_000 if turn % 200 == 75 else 10
        try:
            producer.send(topic, b"x" * size, partition=0).get(30)
        except KafkaError:
            producer.send(topic, b"y", partition=0).get(30)
    records = watched.read_and_settle(watched.consumer(topic), by, 600, topic)

    assert (len(records), sum(record.value == b"y" for record in records)) == (600, 9)
    assert watched.found(topic) == watched.truth(records) == {"before_broker": 6}
    assert watched.evidence(topic).refused_sends == {"kafka.errors.MessageSizeTooLargeError": 9}


@pytest.mark.parametrize("idempotent", [True, False])
def test_rule_9_a_batch_that_is_too_large_is_split(watched, idempotent):
    """The client splits it and sends its messages once more, with the numbers that they had."""
    topic = watched.topic(max_message_bytes=10_000)
    producer = watched.producer(linger_ms=200, batch_size=30_000, enable_idempotence=idempotent)
    waiting = [producer.send(topic, b"x" * 3_000, partition=0) for _ in range(200)]
    for future in waiting:
        future.get(30)
    records = watched.read_and_settle(watched.consumer(topic), "poll", 200, topic)

    found = watched.found(topic)
    assert (len(records), found) == (200, watched.truth(records))
    # Without idempotence the parts come behind batches that were on their way already.
    assert set(found) == (set() if idempotent else {"reordered"})


@pytest.mark.parametrize("by", WAYS)
def test_the_lag_interval_contains_the_truth(watched, by):
    """A consumer that is slower than its producer, and that stalls for 3 s: in every one of hundreds of checks."""
    topic = watched.topic()
    sent_s, acknowledged_s, checks, stop = {}, {}, [], threading.Event()
    producer = watched.producer(linger_ms=0)

    def check():
        while not stop.wait(0.01):
            for live in (
                live for flow in watched.flows.every() for live in itertools.chain(*flow.pace.live().values())
            ):
                now_s, position = time.monotonic(), live.position.offset
                if position is not None and (lag := live.pace.time_lag(position, now_s)) is not None:
                    checks.append((now_s, position, *lag))

    consumer = watched.consumer(topic, max_poll_records=20, consumer_timeout_ms=50)
    threads = [
        threading.Thread(target=_send_at_random, args=(producer, topic, stop, sent_s, acknowledged_s)),
        threading.Thread(target=check),
    ]
    for each in threads:
        each.start()
    end_s = time.monotonic() + 9
    handled = 0
    while time.monotonic() < end_s:
        for _ in _some(consumer, by, 20):
            handled += 1
            # The work, and once it hangs.
            time.sleep(3.0 if handled == 300 else 0.012)
    stop.set()
    for each in threads:
        each.join(10)
    producer.flush()

    assert len(checks) > 500
    assert _outside(checks, sent_s, acknowledged_s) == []
    assert max(lower for _, _, lower, _ in checks) > 2


def _send_at_random(producer, topic, stop, sent_s, acknowledged_s):
    chance = random.Random(6)
    while not stop.is_set():
        sent_s[len(sent_s)] = time.monotonic()
        future = producer.send(topic, b"", partition=0)
        future.add_callback(lambda answer: acknowledged_s.__setitem__(answer.offset, time.monotonic()))
        stop.wait(0.7 if len(sent_s) % 500 == 0 else chance.choice((0.001, 0.004, 0.01, 0.02)))


def _outside(checks, sent_s, acknowledged_s):
    """A message was appended between its sending and its acknowledgement; one that was not sent yet has no age."""
    return [
        (position, lower, upper)
        for now_s, position, lower, upper in checks
        if not lower <= max(0.0, now_s - sent_s.get(position, now_s))
        or not upper >= max(0.0, now_s - acknowledged_s.get(position, now_s))
    ]
