"""Delivered, row by row, from what producers show: each limit just below, at, just above."""

from __future__ import annotations

import gc
import weakref

import pytest

from otel_pipeline import semconv
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.engine.clients import Patience, Producer
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.measures import Sums
from otel_pipeline.engine.open_sends import OpenBatch, ProducerNow
from otel_pipeline.engine.totals import Totals
from otel_pipeline.verdict.evidence import Evidence
from otel_pipeline.verdict.sends import FAILED, SENT, ProducerKey, ProducersNow, Sends
from otel_pipeline.verdict.verdict import Verdict
from tests.limits import below_at_above

KEY = ProducerKey("k1", "orders")
ATTRIBUTES = {
    semconv.MESSAGING_SYSTEM_NAME: "kafka",
    semconv.MESSAGING_OPERATION_NAME: "send",
    semconv.MESSAGING_DESTINATION_NAME: "orders",
    semconv.KAFKA_CLUSTER_ID: "k1",
}


def light(sent=1_000, failed=0, error="kafka.errors.KafkaTimeoutError", **parts):
    """The light after one look."""
    counts = Sums({SENT: sent, FAILED.label(error): failed} if failed else {SENT: sent})
    (found,) = Verdict(HealthSettings()).judge([Evidence(KEY, counts, sends=Sends(counts, **parts))], 0.0, 0.0)
    assert list(found.lights) == ["delivered"]
    return found.lights["delivered"]


def row(*given, **parts):
    """The row that holds, and the colour."""
    found = light(*given, **parts)
    return found.row, found.state


GREEN, FAILS, SOME = ("delivered", "green"), ("fails", "red"), ("fails sometimes", "amber")
SLOW, NO_ANSWER = ("slow to answer", "amber"), ("no answer", "red")


def test_all_is_well():
    """Acknowledged; what is on the way is said."""
    found = [light(), light(open=3, oldest_s=0.2)]

    assert [(each.state, each.why, each.look, each.judged, each.seen) for each in found] == [
        ("green", "1,000 messages acknowledged, none failed", None, 1_000, 1_000),
        ("green", "1,000 messages acknowledged, none failed, 3 on the way", None, 1_000, 1_000),
    ]


def test_some_fail():
    """By the kinds of their errors, and where they are to be seen."""
    found = light(failed=2)

    assert (found.state, found.why) == ("amber", "2 of 1,000 messages could not be delivered: 2 x KafkaTimeoutError")
    assert found.look == "the failed `send orders` spans, and the brokers, the network, and what the client logs"


@below_at_above("verdict.delivered.LEAST", 3, SOME, FAILS, FAILS)
def test_how_many_have_to_fail(size, outcome):
    """Of few messages, where the share is surely above one per cent."""
    assert row(40, size) == outcome


@below_at_above("verdict.delivered.SHARE", 17, SOME, FAILS, FAILS)
def test_which_share_fails_surely(size, outcome):
    """17 of 1,000 are 1.7 %, and surely more than 1 % (Wilson)."""
    assert row(1_000, size) == outcome


@below_at_above("verdict.delivered.ENOUGH", 30, FAILS, FAILS, FAILS)
def test_all_fail(size, outcome):
    """However few they are."""
    assert [row(size, size), row(1, 1), row(2, 1)] == [outcome, FAILS, SOME]


@below_at_above("verdict.delivered.PATIENCE_S", 10, GREEN, GREEN, SLOW)
def test_a_slow_answer(size, outcome):
    """Where producers wait for nothing."""
    assert row(open=1, oldest_s=float(size)) == outcome


@below_at_above("three times what an answer takes, and the linger", 35, GREEN, GREEN, SLOW)
def test_an_answer_slower_than_usual(size, outcome):
    """By what this producer knows of its brokers."""
    assert row(open=1, oldest_s=float(size), linger_s=5.0, answered_p95_s=10.0) == outcome


@below_at_above("verdict.delivered.OF_TIMEOUT", 60, SLOW, SLOW, NO_ANSWER)
def test_no_answer(size, outcome):
    """Half of the time is over after which the producer gives up: 2 min."""
    assert row(open=1, oldest_s=float(size), timeout_s=120.0) == outcome


def test_no_answer_where_the_producer_waits_itself():
    """It has not sent them yet."""
    assert row(open=1, oldest_s=65.0, timeout_s=120.0, linger_s=70.0) == GREEN


def test_words_of_what_is_not_answered():
    """How many, for how long, until when."""
    assert light(open=1_724, oldest_s=45.0, timeout_s=120.0).why == (
        "1,724 messages without an answer, the oldest for 45 s; given up after 2 min"
    )


def test_left_at_the_end():
    """Red, whatever was before; what nobody waits for is no harm while the process runs."""
    found = light(open=2, ended=True)

    assert (found.row, found.state, row(open=2), row(ended=True)) == ("left at the end", "red", GREEN, GREEN)
    assert found.why == (
        "2 messages were not answered when the process ended: whether they were delivered is not known"
    )


def test_the_last_look_is_not_waited_for():
    """What gets worse is shown after two looks, and at once where there is no second one."""
    verdict = Verdict(HealthSettings())

    def judge(now_s, last, **parts):
        sends = Sends(Sums({SENT: 9}), **parts)
        (found,) = verdict.judge([Evidence(KEY, sends.counts, sends=sends)], now_s, 0.0, last=last)
        return found.state

    states = [judge(0.0, False), judge(1.0, False, open=1, ended=True), judge(2.0, True, open=1, ended=True)]

    assert states == ["green", "green", "red"]


