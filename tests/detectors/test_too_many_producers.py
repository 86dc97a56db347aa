"""More producers than can be followed: newcomers are turned away, whoever speaks is kept, and it is said."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter

import pytest

from otel_pipeline.detectors import producer_numbers
from otel_pipeline.detectors.order import NOT_FOLLOWED, TURNED_AWAY
from otel_pipeline.detectors.partition_order import PartitionOrder
from otel_pipeline.detectors.producer_numbers import Room, Silence
from otel_pipeline.detectors.producer_window import WINDOW
from tests.limits import below_at_above

TAG = 7


@pytest.fixture
def few(monkeypatch):
    """A table of 40, in a process with room for 100."""
    monkeypatch.setattr(producer_numbers, "MAX_PRODUCERS", 40)
    monkeypatch.setattr(producer_numbers, "MAX_ALL_PRODUCERS", 100)
    for name in ("partition_order", "destination_numbers"):
        module = __import__(f"otel_pipeline.detectors.{name}", fromlist=["MAX_PRODUCERS"])
        for limit in ("MAX_PRODUCERS", "MAX_ALL_PRODUCERS"):
            if hasattr(module, limit):
                monkeypatch.setattr(module, limit, getattr(producer_numbers, limit))


def take_turns(producers, count, *, lost=0.01, seed=1, at_random=False):
    """What is found among so many producers that take turns, and what was lost: no first and no last message."""
    order, chance, numbers = PartitionOrder(TAG, lambda: 0.0), random.Random(seed), [0] * producers
    turns = [chance.randrange(producers) if at_random else turn % producers for turn in range(count)]
    ends = Counter(turns)
    offset, truth = 0, []
    for producer in turns:
        numbers[producer] += 1
        if chance.random() < lost and 1 < numbers[producer] < ends[producer]:
            truth.append(producer)
        else:
            order.one(offset, producer + 1, numbers[producer], TAG)
            offset += 1
    order.close()
    return order, truth


@pytest.mark.parametrize(
    ("producers", "each", "at_random"),
    [
        *[(producers, 200, False) for producers in (10, 64, 65, 200)],
        *[(producers, 20, False) for producers in (1_000, 4_096)],
        *[(producers, 200, True) for producers in (80, 200)],
        (1_000, 20, True),
    ],
)
def test_all_losses_are_found(producers, each, at_random):
    """However many producers there are, up to as many as are followed, in turn or at random."""
    order, truth = take_turns(producers, producers * each, at_random=at_random)

    assert (order.missing_before_broker, order.reordered + order.duplicate) == (len(truth), 0)
    assert (order.followed, order.turned_away) == (producers, 0)


def test_of_more_producers_those_that_are_followed_are_judged():
    """And nothing is made up about the others."""
    order, truth = take_turns(5_000, 60_000)
    known = [each for each in truth if each < 4_096]
    newcomers = 12 * (5_000 - 4_096) - (len(truth) - len(known))

    assert (order.missing_before_broker, order.reordered + order.duplicate) == (len(known), 0)
    assert (len(truth), len(known), order.turned_away) == (525, 432, newcomers)


def test_partitions_share_the_room_of_the_process(few):
    """And give it back when they begin anew."""
    room = Room()
    orders = [PartitionOrder(TAG, lambda: 0.0, -1, room) for _ in range(4)]
    for order in orders:
        for producer in range(1, 40):
            order.one(producer, producer, 1, TAG)
    assert [(order.followed, order.turned_away) for order in orders] == [(39, 0), (39, 0), (22, 17), (0, 39)]

    orders[0].sought()
    orders[0].one(900, 1, 1, TAG)
    orders[3].one(40, 40, 1, TAG)

    assert ([order.followed for order in orders], room.taken) == ([1, 39, 22, 1], 63)


def test_the_silent_make_room_only_where_it_is_needed(few):
    """A producer that comes back after an hour is still compared with what it had sent."""
    order = PartitionOrder(TAG, lambda: 0.0)
    for producer in range(1, 40):
        order.one(producer, producer, 1, TAG)
    speak(order, 39, seconds=700)
    assert order.followed == 39

    order.one(order.highest + 1, 40, 1, TAG)
    order.look(701.0)
    assert (order.followed, sorted(order.numbers())) == (2, [39, 40])


def speak(order, producer, *, seconds, since_s=0):
    """This producer alone says something each second."""
    for second in range(since_s, since_s + seconds):
        order.one(order.highest + 1, producer, order.numbers().get(producer, 0) + 1, TAG)
        order.look(float(second))


def test_gaps_of_the_silent_are_left_open(few):
    """They are no loss: nobody has read to the end of the log."""
    order = PartitionOrder(TAG, lambda: 0.0)
    for producer in range(1, 41):
        order.one(producer, producer, 1, TAG)
    order.one(41, 5, 3, TAG)
    speak(order, 7, seconds=700)

    assert (order.followed, order.open, order.left_open, order.gapped) == (1, 0, 1, False)


def test_producers_without_a_partition_lock_make_room_too(few):
    """Those that number over all partitions."""
    order = PartitionOrder(0, lambda: 0.0, TAG)
    for producer in range(1, 42):
        order.one_of_destination(producer, producer, 1, TAG)
    for second in range(700):
        order.one_of_destination(order.highest + 1, 7, 2 + second, TAG)
        order.look(float(second))

    assert (order.followed, order.turned_away, order.by_destination) == (1, 1, 740)


def test_a_process_that_was_stopped_forgets_nobody():
    """Nor one that reads nothing for an hour."""
    silence = Silence()
    newest = [silence.look(float(second), 1_000 + second) for second in range(60)]
    stopped = [silence.look(3_600.0 + second, 1_060 + second) for second in range(60)]
    still = [silence.look(7_200.0 + second, 1_119) for second in range(900)]

    assert {*newest, *stopped, *still} == {-1}


def test_silence_begins_anew_with_another_log():
    """Its offsets say nothing about those of before."""
    silence = Silence()
    before = [silence.look(float(second), second) for second in range(700)][-1]
    after = [silence.look(700.0 + second, second // 2) for second in range(590)]

    assert (before > 0, {*after}) == (True, {-1})


def test_the_silent_are_those_of_ten_to_eleven_minutes_ago():
    """Whoever has spoken since has a newer offset."""
    silence = Silence()
    found = [silence.look(float(second), second) for second in range(1_800)]

    assert all(600 <= second - offset <= 661 for second, offset in enumerate(found) if offset >= 0)
    assert found.index(next(each for each in found if each >= 0)) == 600


@below_at_above("detectors.producer_numbers.MAX_ALL_GAPPED", 4_096, (1, 0, 1), (1, 0, 1), (0, 1, 2))
def test_gaps_of_too_many_producers(size, outcome):
    """In all partitions of a process. A newcomer's jump is a new base line: seen, not judged, and no gap."""
    room = Room()
    room.gapped = size - 1
    order = PartitionOrder(TAG, lambda: 0.0, -1, room)
    order.one(0, 1, 1, TAG)
    order.one(1, 1, 3, TAG)
    order.one(2, 1, 4, TAG)
    order.one(3, 1, 2, TAG)

    assert (order.reordered, order.not_followed, order.firsts) == (outcome[0], outcome[1], outcome[2] + outcome[1])


