"""Ctrl-C, and what a signal handler of the application raises, come at any line of ours: they are the application's.

They reach it, no message is lost or comes twice, and no message is left in hand.
"""

from __future__ import annotations

import os
import random
import signal

import pytest
from kafka import TopicPartition
from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import get_current_span

import otel_pipeline
from tests.contract.injection import Injection

pytestmark = [
    pytest.mark.broker,
    pytest.mark.once,  # An older client swallows what is raised in its callbacks.
    pytest.mark.no_check,
    pytest.mark.parametrize("telemetry", ["compiled"], indirect=True),
]
EVERY = bool(os.environ.get("EVERY_LINE"))
OF_EACH_ACT = 40
MESSAGES = 2_000 if EVERY else 400


def control_c():
    raise KeyboardInterrupt


def time_limit():
    signal.raise_signal(signal.SIGUSR1)


def out_of_time(_number, _frame):
    raise TimeoutError


@pytest.fixture(params=[(control_c, KeyboardInterrupt), (time_limit, TimeoutError)], ids=["ctrl-c", "time limit"])
def interrupt(request):
    before = signal.signal(signal.SIGUSR1, out_of_time)
    yield request.param
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(autouse=True)
def nothing_in_hand():
    attach(Context())
    yield
    attach(Context())


@pytest.fixture
def injection():
    with Injection().in_place(everywhere=False) as injection:
        yield injection


def each_line(injection, interrupt, act, left):
    """Interrupt the act at each of its lines; what is wrong: it did not come through, or something is in hand then.

    Args:
        left: what Python does where an exception leaves the application's loop or block.
    """
    come, kind = interrupt
    lines, wrong = {}, []
    for _ in range(3):
        with injection.at(None, None):
            act()
        lines |= injection.seen
    # Python drops it there, or the client: in what it calls back, at once where the broker has answered already.
    lines = [way for way in lines if {"__del__", "__call__"}.isdisjoint(function for _, _, function in way)]
    for way in lines if EVERY else random.Random(1).sample(lines, min(len(lines), OF_EACH_ACT)):
        reached = False
        try:
            with injection.at(way, come):
                act()
        except kind:
            reached = True
        if reached:
            left()
            if get_current():
                wrong.append((way[:2], f"{otel_pipeline.current()} is in hand"))
        if reached is not injection.hit:
            wrong.append((way[:2], "it did not reach the application"))
    return wrong


def numbers(count):
    return [b"%d" % number for number in range(count)]


def test_a_loop_over_the_consumer(telemetry, mock, injection, interrupt):
    """What was on its way is what the loop gives next."""
    topic = mock.topic()
    mock.send(topic, *numbers(MESSAGES), partition=0)
    pipe = telemetry.instrument()
    consumer, loops, got = mock.consumer(topic), [], []

    def act():
        loops[:] = loops or [iter(consumer)]
        for record in loops[0]:
            got.append(record.value)
            return

    wrong = each_line(injection, interrupt, act, loops.clear)

    assert (wrong, got, pipe.status().errors) == ([], numbers(len(got)), {})


def test_poll(telemetry, mock, injection, interrupt):
    """What was on its way is what the next poll() returns."""
    topic = mock.topic()
    mock.send(topic, *numbers(MESSAGES), partition=0)
    pipe = telemetry.instrument()
    consumer, got = mock.consumer(topic), []

    def act():
        for records in consumer.poll(5_000, max_records=1).values():
            got.extend(record.value for record in records.copy())

    wrong = each_line(injection, interrupt, act, lambda: None)

    assert (wrong, got, pipe.status().errors) == ([], numbers(len(got)), {})


def test_a_loop_over_a_batch(telemetry, mock, injection, interrupt):
    """It is left as any loop is: nothing is in hand, and the batch is whole."""
    topic = mock.topic()
    mock.send(topic, b"0", partition=0)
    pipe = telemetry.instrument()
    (batch,) = mock.consumer(topic).poll(5_000).values()

    def act():
        for _ in batch:
            get_current_span()

    wrong = each_line(injection, interrupt, act, lambda: None)

    assert (wrong, [record.value for record in batch], pipe.status().errors) == ([], numbers(1), {})


def test_process(telemetry, mock, injection, interrupt):
    """The block is left, or not entered."""
    topic = mock.topic()
    mock.send(topic, b"a")
    pipe = telemetry.instrument()
    (record,) = mock.poll(mock.consumer(topic), 1)

    def act():
        with otel_pipeline.process(record), otel_pipeline.inference("model"):
            pass

    wrong = each_line(injection, interrupt, act, lambda: None)

    assert (wrong, pipe.status().errors) == ([], {})


def test_send(telemetry, mock, injection, interrupt):
    """A message is sent once, or not at all; what returned is sent."""
    topic = mock.topic()
    pipe = telemetry.instrument()
    producer, futures = mock.producer(), []

    def act():
        futures.append(producer.send(topic, b"%d" % len(futures), partition=0))

    wrong = each_line(injection, interrupt, act, lambda: futures.append(None))
    producer.flush()
    consumer, partition = mock.consumer(topic), TopicPartition(topic, 0)
    sent = [record.value for record in mock.poll(consumer, consumer.end_offsets([partition])[partition])]
    returned = [b"%d" % number for number, future in enumerate(futures) if future is not None]

    assert (wrong, pipe.status().errors) == ([], {})
    assert set(returned) <= set(sent)
    assert len(sent) == len(set(sent))
