"""Flag C: origins by a clock that is known to be wrong are written, handed on and told as what they are."""

from __future__ import annotations

import time

import pytest
from opentelemetry.context import Context, attach
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_pipeline.engine import origin_state, pipeline_propagator
from otel_pipeline.engine.batch import Batch
from otel_pipeline.engine.clients import Producer
from otel_pipeline.engine.origin import DOUBTED, DOUBTED_HERE, Origin, merge, origin_at, origin_of, without_doubt
from otel_pipeline.engine.pipeline_header import DOUBTED as FLAG
from otel_pipeline.engine.pipeline_header import FAN_IN, PER_PARTITION, Template, decode, encode, numbered
from otel_pipeline.engine.pipeline_propagator import PipelinePropagator
from otel_pipeline.engine.send import sender
from tests.engine.test_trust import Side

NOW_MS = time.time_ns() // 1_000_000
BEGAN_MS = NOW_MS - 5_000


class Clock:
    """This machine's, which somebody sets and which is right again."""

    def __init__(self):
        self.off = False


class Seen:
    """An observer that may doubt the senders' clocks."""

    def __init__(self, *, doubts):
        self.doubts = doubts


@pytest.fixture
def clock():
    return Clock()


def header(**said):
    fields = {"flags": 0, "hops": 1, "environment": "test", "origin_ms": BEGAN_MS, "newest_ms": BEGAN_MS, "path": 1}
    return encode(**{**fields, "producer_id": 2, "sequence": 3, "tag": 4, **said})


def test_a_first_hop_has_the_flag_while_the_clock_is_off(clock):
    """And the same header else."""
    template = Template(header(origin_ms=0, flags=PER_PARTITION), clock)
    right = decode(template.filled(99, 5, 6))
    clock.off = True
    wrong = decode(template.filled(99, 5, 6))
    clock.off = False

    assert wrong == right._replace(flags=PER_PARTITION | FLAG)
    assert decode(template.filled(99, 5, 6)) == right


def test_the_number_that_comes_later_leaves_the_flag():
    """As clients written in C are numbered."""
    found = decode(numbered(header(flags=FLAG, producer_id=0, sequence=0, tag=0), 5, 6, 7, per_partition=True))

    assert (found.flags, found.producer_id, found.sequence, found.tag) == (FLAG | PER_PARTITION, 5, 6, 7)


@pytest.mark.parametrize(
    ("flags", "doubted"), [(0, False), (PER_PARTITION, False), (FLAG, True), (FLAG | FAN_IN, True)]
)
def test_the_flag_is_read(flags, doubted):
    """Into what is in hand; what is told to observers can be told from any time."""
    found = origin_of(header(flags=flags), NOW_MS)

    assert (found.doubted, found.origin_ms, found.told_ms >= DOUBTED) == (doubted, BEGAN_MS, doubted)
    assert without_doubt(found.told_ms) == without_doubt(BEGAN_MS | DOUBTED_HERE) == BEGAN_MS
    assert without_doubt(-BEGAN_MS) == -BEGAN_MS, "a bound"


@pytest.mark.parametrize(
    ("hops", "doubts", "doubted"), [(1, True, True), (1, False, False), (2, True, False), (None, True, True)]
)
def test_a_sender_whose_clock_is_behind(hops, doubts, doubted):
    """It is the last one: what began two hops ago began by another's clock. Without a header it is the first."""
    value = None if hops is None else header(hops=hops)

    assert origin_at(Seen(doubts=doubts), value, BEGAN_MS).doubted == doubted
    assert origin_at(None, value, BEGAN_MS).doubted is False


def test_one_doubted_origin_makes_all_doubted():
    """The oldest decides, and nobody knows whether it is the oldest."""
    known = Origin(5, 5, 1, None, 0)

    assert (merge([known, known]).doubted, merge([known, known._replace(doubted=True)]).doubted) == (False, True)


@pytest.mark.parametrize(
    ("doubts", "hops", "told", "doubted"),
    [
        (False, (1, 1), (0, 0), False),
        (False, (1, 2), (0, DOUBTED), True),
        (False, (1, 1), (DOUBTED_HERE, 0), True),
        (True, (2, 2), (0, 0), False),
        (True, (2, 1), (0, 0), True),
        (True, (2, None), (0, 0), True),
    ],
)
def test_a_batch(doubts, hops, told, doubted):
    """Of which one message is doubted: its times are those that it has."""
    batch = Batch()
    headers = [None if each is None else header(hops=each) for each in hops]
    batch.add(Seen(doubts=doubts), 9, headers, [BEGAN_MS + at | each for at, each in enumerate(told)])

    assert batch.origin == Origin(BEGAN_MS, BEGAN_MS + 1, max(each or 1 for each in hops), "test", 1, 2, doubted)


def test_hops_that_are_no_messages(clock):
    """The flag is handed on over HTTP, and set where the data begins by a clock that is off."""
    propagator = PipelinePropagator()

    def injected(context):
        carrier = {}
        propagator.inject(carrier, context)
        return decode(carrier["otelp"])

    attach(Context())
    handed_on = injected(propagator.extract({"otelp": header(flags=FLAG).decode()}, Context()))
    pipeline_propagator.activate("test", clock)
    right = injected(Context())
    clock.off = True
    wrong = injected(Context())
    pipeline_propagator.activate(None)

    assert (handed_on.flags, handed_on.origin_ms) == (FLAG, BEGAN_MS)
    assert (right.flags, wrong.flags, injected(Context()).flags) == (0, FLAG, 0)


@pytest.mark.parametrize("off", [False, True])
def test_tracestate_has_no_flags(clock, off):
    """So the member says the environment alone where the clock is off, and where what came is doubted."""
    side = Side(ALWAYS_ON, propagate_origin="tracestate")
    side.engine.own_clock, clock.off = clock, off
    begin, producer = sender(side.engine), Producer(attributes={})
    written = []
    for carried in (None, [("otelp", header())], [("otelp", header(flags=FLAG))]):
        sent = dict(begin(producer, "orders", None, None, b"v", carried).headers)
        said = decode(origin_state.in_headers([sent["tracestate"]]))
        written.append((bool(decode(sent["otelp"]).flags & FLAG), said.environment, said.origin_ms > 0))

    assert written == [(off, "production", not off), (False, "test", True), (True, "test", False)]
