"""A loop over a batch: whatever the application does with it, what is sent in a step rests on that step's message.

Each way to use a batch is tried on the same five messages; all that was sent says which message, and the span above it
says what it was taken to rest on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import copy
import functools
import gc
import itertools
import json
import logging
import pickle
import sys
import threading
import weakref
from operator import attrgetter
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach, get_current, get_value, set_value
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_pipeline
from otel_pipeline.brokers.kafka.client import NAMES
from otel_pipeline.engine.clients import Consumer, Producer
from otel_pipeline.engine.consumers import Consumers
from otel_pipeline.engine.driven import LoopStep, leave_loops
from otel_pipeline.engine.engine import client_attributes
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.receive import leave_batch, receiver
from otel_pipeline.engine.send import sender

COUNT = 5
EACH = [(number, number) for number in range(COUNT)]
"""Each was sent under its own message."""
TRACER = trace.get_tracer("application")
SYSTEM = client_attributes("kafka", ("broker", 9092))


class Message(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: object
    value: object
    headers: object


FIELDS = MessageFields(
    *map(attrgetter, ("topic", "partition", "offset", "timestamp", "key", "headers", "value")),
    body_bytes=lambda message: len(message.value or b""),
    names=NAMES,
)


class Side:
    """A consumer of `orders` whose client returns batches, and a producer to `scores`."""

    def __init__(self, telemetry, sampler=None, **options):
        telemetry.as_in_production()
        if sampler is not None:
            telemetry.sample(sampler)
        self.telemetry, self.pipe = telemetry, telemetry.instrument(**options)
        engine = self.engine = self.pipe._engine
        self.producer = Producer(attributes=SYSTEM, names=NAMES)
        self.begin, self.received = sender(engine), receiver(engine, FIELDS)
        self.consumers = Consumers(engine, FIELDS, Message, self._made, attributes=SYSTEM, operation="poll")
        self.client, self.count = SimpleNamespace(), itertools.count()

    def _made(self, _client):
        return Consumer(self.engine, FIELDS, attributes=SYSTEM, group="g", operation="poll")

    def polled(self, client=None, count=COUNT):
        """What the client returns next, each message with a sender of its own."""
        consumer = self.consumers.of(client or self.client)
        leave_loops(consumer)
        leave_batch(self.engine, consumer)
        first = next(self.count) * COUNT if client else 0
        sent_ms = self.engine.clock_ns() // 1_000_000
        with_no_span = attach(Context())
        messages = [
            Message("orders", 0, first + number, sent_ms, None, b"a", self._sent(first + number))
            for number in range(count)
        ]
        detach(with_no_span)
        self.received(consumer, (messages,), self.engine.monotonic_ns())
        return self.consumers.drives.driven(consumer, messages)

    def _sent(self, number):
        sending = self.begin(self.producer, "orders", 0, None, b"a", None)
        sending.finish(0, number)
        return sending.headers

    def send(self, message):
        """Send what says which message it was made of."""
        self.begin(self.producer, "scores", 0, None, b"a", None).finish(0, message.offset)

    def found(self):
        """What was sent, as (its message, the message that it rests on, `poll`, or None for a root)."""
        spans = {span.span_id: span for span in self.telemetry.spans()}
        return sorted((offset(span), self._above(span, spans)) for span in spans.values() if span.name == "send scores")

    def _above(self, span, spans):
        above = spans.get(span.parent_span_id)
        while above is not None and above.name not in {"process orders", "poll orders"}:
            above = spans.get(above.parent_span_id)
        return None if above is None else "poll" if above.name == "poll orders" else offset(above)

    def processed(self):
        """Each process span, as (its message, the message whose sender it is the child of)."""
        spans = {span.span_id: span for span in self.telemetry.spans()}
        return [
            (offset(span), offset(spans[span.parent_span_id]))
            for span in self.telemetry.spans()
            if span.name == "process orders"
        ]


def offset(span):
    return span.attributes["kafka.offset"]


@pytest.fixture
def side(telemetry):
    attach(Context())
    yield Side(telemetry)
    attach(Context())


def plain(side):
    for message in side.polled():
        side.send(message)


def enumerated(side):
    for _, message in enumerate(side.polled()):
        side.send(message)


def with_range(side):
    for message, _ in zip(side.polled(), range(9), strict=False):
        side.send(message)


def mapped(side):
    list(map(side.send, side.polled()))


def comprehended(side):
    [side.send(message) for message in side.polled()]


def generated(side):
    for message in (each for each in side.polled()):
        side.send(message)


def handed_through(side):
    def through(batch):
        yield from batch

    for message in through(side.polled()):
        side.send(message)


def chained(side):
    for message in itertools.chain.from_iterable([side.polled()]):
        side.send(message)


def copied_context(side):
    """A thread gets the step, and looks when the loop has gone on."""
    given = [(contextvars.copy_context(), message) for message in side.polled()]
    for context, message in given:
        thread = threading.Thread(target=context.run, args=(side.send, message))
        thread.start()
        thread.join()


def submitted(side):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for message in side.polled():
            pool.submit(side.send, message)


def mapped_by_a_pool(side):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(side.send, side.polled()))


def in_a_thread(side):
    def whole(batch):
        for message in batch:
            side.send(message)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(whole, side.polled()).result()


async def handle(side, message):
    await asyncio.sleep(0)
    side.send(message)


def awaited(side):
    async def main():
        for message in side.polled():
            await handle(side, message)

    asyncio.run(main())


def tasks(side):
    async def main():
        await asyncio.gather(*[asyncio.ensure_future(handle(side, message)) for message in side.polled()])

    asyncio.run(main())


def to_threads(side):
    async def main():
        for message in side.polled():
            await asyncio.to_thread(side.send, message)

    asyncio.run(main())


def sharing_tasks(side):
    """Three workers take from one iterator, as they would from a queue."""

    async def main():
        messages = iter(side.polled())

        async def work():
            for message in messages:
                await handle(side, message)

        await asyncio.gather(work(), work(), work())

    asyncio.run(main())


def sharing_threads(side):
    messages, lock = iter(side.polled()), threading.Lock()
    both = threading.Barrier(2)

    def work():
        for _ in range(2):
            with lock:
                message = next(messages)
            both.wait(10)  # Each has one in hand.
            side.send(message)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for message in messages:
        side.send(message)


def processed_explicitly(side):
    for message in side.polled():
        with otel_pipeline.process(message):
            side.send(message)


def with_a_span(side):
    for message in side.polled():
        with TRACER.start_as_current_span("work"):
            side.send(message)


def with_baggage(side):
    for message in side.polled():
        token = attach(baggage.set_baggage("tenant", "a"))
        side.send(message)
        detach(token)


DRIVEN = [
    plain,
    enumerated,
    with_range,
    mapped,
    comprehended,
    generated,
    handed_through,
    chained,
    copied_context,
    submitted,
    mapped_by_a_pool,
    in_a_thread,
    awaited,
    tasks,
    to_threads,
    sharing_tasks,
    sharing_threads,
    processed_explicitly,
    with_a_span,
    with_baggage,
]


@pytest.mark.parametrize("way", DRIVEN, ids=[way.__name__ for way in DRIVEN])
def test_each_message_is_in_hand_in_its_step(side, way):
    """One process span for each, child of its sender, and what was sent is below it; nothing is left behind."""
    way(side)

    assert (side.found(), sorted(side.processed())) == (EACH, EACH)
    assert (get_current(), otel_pipeline.current(), side.pipe.status().errors) == ({}, None, {})


def test_a_batch_that_is_handled_twice(side):
    """Each message has a span for each time."""
    batch = side.polled()
    for _ in range(2):
        for message in batch:
            side.send(message)

    assert (sorted(side.processed()), len(side.found())) == (sorted(EACH * 2), 2 * COUNT)


def listed(side):
    for message in list(side.polled()):
        side.send(message)


def sliced(side):
    for message in side.polled()[:]:
        side.send(message)


def ordered(side):
    for message in sorted(side.polled(), key=lambda each: -each.offset):
        side.send(message)


def backwards(side):
    for message in reversed(side.polled()):
        side.send(message)


def by_index(side):
    batch = side.polled()
    for number in range(len(batch)):
        side.send(batch[number])


def unpacked(side):
    first, *others = side.polled()
    for message in (first, *others):
        side.send(message)


def gathered(side):
    async def main():
        await asyncio.gather(*[handle(side, message) for message in side.polled()])

    asyncio.run(main())


def after_the_loop(side):
    batch = side.polled()
    for _ in batch:
        pass
    for number in range(COUNT):
        side.send(batch[number])


UNKNOWN = [listed, sliced, ordered, backwards, by_index, unpacked, gathered, after_the_loop]


@pytest.mark.parametrize("way", UNKNOWN, ids=[way.__name__ for way in UNKNOWN])
def test_what_cannot_be_attributed_is_a_child_of_the_batch(side, way):
    """Never a new root, and no span says that a message was processed."""
    way(side)

    assert side.found() == [(number, "poll") for number in range(COUNT)]
    assert (side.processed(), get_current(), side.pipe.status().errors) == ([], {}, {})


def test_so_is_a_model_call_and_what_is_injected_by_hand(side, telemetry):
    """They have the span of the batch above them, and their ages are the batch's."""
    batch = side.polled()
    with otel_pipeline.inference("churn"):
        pass
    otel_pipeline.inject([], destination="scores")

    spans = {span.name: span for span in telemetry.spans()}
    poll = spans["poll orders"].span_id
    assert [spans[name].parent_span_id for name in ("predict churn", "create scores")] == [poll, poll]
    assert (len(batch), spans["predict churn"].attributes["otel_pipeline.data.inputs"]) == (COUNT, COUNT)