def test_grey():
    """Nobody answers, nothing was sent, nothing has been answered yet."""
    found = [light(confirmed=False), light(0), light(0, open=4, oldest_s=1.0)]

    assert [(each.state, each.why, each.judged) for each in found] == [
        ("grey", "acks=0: 1,000 messages sent, and no broker says whether it has them", 0),
        ("grey", "nothing sent yet", 0),
        ("grey", "4 messages on the way, none answered yet", 0),
    ]


def test_a_failure_is_shown_where_nobody_answers():
    """Red and amber before grey."""
    assert row(40, 5, confirmed=False) == FAILS


class Batch:
    """A client's own."""


class Client:
    """One producer of a library that tells of its batches."""

    def __init__(self, engine, **patience):
        self.producer = Producer(
            attributes={semconv.MESSAGING_SYSTEM_NAME: "kafka"}, patience=Patience(**patience), cluster_id=lambda: "k1"
        )
        self.open = []
        engine.producers.append(lambda: [ProducerNow(self.producer, list(self.open))])


@pytest.fixture
def engine():
    return Engine(spans=None, propagation=None, totals=Totals())


def bound(client, engine):
    """Let it have sent to `orders` before."""
    from otel_pipeline.engine.clients import Destination

    destination = client.producer.destinations["orders"] = Destination(engine, client.producer, "orders", "send")
    return destination


def test_what_producers_show(engine):
    """Counts by cluster and destination; the oldest batch is as old as the look that saw it first."""
    client, now = Client(engine, linger_s=1.0, timeout_s=120.0), ProducersNow(engine)
    bound(client, engine)
    engine.sent.local(ATTRIBUTES).cell.value += 5
    engine.sent.local({**ATTRIBUTES, semconv.ERROR_TYPE: "x.Error"}).cell.value += 2
    for taken_back in ("aborted", "kafka.errors.TransactionAbortedError"):
        engine.sent.local({**ATTRIBUTES, semconv.ERROR_TYPE: taken_back}).cell.value += 9
    first, second = Batch(), Batch()
    client.open = [OpenBatch(first, "orders", 3)]
    now.look(100.0)
    client.open.append(OpenBatch(second, "orders", 4))
    found = now.look(107.0)

    assert found == {
        KEY: Sends(Sums({SENT: 7, FAILED.label("x.Error"): 2}), open=7, oldest_s=7.0, linger_s=1.0, timeout_s=120.0)
    }


def test_batches_are_not_kept(engine):
    """What was remembered of one goes with it."""
    client, now = Client(engine), ProducersNow(engine)
    bound(client, engine)
    client.open = [OpenBatch(Batch(), "orders", 3)]
    now.look(1.0)
    reference = weakref.ref(client.open[0].batch)
    client.open.clear()
    gc.collect()

    assert (reference(), now.look(2.0)) == (None, {})


@below_at_above("verdict.sends.LONG_S", 10, 0.0, 3.0, 3.0)
def test_how_long_answers_take_is_looked_up_where_one_takes_long(engine, size, outcome):
    """The 95th percentile of this destination's."""
    client, now = Client(engine), ProducersNow(engine)
    bound(client, engine)
    times = engine.operation_duration.local({**ATTRIBUTES, semconv.MESSAGING_OPERATION_TYPE: "send"}).cell
    for seconds in (0.01, 3.0):
        times.record(seconds)
    client.open = [OpenBatch(Batch(), "orders", 1)]
    now.look(0.0)

    assert [sends.answered_p95_s for sends in now.look(float(size)).values()] == [outcome]


def test_clients_whose_batches_nobody_can_read(engine):
    """What they count is open since the last answer to anything, at least; known where nothing was answered, too."""
    queued, now = {"orders": 3, "other": 1}, ProducersNow(engine)
    engine.queued.append(lambda: dict(queued))
    sent = engine.sent.local(ATTRIBUTES).cell
    found = []
    for second, answered in enumerate([1, 1, 1, 2, 2]):
        sent.value = answered
        found.append(now.look(float(second)))
    queued.clear()

    assert [(sends[KEY].open, sends[KEY].oldest_s) for sends in found] == [
        *((3, 0.0), (3, 1.0), (3, 2.0), (3, 0.0), (3, 1.0))
    ]
    assert [sends[ProducerKey(None, "other")].oldest_s for sends in found] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert now.look(9.0)[KEY].open == 0


def test_several_producers_of_one_destination(engine):
    """One that is not answered makes it unknown; who gives up first counts."""
    now = ProducersNow(engine)
    for patience in ({"timeout_s": 60.0}, {"timeout_s": 30.0, "linger_s": 2.0}, {"confirmed": False}):
        client = Client(engine, **patience)
        bound(client, engine)
        client.open = [OpenBatch(Batch(), "orders", 1)]
    client.batches = client.open
    (found,) = now.look(1.0).values()

    assert (found.open, found.timeout_s, found.linger_s, found.confirmed) == (3, 30.0, 2.0, False)


def test_a_library_that_fails_hurts_nobody(engine):
    """The others are read."""

    def fails():
        raise RuntimeError("theirs")

    engine.producers.append(fails)
    client = Client(engine)
    bound(client, engine)
    client.open = [OpenBatch(Batch(), "orders", 1)]

    assert [sends.open for sends in ProducersNow(engine).look(1.0).values()] == [1]
    assert engine.guard.errors == {"producers": 1}
