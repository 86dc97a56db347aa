from __future__ import annotations

import gc
import os
import sys
import threading
import weakref

import pytest

from otel_pipeline.engine.totals import HistogramPoint, Totals, _creation


class Owner:
    """Something that can be weakly referenced."""


@pytest.fixture
def totals():
    return Totals()


def in_threads(count, work):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_counter_counts_by_attributes(totals):
    """The same attributes in any order are the same cell."""
    sent = totals.counter("sent", "{message}", "Messages sent.")
    sent.cell({"topic": "a", "code": 1}).value += 2
    sent.cell({"code": 1, "topic": "a"}).value += 1
    sent.cell({"topic": "b"}).value += 5

    assert sent.points() == [({"topic": "a", "code": 1}, 3), ({"topic": "b"}, 5)]


def test_a_counter_exists_at_zero(totals):
    """A series is there from the moment that its cell is asked for: a counter born at 1 raises no alert."""
    violations = totals.counter("violations", "{message}", "")
    violations.cell({"violation": "reordered"})

    assert violations.points() == [({"violation": "reordered"}, 0)]


def test_a_histogram_spreads_values_over_buckets(totals):
    """Bounds are inclusive above, and what lies beyond the last has a bucket of its own."""
    age = totals.histogram("age", "s", "", (0.1, 1, 10))
    cell = age.cell({"topic": "a"})
    for seconds in (-1, 0.1, 0.2, 1, 10.5):
        cell.record(seconds)

    assert age.points() == [({"topic": "a"}, HistogramPoint(5, 10.8, -1, 10.5, (2, 2, 0, 1)))]


def test_a_histogram_without_values_has_no_points(totals):
    """A minimum of nothing does not exist."""
    age = totals.histogram("age", "s", "", (1,))
    age.cell({})

    assert age.points() == []


def test_points_are_cumulative(totals):
    """Collecting takes nothing away."""
    sent = totals.counter("sent", "1", "")
    cell = sent.cell({})
    cell.value += 1
    first = sent.points()
    cell.value += 1

    assert (first, sent.points()) == ([({}, 1)], [({}, 2)])


def test_list_values_are_attributes_too(totals):
    """OpenTelemetry allows sequences; they are told apart by what they hold."""
    sent = totals.counter("sent", "1", "")
    sent.cell({"names": ["a", "b"]}).value += 1
    sent.cell({"names": ["a", "b"]}).value += 1

    assert sent.points() == [({"names": ["a", "b"]}, 2)]


def test_thirty_two_threads_lose_nothing_while_being_collected(totals):
    """Each thread records its own cell, somebody collects all the time, sums only grow and end exact."""
    sent = totals.counter("sent", "1", "")
    age = totals.histogram("age", "s", "", (1, 2))
    here, ages = sent.local({}), age.local({})
    stop, seen = threading.Event(), []

    def collect():
        while not stop.is_set():
            seen.append((sum(value for _, value in sent.points()), sum(p.count for _, p in age.points())))

    def work():
        for i in range(3000):
            here.cell.value += 1
            ages.cell.record(i % 3)

    collector = threading.Thread(target=collect)
    collector.start()
    in_threads(32, work)
    stop.set()
    collector.join()

    assert sent.points() == [({}, 96_000)]
    assert age.points() == [({}, HistogramPoint(96_000, 96_000, 0, 2, (64_000, 32_000, 0)))]
    assert [counted for counted, _ in seen] == sorted(counted for counted, _ in seen)
    assert [counted for _, counted in seen] == sorted(counted for _, counted in seen)


def test_threads_that_died_are_counted_and_forgotten(totals):
    """With nobody collecting, a thread per request leaves a bounded number of cells and every count."""
    sent = totals.counter("sent", "1", "")
    here = sent.local({})

    def work():
        here.cell.value += 1

    for _ in range(500):
        in_threads(1, work)
    (series,) = sent._every_series()
    kept = len(series.cells)

    assert sent.points() == [({}, 500)]
    assert kept <= 17
    assert len(series.cells) <= 2  # this thread's, and one that may be dying still