@pytest.mark.parametrize(
    "look",
    [
        lambda batch: [message.value for message in batch],
        lambda batch: {message.offset: message for message in batch},
        lambda batch: functools.reduce(lambda total, message: total + message.offset, batch, 0),
        lambda batch: max(batch, key=lambda message: message.offset),
        [].extend,
        lambda batch: print(*batch, file=SimpleNamespace(write=len)),
        lambda batch: [None for message in batch if get_value("suppress_instrumentation")],
        lambda batch: next(iter(batch)),
        lambda batch: any(message.offset == 2 for message in batch),
    ],
)
def test_nobody_looks_no_span(side, telemetry, look):
    """Nothing is made, nothing is current afterwards."""
    batch = side.polled()
    before = len(telemetry.spans())
    look(batch)

    assert (len(telemetry.spans()), get_current(), side.pipe.status().errors) == (before, {}, {})


LOOKS = {
    "the current span": lambda _message: trace.get_current_span().set_attribute("mine", 1),
    "a log line": lambda _message: logging.getLogger("application").warning("looked"),
    "current()": lambda _message: otel_pipeline.current(),
    "a copy of the context": lambda _message: Context({**get_current()}),
    "what set_value makes": lambda _message: set_value("a", 1),
    "a merged context": lambda _message: get_current() | {"a": 1},
    "the other way round": lambda _message: {"a": 1} | get_current(),
    "its keys": lambda _message: (list(get_current()), list(get_current().keys()), list(get_current().values())),
    "its items": lambda _message: dict(get_current().items()),
    "baggage": lambda _message: baggage.get_all(),
    "capture()": lambda _message: otel_pipeline.flow.capture(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_who_looks_finds_the_message(side, look):
    """Each of these needs the span."""
    for message in side.polled():
        look(message)

    assert (sorted(side.processed()), get_current(), side.pipe.status().errors) == (EACH, {}, {})


def test_a_span_begins_with_its_step_and_ends_with_it(side, telemetry):
    """Not when somebody looks. The clock is 1 ms later at each look."""
    batch = side.polled(count=2)
    for _ in batch:
        began = telemetry.clock_ns()
        trace.get_current_span()
        ended = telemetry.clock_ns()
        break

    (span,) = [span for span in telemetry.spans() if span.name == "process orders"]
    assert (span.start_ns < began, ended < span.end_ns) == (True, True)


def test_a_task_that_looks_when_the_loop_has_gone_on_makes_no_longer_span(side, telemetry):
    """The step had ended: so had the handling that it stands for."""
    ends = []

    async def main():
        tasks = [asyncio.create_task(handle(side, message)) for message in side.polled()]
        ends.append(telemetry.clock_ns())
        await asyncio.gather(*tasks)

    asyncio.run(main())
    spans = [span for span in telemetry.spans() if span.name == "process orders"]
    assert (len(spans), max(span.end_ns for span in spans) < ends[0] + 2_000_000) == (COUNT, True)


def test_a_token_that_is_given_back_in_the_next_step(side):
    """It brings back what was current in the step before, so that nobody can tell which message is in hand."""
    token = None
    for message in side.polled():
        if token is not None:
            detach(token)
        token = attach(set_value("mine", 1))
        side.send(message)
    detach(token)

    assert side.found() == [(0, 0), *((number, "poll") for number in range(1, COUNT))]
    assert (otel_pipeline.current(), trace.get_current_span().is_recording()) == (None, False)


def test_nested_loops_over_one_batch(side):
    """The inner loop's message is in hand inside it, the outer loop's again after it."""
    batch = side.polled(count=2)
    for outer in batch:
        for inner in batch:
            side.send(inner)
        side.send(outer)

    assert side.found() == [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1), (1, 1)]
    assert get_current() == {}


def test_two_batches_side_by_side(side):
    """Of two that are in hand, the one that was taken last; nothing is left of either."""
    other = SimpleNamespace()
    for _, second in zip(side.polled(), side.polled(other), strict=True):
        side.send(second)

    assert (side.found(), get_current()) == ([(number, number) for number, _ in EACH], {})


def test_two_tasks_with_a_batch_each(side):
    """Interleaved: each its own."""
    clients = [SimpleNamespace() for _ in range(2)]

    async def work(client):
        for message in side.polled(client):
            await handle(side, message)

    async def main():
        await asyncio.gather(*map(work, clients))

    asyncio.run(main())

    assert side.found() == [(number, number) for number in range(2 * COUNT)]


@pytest.mark.parametrize("leave", ["break", "return", "raise"])
def test_the_loop_is_left(side, leave):
    """Nothing is current after it, and what is sent then rests on the batch."""

    def loop():
        for message in batch:
            side.send(message)
            if message.offset == 1:
                if leave == "break":
                    break
                if leave == "return":
                    return
                raise ValueError

    batch = side.polled()
    try:
        loop()
    except ValueError:
        assert leave == "raise"
    after = get_current()
    side.send(batch[4])

    assert (after, side.found()) == ({}, [(0, 0), (1, 1), (4, "poll")])


def test_an_iterator_that_is_kept_is_left_at_the_next_poll(side):
    """Until then its message is in hand, as that of `next(consumer)` is."""
    messages = iter(side.polled())
    side.send(next(messages))
    held = otel_pipeline.current().offset
    side.polled(count=1)

    assert (held, otel_pipeline.current(), get_current()) == (0, None, {})
    del messages
    assert get_current() == {}


def test_an_iterator_that_is_dropped(side):
    """Its message is left at once."""
    messages = iter(side.polled())
    next(messages)
    trace.get_current_span()
    del messages
    gc.collect()

    assert (get_current(), side.processed()) == ({}, EACH[:1])


def test_a_batch_of_the_applications_own_in_a_loop(side, telemetry):
    """Collected from messages that nobody looked at: its span is the child of none of them; then the loop goes on."""
    buffer = []
    for message in side.polled(count=3):
        buffer.append(message)
        if len(buffer) == 2:
            with otel_pipeline.process(buffer):
                pass
            side.send(message)

    (own,) = [span for span in telemetry.spans() if span.attributes.get("messaging.batch.message_count") == 2]
    assert (own.name, own.parent_span_id, side.found(), get_current()) == ("process orders", "", [(1, 1)], {})


def test_process_sees_the_exception_of_a_step(side, telemetry):
    """The step's own span has it."""

    def loop():
        for message in side.polled():
            with otel_pipeline.process(message):
                raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        loop()

    (span,) = [span for span in telemetry.spans() if span.name == "process orders"]
    assert (span.attributes["error.type"], get_current()) == ("ValueError", {})


def test_counts_and_ages_are_those_of_the_batch(side, telemetry):
    """A loop that looks at each message counts none of them again."""
    for message in side.polled():
        side.send(message)
    side.polled(count=0)

    counted = {
        name: sum(getattr(point, "count", None) or point.value for point in metric.points)
        for name in ("messaging.client.consumed.messages", "messaging.process.duration")
        if (metric := telemetry.metric(name))
    }
    assert counted == {"messaging.client.consumed.messages": COUNT, "messaging.process.duration": COUNT}


def test_it_is_a_list(side):
    """Equal to what the client returned, and what is made of it is plain."""
    batch = side.polled()
    same = [batch[number] for number in range(COUNT)]
    made = [batch[1:], batch.__add__([]), batch * 1, batch.copy(), copy.copy(batch)]
    made.append(pickle.loads(pickle.dumps(batch)))  # noqa: S301 - our own

    assert (batch, len(batch), bool(batch), isinstance(batch, list), batch[-1]) == (same, COUNT, True, True, same[-1])
    assert [type(each) for each in made] == [list] * len(made)
    assert (made[-1], copy.deepcopy(batch), repr(batch)) == (same, same, repr(same))
    assert (batch.index(same[3]), batch.count(same[0]), same[2] in batch) == (3, 1, True)
    assert json.dumps(batch, default=str) == json.dumps(same, default=str)
    batch.append(same[0])
    batch.sort(key=lambda message: message.offset)
    batch += same[:1]
    assert (len(batch), sys.getsizeof(batch) > 0) == (COUNT + 2, True)
    for refused in (lambda: weakref.ref(batch), lambda: setattr(batch, "mine", 1), lambda: hash(batch)):
        with pytest.raises((TypeError, AttributeError)):
            refused()


def test_nothing_of_it_is_kept(side):
    """Neither messages nor the list, once the application has let go of them."""

    class Held:
        offset, topic, partition, headers, timestamp, key, value = 0, "orders", 0, None, 0, None, b""

    consumer = side.consumers.of(side.client)
    batch = side.consumers.drives.driven(consumer, [Held(), Held()])
    gone = [weakref.ref(each) for each in batch.copy()]
    gc.disable()
    try:
        for _message in batch:
            trace.get_current_span()
        del batch, _message
        assert ([each() for each in gone], consumer.loops) == ([None, None], set())
    finally:
        gc.enable()


def test_plain_lists_where_the_configuration_says_so(telemetry, tmp_path):
    """`batches: plain`."""
    file = tmp_path / "otel_pipeline.yaml"
    file.write_text("batches: plain\n")
    side = Side(telemetry, config_file=file)
    batch = side.polled()
    for message in batch:
        side.send(message)

    assert (type(batch), side.found()) == (list, [(number, "poll") for number in range(COUNT)])


def test_suppressed_in_the_loop(side):
    """Nothing is recorded; the loop goes on."""
    with suppress_instrumentation():
        batch = [message.offset for message in side.polled() if otel_pipeline.current() is None]

    assert (batch, side.processed(), get_current()) == (list(range(COUNT)), [], {})


def test_not_sampled(telemetry):
    """The message is in hand without a span that is recorded."""
    side = Side(telemetry, ALWAYS_OFF)
    seen = [otel_pipeline.current().offset for _ in side.polled()]

    assert (seen, telemetry.spans(), get_current()) == (list(range(COUNT)), [], {})


def test_after_uninstrument_it_is_a_plain_loop(side):
    """A batch that is still held."""
    batch = side.polled()
    side.pipe.uninstrument()
    seen = [type(get_current()) for _ in batch]

    assert (seen, side.processed()) == ([Context] * COUNT, [])


@pytest.mark.no_check
@pytest.mark.parametrize("name", ["begin", "state_of", "now"])
def test_a_failure_of_ours_leaves_the_loop_alone(telemetry, name):
    """Counted, and every message comes."""
    attach(Context())
    side = Side(telemetry)
    batch, drives = side.polled(), side.consumers.drives

    def fail(*_arguments):
        raise RuntimeError("of ours")

    kind = type(drives)
    if name == "state_of":
        original, kind.state_of = kind.state_of, fail
    else:
        setattr(drives, name, fail)
    try:
        seen = [(message.offset, trace.get_current_span().is_recording()) for message in batch]
    finally:
        if name == "state_of":
            kind.state_of = original

    assert [number for number, _ in seen] == list(range(COUNT))
    assert (get_current(), set(side.pipe.status().errors)) == ({}, {"batch.loop"})


def test_it_says_what_it_is(side):
    """For who prints the current context."""
    said = []
    for _ in side.polled(count=1):
        context = get_current()
        said.append(repr(context))
        trace.get_current_span()
        said += [repr(context), context == context, context != context, type(context) is LoopStep]  # noqa: PLR0124

    assert said == [
        "<a message in hand, not looked at>",
        "<a message in hand, looked at>",
        True,
        False,
        True,
    ]
