"""A pipeline that watches a real Kafka broker through kafka-python: topics, clients, and what the detectors found."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_pipeline.detectors.order import MISSING, OPEN, VIOLATIONS
from otel_pipeline.detectors.partition import HEADER_MISSING, HEADER_RELAYED, HEADER_UNREADABLE
from otel_pipeline.engine.pipeline_header import NAME, PER_PARTITION, decode, encode, tag_of
from tests.real.client_stuck import ClientStuckError

LOST_AFTER_S = 1.0
LOOK_S = 0.1
PATIENCE_S = 60.0
REBALANCE_S = 20.0


class Watched:
    """An instrumented process. A thread looks at all flows as the one of production does, ten times as often.

    Args:
        address: of the broker.
        pipeline: what `instrument()` returned.
    """

    def __init__(self, address, pipeline):
        self.address = address
        self.monitoring = pipeline._monitoring
        self.flows = self.monitoring.flows
        self._closing = []
        self._stop = threading.Event()
        self._failed = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        while not self._stop.wait(LOOK_S):
            try:
                self.flows.look()
            except Exception as error:
                self._failed.append(error)

    def close(self):
        self._stop.set()
        self._thread.join(10)
        for client in reversed(self._closing):
            client.close()
        assert self._failed == []

    def later(self, client):
        """Close it when the test ends."""
        self._closing.append(client)
        return client

    def topic(self, partitions=1, **configuration):
        """A topic of this test alone; underscores in the names of its configuration are dots."""
        from kafka.admin import KafkaAdminClient, NewTopic

        name = f"order-{uuid.uuid4().hex[:12]}"
        configs = {key.replace("_", "."): str(value) for key, value in configuration.items()}
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        finally:
            admin.close()
        return name

    def make_anew(self, topic):
        """Delete a topic, and make one of the same name, with another id, once the broker has none."""
        from kafka.admin import KafkaAdminClient, NewTopic
        from kafka.errors import TopicAlreadyExistsError

        admin, deadline = KafkaAdminClient(bootstrap_servers=self.address), time.monotonic() + PATIENCE_S
        try:
            admin.delete_topics([topic])
            while topic in admin.list_topics():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            # The controller may have it for a moment longer than the broker that was asked.
            while True:
                try:
                    admin.create_topics([NewTopic(topic, 1, 1)])
                    break
                except TopicAlreadyExistsError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
        finally:
            admin.close()

    def add_partitions(self, topic, count):
        """Let the topic have so many."""
        from kafka.admin import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.create_partitions({topic: count})
        finally:
            admin.close()

    def delete_before(self, topic, offset):
        """Delete the partition's records before the offset, as retention does."""
        from kafka import TopicPartition
        from kafka.admin import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.delete_records({TopicPartition(topic, 0): offset})
        finally:
            admin.close()

    def producer(self, **options):
        """The application's own."""
        from kafka import KafkaProducer

        return self.later(KafkaProducer(bootstrap_servers=self.address, **{"linger_ms": 5, **options}))

    def send(self, topic, count, *, partitions=(0,), producers=None, first=0, key=lambda _turn: None):
        """Send, and wait for every acknowledgement."""
        producers = producers or [self.producer()]
        waiting = [
            producers[turn // len(partitions) % len(producers)].send(
                topic, b"%d" % turn, key=key(turn), partition=partitions[turn % len(partitions)]
            )
            for turn in range(first, first + count)
        ]
        for future in waiting:
            future.get(30)
        return producers

    def send_as_many(self, topic, producers, count, chance, *, drop, duplicate, reorder):
        """Send as so many producers would, in turn, with harm in the middle of their numbers; returns what was done."""
        from confluent_kafka import cimpl

        client = cimpl.Producer({"bootstrap.servers": self.address, "log_level": 0})
        tag, done, waiting = tag_of(topic, 0), Counter(), {}
        for number in range(1, count + 1):
            for producer in range(1, producers + 1):
                harm = chance.random() if 1 < number < count else 1.0
                numbers = [number]
                if harm < drop:
                    done["before_broker"] += 1
                    numbers = []
                elif harm < drop + duplicate:
                    done["duplicate"] += 1
                    numbers = [number, number]
                elif harm < drop + duplicate + reorder and producer not in waiting and number < count - 1:
                    waiting[producer] = number
                    continue
                if producer in waiting and numbers:
                    done["reordered"] += 1
                    numbers.append(waiting.pop(producer))
                for each in numbers:
                    with suppress_instrumentation():  # As another process: its numbers stay.
                        client.produce(topic, b"", partition=0, headers=[(NAME, _header(producer, each, tag))])
                    done["written"] += 1
            client.poll(0)
        assert client.flush(30) == 0
        return done

    def send_in_transactions(self, topic, transactions):
        """Send messages that have these numbers of a producer, a list for each transaction that is committed."""
        from confluent_kafka import cimpl

        client = cimpl.Producer({"bootstrap.servers": self.address, "log_level": 0, "transactional.id": f"{topic}-raw"})
        client.init_transactions()
        for numbers in transactions:
            client.begin_transaction()
            for number in numbers:
                with suppress_instrumentation():
                    client.produce(topic, b"", partition=0, headers=[(NAME, _header(1, number, tag_of(topic, 0)))])
            client.commit_transaction()

    def consumer(self, *topics, group=None, partitions=1, subscribe=False, **options):
        """A consumer from the beginning on; it has its partitions at once unless it is to join its group."""
        from kafka import KafkaConsumer, TopicPartition

        made = KafkaConsumer(
            bootstrap_servers=self.address,
            **{
                "group_id": group or f"group-{uuid.uuid4().hex[:12]}",
                "auto_offset_reset": "earliest",
                "enable_auto_commit": False,
                "consumer_timeout_ms": 200,
                **options,
            },
        )
        if subscribe:
            made.subscribe(list(topics))
        else:
            made.assign([TopicPartition(topic, partition) for topic in topics for partition in range(partitions)])
        return self.later(made)

    def read(self, consumer, by, enough):
        """What comes, by `for` or by `poll(max_records=500)`, until it is enough: a number, or a condition."""
        records = []
        deadline = time.monotonic() + PATIENCE_S
        while not (enough() if callable(enough) else len(records) >= enough):
            assert time.monotonic() < deadline, f"{len(records)} messages came"
            if by == "iterator":
                records += list(consumer)
            else:
                for batch in consumer.poll(200, max_records=500).values():
                    records += batch
        return records

    def read_until_assigned(self, consumer, by, topic, count):
        """What comes until the consumer has so many partitions of the topic, and knows its position in each."""
        until_s = time.monotonic() + REBALANCE_S

        def enough():
            found = self.assigned(consumer, topic)
            if found != count and time.monotonic() > until_s:
                raise ClientStuckError(f"{found} of {count} partitions after {REBALANCE_S:.0f} s")
            return found == count

        return self.read(consumer, by, enough)

    def read_and_settle(self, consumer, by, count, topic, group=None):
        """So many messages, and then until the end of the log was looked at for long enough to judge all gaps."""
        records = self.read(consumer, by, count)
        return records + self.read(consumer, by, self.seen_to_the_end(topic, group))

    def seen_to_the_end(self, topic, group=None, *, gaps_stay=False):
        """A condition: no gap is open, and the end of the log was looked at for longer than one may stay open."""
        since_s = time.monotonic()

        def seen():
            if time.monotonic() - since_s < LOST_AFTER_S + 3 * LOOK_S:
                return False
            evidence = self.evidence(topic, group)
            return evidence.pace.lag == 0 and (gaps_stay or not evidence.counts[OPEN])

        return seen

    @staticmethod
    def passed(consumer, topic):
        """A condition: the consumer's position is the end of the log as it is now, commit markers included."""
        from kafka import TopicPartition

        partition = TopicPartition(topic, 0)
        end = consumer.end_offsets([partition])[partition]
        return lambda: consumer.position(partition) >= end

    @staticmethod
    def assigned(consumer, topic):
        """How many partitions the consumer has, and knows its position in."""
        states = consumer._subscription.assignment.items()
        return sum(partition.topic == topic and state.position is not None for partition, state in list(states))

    @staticmethod
    def position(consumer, topic):
        """Where the consumer stands, without asking the broker; None while that is not known."""
        from kafka import TopicPartition

        found = consumer._subscription.assignment[TopicPartition(topic, 0)].position
        return None if found is None else found.offset

    def evidence(self, topic, group=None):
        """Of the one flow of the topic, or of the topic and the group."""
        found = [
            each
            for each in self.monitoring.evidence()
            if each.key.destination == topic and group in {None, each.key.group}
        ]
        assert len(found) == 1, [each.key for each in found]
        return found[0]

    def found(self, topic, group=None):
        """All that the detectors count of the order, without zeros."""
        if topic is None:
            return [(each.key, each.counts) for each in self.monitoring.evidence()]
        evidence = self.evidence(topic, group)
        counts = {
            **{
                kind: count
                for measure in (VIOLATIONS, MISSING)
                for (kind,), count in evidence.counts.of(measure).items()
            },
            "open": evidence.counts[OPEN],
            "relayed": evidence.counts[HEADER_RELAYED],
            "unreadable": evidence.counts[HEADER_UNREADABLE],
            "no_header": evidence.counts[HEADER_MISSING],
        }
        return {name: count for name, count in counts.items() if count}

    def newest(self, topic):
        """The newest number of each (partition, producer) that the consumers of the topic have seen."""
        (flow,) = [each for each in self.flows.every() if each.key.destination == topic and each.watched]
        return flow.numbers()

    @staticmethod
    def numbers_of(records):
        """(partition, offset, producer, number, tag) of each record, by its header alone."""
        read = [(record, decode(dict(record.headers)[NAME])) for record in records]
        return [(each.partition, each.offset, head.producer_id, head.sequence, head.tag) for each, head in read]

    @classmethod
    def truth(cls, records):
        """By the numbers alone, each producer in each partition, as RFC 4737 and RFC 5560 count them.

        reordered: below the next expected one, when it comes for the first time; duplicate: has come already; missing:
        between the first and the highest that came, and never came. What is below the first counts as nothing.
        """
        seen, highest, lowest = {}, {}, {}
        counts = Counter()
        for partition, _, producer, number, _ in cls.numbers_of(records):
            stream = partition, producer
            numbers = seen.setdefault(stream, set())
            if number < lowest.setdefault(stream, number):
                continue
            if number in numbers:
                counts["duplicate"] += 1
            elif number < highest.get(stream, 0):
                counts["reordered"] += 1
            numbers.add(number)
            highest[stream] = max(highest.get(stream, 0), number)
        for stream, numbers in seen.items():
            counts["before_broker"] += highest[stream] - lowest[stream] + 1 - len(numbers)
        return {name: count for name, count in counts.items() if count}


def _header(producer, number, tag):
    said = {"hops": 1, "origin_ms": 1_795_435_200_000, "newest_ms": 0, "path": 1, "environment": "test"}
    return encode(flags=PER_PARTITION, producer_id=producer, sequence=number, tag=tag, **said)


@pytest.fixture
def watched(telemetry, real_broker, tmp_path):
    """Everything is watched; spans are not recorded, of which these tests would make a hundred thousand."""
    pytest.importorskip("confluent_kafka")
    telemetry.sample(ALWAYS_OFF)
    configuration = tmp_path / "otel_pipeline.yaml"
    configuration.write_text(f"health: {{lost_after: {LOST_AFTER_S:g}s}}\n")
    found = Watched(real_broker.bootstrap, telemetry.instrument(config_file=configuration))
    yield found
    found.close()