def test_the_shared_and_the_local_cells_add_up(totals):
    """Whichever way a series is recorded, it is one series."""
    sent = totals.counter("sent", "1", "")
    sent.cell({"t": "a"}).value += 1
    sent.local({"t": "a"}).cell.value += 10
    assert sent.local({"t": "a"}) is sent.local({"t": "a"})

    assert sent.points() == [({"t": "a"}, 11)]


def test_an_owned_cell_is_folded_when_its_owner_is_gone(totals):
    """The state of a revoked partition goes, what it counted stays."""
    age = totals.histogram("age", "s", "", (1,))
    state = Owner()
    cell = age.cell({}, owner=state)
    other = age.cell({}, owner=state)
    cell.record(0.5)
    other.record(2)
    assert cell is not other
    gone = weakref.ref(state)
    del state, cell, other
    gc.collect()

    assert gone() is None
    assert age.points() == [({}, HistogramPoint(2, 2.5, 0.5, 2, (1, 1)))]
    assert age.points() == [({}, HistogramPoint(2, 2.5, 0.5, 2, (1, 1)))]
    assert age._every_series()[0].cells == {}


def test_too_many_series_share_one_and_it_is_said_once():
    """Ids as attributes must not eat the memory."""
    problems = []
    totals = Totals(limit=3, problem=lambda key, message: problems.append((key, message)))
    sent = totals.counter("sent", "1", "")
    for i in range(10):
        sent.cell({"id": i}).value += 1
    sent.local({"id": 99}).cell.value += 1
    sent.cell({"id": 1}).value += 1

    assert sent.points() == [({"id": 0}, 1), ({"id": 1}, 2), ({"id": 2}, 1), ({"otel.metric.overflow": True}, 8)]
    assert problems == [
        ("totals.overflow.sent", "sent has 3 attribute sets; the rest is counted under otel.metric.overflow=true")
    ]


def test_a_name_is_one_instrument(totals):
    """Defining it again gives the same; as another kind it is refused."""
    assert totals.counter("a", "1", "") is totals.counter("a", "1", "again")
    assert totals.histogram("b", "s", "", (1,)) is totals.histogram("b", "s", "", (1, 2))
    assert (len(totals.counters), len(totals.histograms)) == (1, 1)
    with pytest.raises(ValueError, match="a is already a counter, not a histogram"):
        totals.histogram("a", "s", "", (1,))


def test_gauges_are_read_when_collected(totals):
    """Several parts may read one gauge; one that fails leaves out its own series only."""
    problems = []
    totals = Totals(problem=lambda key, message: problems.append((key, message)))
    lag = [7]

    def read():
        return [({"t": "a"}, lag[0])]

    def broken():
        raise OSError("no broker")

    gauge = totals.gauge("lag", "{message}", "", read)
    assert totals.gauge("lag", "{message}", "", broken) is gauge
    totals.gauge("lag", "{message}", "", read)
    lag[0] = 8

    assert gauge.points() == [({"t": "a"}, 8)]
    assert problems == [("totals.gauge.lag", "lag cannot be read: OSError")]
    gauge.remove(read)
    assert gauge.points() == []


def test_each_new_instrument_is_announced(totals):
    """Those there already too, until it is stopped."""
    seen = []
    first = totals.counter("first", "1", "")
    stop = totals.on_new(seen.append)
    second = totals.histogram("second", "s", "", (1,))
    totals.histogram("second", "s", "", (1,))
    third = totals.gauge("third", "1", "", list)
    stop()
    stop()
    totals.counter("fourth", "1", "")

    assert seen == [first, second, third]


