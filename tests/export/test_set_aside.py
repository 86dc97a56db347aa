"""A batch that never gets an answer, while others do, is set aside: nothing behind it waits, and it is tried again."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from otel_pipeline.export.otlp.http import Outcome
from otel_pipeline.export.spool import asides
from otel_pipeline.export.spool.lanes import FIRST_ASIDE_S, MAX_ASIDE_S
from otel_pipeline.export.spool.sender import Sender
from tests.export.test_spool import left_by
from tests.export.test_spool_sender import Sent
from tests.limits import below_at_above

FAULTS = {
    "503": 503,
    "429": 429,
    "reset": ConnectionResetError(104, "reset"),
    "hang": TimeoutError(),
    "with Retry-After": Outcome(503, retry_after_s=3.0),
}


@pytest.fixture
def poisoned(tmp_path):
    """A spool whose server takes all but what has `poison` in it, which the fault meets."""

    def make(fault, poison=b"poison"):
        return Sent(tmp_path / "spool", answer=lambda body: fault if poison in body else 200)

    return make


@pytest.fixture
def sent_by(tmp_path):
    return lambda *script: Sent(tmp_path / "spool", *script)


def tries(made, count):
    """Make so many attempts, whenever they are due; how often each body came."""
    for _ in range(count):
        made.once()
    return Counter(made.transport.sent)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_behind_it_goes_on(poisoned, fault):
    """Each once; what was set aside stands in the account and in a file of its own."""
    made = poisoned(fault)
    made.spooled.append(b"a", b"poison", b"b", b"c")
    sent = tries(made, 16)

    assert (sent[b"b"], sent[b"c"]) == (1, 1)
    assert (made.told.arrived, made.spooled.lane.set_aside(), made.spooled.lane.settled) == (3, 1, 4)
    assert [count for count, _ in made.told.aside] == [1]
    assert (made.told.lost, made.told.refusals) == ({}, {})
    assert len(made.spooled.files()) == 2


def test_it_is_tried_again(poisoned):
    """Less and less often; once it is taken nothing is left of it."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)
    lane, waits_s = made.spooled.lane, []
    for _ in range(9):
        lane.aside[0].due_s = float("-inf")
        made.once()
        waits_s.append(round(lane.aside[0].due_s - time.monotonic()))
    made.transport.answer = lambda _body: 200
    lane.aside[0].due_s = float("-inf")
    made.once()

    assert waits_s == [min(FIRST_ASIDE_S * 2**at, MAX_ASIDE_S) for at in range(1, 10)]
    assert (made.told.arrived, lane.set_aside(), made.told.lost) == (2, 0, {})
    assert made.spooled.files() == ["000001.traces.spool"] or len(made.spooled.files()) == 1


def test_in_an_outage_nothing_is_set_aside(poisoned):
    """All of it stays in its order, however long that takes."""
    made = poisoned(503, b"")
    made.spooled.append(*(b"%d" % number for number in range(10)))
    tries(made, 60)
    assert (made.told.aside, made.spooled.lane.set_aside(), made.told.arrived) == ([], 0, 0)

    made.transport.answer = None
    del made.transport.sent[:]
    arrived = made.all()
    assert b"".join(arrived) == b"0123456789"


def test_where_nothing_is_behind_it_nothing_waits(poisoned):
    """It is tried as ever; what comes later shows what it is."""
    made = poisoned(503)
    made.spooled.append(b"poison")
    assert tries(made, 20) == {b"poison": 20}
    made.spooled.append(b"b")
    tries(made, 5)

    assert (made.told.arrived, made.spooled.lane.set_aside()) == (1, 1)


def test_several_among_many(poisoned):
    """Every tenth of a hundred: all others arrive, each once."""
    made = poisoned(503)
    made.spooled.append(*(b"poison" if number % 10 == 3 else b"<%d>" % number for number in range(100)))
    tries(made, 400)
    arrived = Counter(b"".join(body for body in made.transport.sent if b"poison" not in body).split(b">"))

    assert (made.told.arrived, made.spooled.lane.set_aside(), made.told.lost) == (90, 10, {})
    assert {count for body, count in arrived.items() if body} == {1}


@below_at_above("export.spool.outlet.PATIENCE", 3, b"a", b"b", b"a")
def test_how_often_it_is_tried_first(sent_by, size, outcome):
    """Then, in turn, what is behind it and itself."""
    made = sent_by(*[503] * 10)
    made.spooled.append(b"a")
    made.once()
    made.spooled.append(b"b")
    tries(made, size)

    assert made.transport.sent[size] == outcome


@below_at_above("export.spool.outlet.MAX_DEPTH", 32, 1, 1, 0)
def test_so_many_in_a_row_are_passed(poisoned, size, outcome):
    """More of them hold up what is behind, as an outage does."""
    made = poisoned(503)
    made.spooled.append(*[b"poison"] * size, b"b")
    tries(made, 200)

    assert (made.told.arrived, made.spooled.lane.set_aside()) == (outcome, size * outcome)


@pytest.mark.parametrize(("often", "lost"), [(7, {}), (8, {"unanswered": 1})])
@pytest.mark.parametrize("size", [31, 32, 33])
def test_so_many_are_kept(poisoned, size, often, lost):
    """With one more the first is lost, if it was tried often; else the last keeps its place, and is tried there."""
    made = poisoned(503)
    for _ in range(min(size, 32)):
        made.spooled.append(b"poison", b"b")
    tries(made, 400)
    made.spooled.lane.aside[0].tries = often
    if size > 32:
        made.spooled.append(b"poison", b"b")
    tries(made, 40)

    assert (made.told.arrived, made.told.lost) == (size, lost if size > 32 else {})
    assert made.spooled.lane.set_aside() == min(size, 32)


