"""Numbers without a partition's lock: a thread after the other under one id, and what is still queued is known."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.pipeline_header import NAME
from otel_pipeline.engine.thread_sequence import ThreadSequences
from tests.limits import below_at_above

PLAIN = pipeline_header.encode(
    flags=0,
    hops=1,
    environment="staging",
    origin_ms=1_700_000_000_000,
    newest_ms=0,
    path=0xA1A2A3A4A5A6,
    producer_id=0,
    sequence=0,
    tag=0,
)


@pytest.fixture
def sequences():
    return ThreadSequences(Guard())


def send(sequences, destination="orders", partition=None, *, taken=True):
    """Number a message and hand it over; returns what stands in its header."""
    headers = [("tenant", b"7"), (NAME, PLAIN)]
    given = sequences.stamp(headers, destination, partition)
    sequences.settle(given, taken=taken)
    return pipeline_header.decode(headers[1][1])


def test_numbers_count_up_by_destination():
    """Over all partitions of one, each for itself; the tag says of what, and the rest of the header is as it was."""
    sequences = ThreadSequences(Guard())
    found = [send(sequences, topic) for topic in ("orders", "orders", "events", "orders")]

    assert [each.sequence for each in found] == [1, 2, 1, 3]
    assert [each.tag for each in found] == [
        pipeline_header.tag_of(topic, None) for topic in ("orders", "orders", "events", "orders")
    ]
    assert len({each.producer_id for each in found} - {0}) == 1
    plain = pipeline_header.decode(PLAIN)
    assert {each._replace(producer_id=0, sequence=0, tag=0) for each in found} == {plain}


def test_a_named_partition_has_numbers_of_its_own(sequences):
    """They are as good as any that are given under its lock, and say so."""
    found = [send(sequences, "orders", partition) for partition in (None, 0, 1, 0, None)]

    assert [(each.sequence, each.flags & pipeline_header.PER_PARTITION > 0) for each in found] == [
        (1, False),
        (1, True),
        (1, True),
        (2, True),
        (2, False),
    ]
    assert [each.tag for each in found] == [
        pipeline_header.tag_of("orders", partition) for partition in (None, 0, 1, 0, None)
    ]


def test_a_refused_message_gives_its_number_back(sequences):
    """The client raised: nothing of it is missing."""
    found = [send(sequences), send(sequences, taken=False), send(sequences)]

    assert [each.sequence for each in found] == [1, 2, 2]
    assert sequences.queued() == {"orders": 2}


def test_threads_at_the_same_time_have_ids_of_their_own(sequences):
    """And each its own numbers, one by one."""
    together, found = threading.Barrier(4), {}

    def work(at):
        together.wait(10)
        found[at] = [send(sequences) for _ in range(100)]
        together.wait(10)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [[each.sequence for each in found[at]] for at in range(4)] == [[*range(1, 101)]] * 4
    assert len({each.producer_id for sent in found.values() for each in sent}) == 4


def test_threads_one_after_the_other_go_on_with_one_id(sequences):
    """A pool that comes and goes does not eat the producers that a consumer can remember."""
    found = []
    for _ in range(200):
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(send, sequences).result())
        gc.collect(0)

    assert len({each.producer_id for each in found}) == 1
    assert [each.sequence for each in found] == [*range(1, 201)]


def test_given_is_answered_or_still_queued(sequences):
    """Conservation, whichever threads send and are told."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: send(sequences), range(100)))
        before = sequences.queued()
        list(pool.map(lambda _: sequences.answered("orders"), range(97)))

    assert (before, sequences.queued()) == ({"orders": 100}, {"orders": 3})
    for _ in range(3):
        sequences.answered("orders")
    assert sequences.queued() == {}


@below_at_above("engine.thread_sequence.MAX_KEYS", 10_000, 1, 1, None)
def test_destinations_are_bounded(sequences, size, outcome):
    """The last of so many destinations of one thread: above, it has no number, and those before go on."""
    for destination in range(size - 1):
        send(sequences, f"orders-{destination}")

    assert send(sequences, "the last").sequence == (outcome or 0)
    assert send(sequences, "orders-0").sequence == 2


def test_headers_without_ours_are_left_alone(sequences):
    """Excluded destinations, message formats without headers, and what the application has copied of somebody else."""
    headers = [("tenant", b"7")]

    theirs = [(NAME, pipeline_header.numbered(PLAIN, 1, 2, 3, per_partition=True))]

    assert (sequences.stamp(headers, "orders"), headers) == (None, [("tenant", b"7")])
    assert (sequences.stamp(theirs, "orders"), pipeline_header.decode(theirs[0][1]).sequence) == (None, 2)
    assert sequences.stamp([], "orders") is None


def test_a_failure_is_counted_and_harms_nothing():
    """A header that cannot be read."""
    guard = Guard()
    headers = [(NAME, None)]

    assert (ThreadSequences(guard).stamp(headers, "orders"), headers) == (None, [(NAME, None)])
    assert guard.errors == {"sequence": 1}