def test_a_histogram_forwards_each_value_when_asked_to(totals):
    """Cells that exist already and cells of other threads forward too, and stop when told."""
    age = totals.histogram("age", "s", "", (1,))
    seen = []
    cell, here = age.cell({"t": "a"}), age.local({"t": "b"})
    record = here.cell.record
    age.forward_to(lambda seconds, attributes: seen.append((seconds, attributes)))
    cell.record(1)
    record(2)
    age.cell({"t": "c"}).record(3)
    age.forward_to(None)
    cell.record(4)

    assert seen == [(1, {"t": "a"}), (2, {"t": "b"}), (3, {"t": "c"})]


def test_a_finalizer_may_record_while_cells_are_made(totals):
    """The garbage collector runs finalizers of ours at any moment, also under our own lock."""
    sent = totals.counter("sent", "1", "")

    class Proxy:
        def __init__(self):
            self.me = self

        def __del__(self):
            sent.cell({"by": "finalizer"}).value += 1
            sent.cell({"by": "finalizer"}, owner=sent).value += 1

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for i in range(100):
            Proxy()
            sent.cell({"i": i}, owner=Owner()).value += 1
            sent.points()
    finally:
        gc.set_threshold(*before)
    gc.collect()

    points = {frozenset(attributes.items()): value for attributes, value in sent.points()}
    assert points == {
        **{frozenset({("i", i)}): 1 for i in range(100)},
        frozenset({("by", "finalizer")}): 200,
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_cell_is_made_is_not_stuck(totals):
    """The lock is renewed in the child, whose parent's other threads do not exist there."""
    sent = totals.counter("sent", "1", "")
    held, release = threading.Event(), threading.Event()

    def hold():
        with _creation.lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        if not _creation.lock.acquire(timeout=5):
            os._exit(1)
        os._exit(0 if sent.cell({"in": "child"}) else 2)
    _, status = os.waitpid(child, 0)
    release.set()
    thread.join()

    assert status == 0


def test_recording_is_not_slow(totals):
    """A record beside the last one is some additions: no look-up by attributes, no call of ours within."""
    age = totals.histogram("age", "s", "", (1, 2))
    cell = age.cell({})
    cell.record(0.5)
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(event) if event == "call" else None)
    cell.record(1)
    sys.setprofile(None)

    assert calls == ["call"]


def test_a_child_counts_from_zero_in_the_cells_that_are_in_use(totals):
    """A series of the parent is none of the child's until it counts there, or asks for it; it starts then."""
    sent, ages = totals.counter("sent", "1", ""), totals.histogram("ages", "s", "", (1, 2))
    held, thread, age = sent.cell({"to": "held"}), sent.local({"to": "thread"}), ages.cell({})
    for value in (held, sent.cell({"to": "idle"}), sent.cell({"to": "asked for"}), thread.cell):
        value.value += 7
    age.record(1.5)
    age.exemplify(1.5, 1, None)
    started_ns = sent.start_ns
    totals.begin_at_zero()

    assert (sent.points(), ages.points(), totals.series_count, sent.value({"to": "held"})) == ([], [], 0, 0)
    assert sent.start_ns > started_ns
    held.value += 1
    thread.cell.value += 2
    sent.cell({"to": "asked for"})
    age.record(0.5)
    points = {series["to"]: value for series, value in sent.points()}
    assert points == {"asked for": 0, "held": 1, "thread": 2}
    assert [(point.bucket_counts, point.sum, point.min, point.max, point.exemplars) for _, point in ages.points()] == [
        ((1, 0, 0), 0.5, 0.5, 0.5, ())
    ]
    assert totals.series_count == 4


def test_a_grandchild_counts_from_zero_as_well(totals):
    """What the child has counted is the child's."""
    sent = totals.counter("sent", "1", "")
    cell = sent.cell({})
    for _ in range(2):
        cell.value += 1
        totals.begin_at_zero()

    assert sent.points() == []
    cell.value += 1
    assert sent.points() == [({}, 1)]