def test_a_server_that_comes_back_at_a_probe(poisoned):
    """Nothing is set aside: all of it is taken where it stands, and nothing is sent twice."""
    for attempts in range(3, 90):
        made = poisoned(503, b"")
        made.spooled.append(*(b"<%d>" % number for number in range(40)))
        tries(made, attempts)
        del made.transport.sent[:]
        made.transport.answer = None
        made.all()
        arrived = Counter(b"".join(made.transport.sent).split(b">"))

        assert (made.told.aside, made.told.arrived, made.told.lost) == ([], 40, {})
        assert {count for body, count in arrived.items() if body} == {1}
        made.spooled.spool.close()


@pytest.mark.parametrize(("status", "counted"), [(400, {"400": 1}), (413, {"413": 1})])
def test_one_that_is_refused_later_is_lost(poisoned, status, counted):
    """As any other."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)
    made.transport.answer = lambda body: status if b"poison" in body else 200
    made.spooled.lane.aside[0].due_s = float("-inf")
    made.once()

    assert (made.told.refusals, made.spooled.lane.set_aside()) == (counted, 0)


def test_what_is_behind_may_be_refused(poisoned):
    """What is behind that tells; it is lost as it would have been."""
    made = poisoned(503)
    made.transport.answer = lambda body: 503 if b"poison" in body else 400 if b"bad" in body else 200
    made.spooled.append(b"poison", b"bad", b"b")
    tries(made, 16)

    assert (made.told.arrived, made.told.refusals, made.spooled.lane.set_aside()) == (1, {"400": 1}, 1)


def test_the_oldest_that_goes_is_what_was_set_aside(poisoned):
    """Where the bound is reached."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)
    made.spooled.spool.max_bytes = 200
    made.spooled.append(b"c" * 100)

    assert (made.told.lost, made.spooled.lane.set_aside()) == ({"spool_full": 1}, 0)


def test_it_becomes_too_old(poisoned):
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)
    made.spooled.now_s += 99
    made.spooled.spool.drop_old()
    assert made.told.lost == {}
    made.spooled.now_s += 2
    made.spooled.spool.drop_old()

    assert (made.told.lost, made.spooled.lane.set_aside()) == ({"spool_age": 1}, 0)


@pytest.mark.parametrize("arrives", [True, False])
def test_one_that_is_dropped_while_it_is_tried(poisoned, arrives):
    """It has its chance, and is counted once."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)

    def dropped_meanwhile(_body):
        made.spooled.lane.remove_aside(made.spooled.lane.aside[0], "spool_full")
        return 200 if arrives else 503

    made.transport.answer = dropped_meanwhile
    made.spooled.lane.aside[0].due_s = float("-inf")
    made.once()

    assert (made.told.arrived, made.told.lost) == ((2, {}) if arrives else (1, {"spool_full": 1}))


@pytest.mark.parametrize("answer", [200, 503])
def test_what_is_behind_is_dropped_while_it_is_tried(poisoned, answer):
    """With all of its segment: all of it is settled once."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    while not made.outlet._probes:
        made.once()

    def dropped_meanwhile(_body):
        if made.spooled.lane.own:
            made.spooled.lane.remove(made.spooled.lane.own[0], "spool_full")
            return answer
        return 503

    made.transport.answer = dropped_meanwhile
    tries(made, 3)
    lost = {"spool_full": 1} if answer == 200 else {"spool_full": 2}

    assert (made.told.arrived, made.told.lost, made.spooled.lane.settled) == (2 - lost["spool_full"], lost, 2)


def test_without_a_disk_memory_has_it(poisoned, monkeypatch):
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    monkeypatch.setattr(made.spooled.spool.own, "make", no_disk)
    tries(made, 9)

    assert (made.told.arrived, made.spooled.spool.in_memory(made.spooled.lane)) == (1, 1)


def no_disk(*_given):
    raise OSError(28, "No space left on device")


def test_the_next_start_sends_it(poisoned, tmp_path):
    """It is in a file, as all else."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)
    made.spooled.spool.close()
    after = Sent(tmp_path / "spool")
    Sender(after.spooled.spool)._send_what_is_due()
    while after.spooled.spool.waits(after.spooled.lane)[1]:
        after.once()

    assert (after.told.arrived_of_others, after.transport.sent) == (1, [b"poison"])


def test_what_a_dead_process_has_left_holds_up_nobody(poisoned, tmp_path):
    """Neither this process's own nor what others have left; it is counted as theirs."""
    left_by(tmp_path / "spool", b"poison")
    left_by(tmp_path / "spool", b"theirs")
    made = poisoned(503)
    Sender(made.spooled.spool)._send_what_is_due()
    tries(made, 4)
    made.spooled.append(b"own")
    tries(made, 16)

    assert (made.told.arrived, made.told.arrived_of_others, made.spooled.lane.set_aside()) == (1, 1, 1)
    made.transport.answer = None
    made.spooled.lane.aside[0].due_s = float("-inf")
    made.once()
    assert (made.told.arrived, made.told.arrived_of_others) == (1, 2)


def test_who_waits_is_told_that_not_all_has_arrived(poisoned):
    """And is not held up."""
    made = poisoned(503)
    made.spooled.append(b"poison", b"b")
    tries(made, 9)
    sender = Sender(made.spooled.spool)
    sender.outlets.append(made.outlet)
    sender._stopped = True

    assert asides.next_due_s(made.spooled.lane) is not None
    assert sender.drain(3600) is False