def test_further_gaps_of_a_producer_that_has_some_are_followed():
    """They need no room of their own."""
    room = Room()
    order = PartitionOrder(TAG, lambda: 0.0, -1, room)
    order.one(0, 1, 1, TAG)
    order.one(1, 1, 3, TAG)
    room.gapped = producer_numbers.MAX_ALL_GAPPED
    order.one(2, 1, 5, TAG)
    order.close()

    assert (order.missing_before_broker, order.not_followed) == (2, 0)


def test_who_has_all_numbers_again_makes_room():
    """The late number has come, or the partition has begun anew, or the producer is silent."""
    room = Room()
    late, anew, silent = (PartitionOrder(TAG, lambda: 0.0, -1, room) for _ in range(3))
    for order in (late, anew, silent):
        order.one(0, 1, 1, TAG)
        order.one(1, 1, 3, TAG)
    before = room.gapped
    late.one(2, 1, 2, TAG)
    anew.sought()
    anew.one(100, 1, 50, TAG)
    silent.drop_silent(10)

    assert (before, room.gapped, [each.holed for each in (late, anew, silent)]) == (3, 0, [0, 0, 0])


def test_what_is_given_up_needs_room_until_it_has_left_the_window():
    """It may still come, and is late then."""
    order = PartitionOrder(TAG, lambda: 0.0)
    order.one(0, 1, 1, TAG)
    order.one(1, 1, 3, TAG)
    order.close()
    held = order.holed
    for number in range(4, 3 + WINDOW):
        order.one(number, 1, number, TAG)

    assert (held, order.holed, order.missing_before_broker) == (1, 0, 1)


@pytest.mark.once
def test_the_memory_of_all_that_a_process_follows():
    """24 MB for 65,536 producers, each of whom has lost a message."""
    room, orders = Room(), []
    gc.collect()
    tracemalloc.start()
    for partition in range(16):
        order = PartitionOrder(TAG, lambda: 0.0, -1, room)
        for turn, number in enumerate((1, 3, 5, 1_000)):
            for producer in range(4_096):
                order.one(turn * 4_096 + producer, 1 + partition * 4_096 + producer, number, TAG)
        orders.append(order)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert (sum(each.followed for each in orders), sum(each.turned_away for each in orders)) == (65_536, 0)
    assert used <= 24e6


def test_it_is_said_that_gaps_are_not_followed(watching, monkeypatch):
    """Once, in the status; the light has its own words."""
    monkeypatch.setattr(producer_numbers, "MAX_ALL_GAPPED", 1)
    found = watching()
    for producer in (1, 2):
        for number in (1, 3):
            at = 2 * producer + number // 2
            found.deliver(found.message(at, header=found.header(number, producer=producer)))
    assert found.evidence().counts[NOT_FOLLOWED] == 1
    for _ in range(2):
        found.flows.look()

    (problem,) = [each for each in found.guard.problems.values() if "have not come" in each]
    assert problem == (
        "numbers of more than 4,096 producers in the process have not come: "
        "whether messages of the rest are lost is not known"
    )


def test_it_is_said_once(watching, few):
    """In the light, and in the status."""
    found = watching()
    header = found.header
    found.deliver(*(found.message(offset, header=header(1, producer=1 + offset)) for offset in range(41)))
    assert found.evidence().counts[TURNED_AWAY] == 1
    for _ in range(2):
        found.flows.look()

    (problem,) = [each for each in found.guard.problems.values() if "producers" in each]
    assert problem == (
        "more than 4,096 producers in a partition, or 65,536 in the process: "
        "whether messages of the rest are lost is not known"
    )
