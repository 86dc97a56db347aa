"""A process that reads a topic, simulated: log, broker, client, application and clocks; events, not ticks.

Detectors, evidence and verdict are the real ones. What is simulated is what they are told by: each function of an
application or a broker is a generator that yields how many seconds pass.
"""

from __future__ import annotations

import heapq
import itertools
import random
from operator import itemgetter
from types import SimpleNamespace

from otel_pipeline.detectors.settings import Objective
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.batch import Batch
from otel_pipeline.engine.clients import Consumer, Position
from otel_pipeline.engine.messages import MessageFields
from tests.detectors.conftest import NOW_MS, Watching

FIELDS = MessageFields(*map(itemgetter, range(8)))
START_S = 1_000.0


class Partition:
    """One partition's log and what the reader knows of it."""

    def __init__(self, number):
        self.number = number
        self.messages = []
        self.open_from = None
        """Where an open transaction begins; None without one."""
        self.fetched = 0
        """Up to where messages are in the client's buffer."""
        self.position = 0
        self.paused = False

    @property
    def end(self):
        return len(self.messages)

    @property
    def stable(self):
        return self.end if self.open_from is None else self.open_from


class Simulation(Watching):
    """One consumer of `orders`. Wall and monotonic clock run together, but for `step_clock`."""

    def __init__(
        self, *, partitions=1, threshold_s=None, objective=0.99, seed=7, max_poll_interval_s=300.0, member=True, **said
    ):
        objectives = ()
        if threshold_s is not None:
            objectives = (Objective("fresh", destination="orders", threshold_s=threshold_s, objective=objective),)
        self.partitions = {number: Partition(number) for number in range(partitions)}
        self.member, self.max_poll_interval_s = member, max_poll_interval_s
        self.dice = random.Random(seed)
        super().__init__(objectives=objectives, clock_ns=lambda: self.now_ns, **said)
        self.now_s = START_S
        self._events, self._count = [], itertools.count()
        self._numbers = {}
        self.skew_s = 0.0
        """How far this machine's wall clock is ahead."""
        self.broker_up = True
        self.fetching = True
        self.serving = True
        """Whether fetches bring messages, and not only the log's end."""
        self.pool_works = True
        """Whether there are threads behind a pool's queue."""
        self.harm_s = None
        """When the harm began, s since the start."""
        self._answer_s = START_S
        """When the next fetch is answered."""
        self.seen = []
        """(seconds since the start, light, colour, row, words) at each change of colour or row."""
        self._was, self._words = {}, {}
        self.spawn(self._fetches())
        self.spawn(self._looks())

    def begin(self):
        return Consumer(
            self.engine,
            FIELDS,
            attributes={"messaging.system.name": "kafka"},
            client_id="c",
            group="g",
            operation="poll",
            positions=self._positions,
            is_member=lambda: self.member,
            max_poll_interval_s=self.max_poll_interval_s,
        )

    def _positions(self):
        return {("orders", each.number): Position(each.position, each.paused) for each in self.partitions.values()}

    # Time

    def spawn(self, generator):
        heapq.heappush(self._events, (self.now_s, next(self._count), generator))

    def run(self, seconds):
        """Let so many seconds pass."""
        until = self.now_s + seconds
        while self._events and self._events[0][0] <= until:
            self.now_s, _, generator = heapq.heappop(self._events)
            self._set_wall()
            wait_s = next(generator, None)
            if wait_s is not None:
                heapq.heappush(self._events, (self.now_s + wait_s, next(self._count), generator))
        self.now_s = until
        self._set_wall()
        return self

    def _set_wall(self):
        self.now_ms = NOW_MS + int((self.now_s - START_S + self.skew_s + self.slept_s) * 1000)

    def harms(self):
        """Note that the harm begins now, if it has not begun yet."""
        if self.harm_s is None:
            self.harm_s = self.at_s

    @property
    def at_s(self):
        return self.now_s - START_S

    @property
    def now_ns(self):
        return int(self.now_s * 1e9)

    def stands(self, seconds, rate, *, asleep=False):
        """Let nothing of the process run for so long, while others write on.

        Args:
            seconds: how long.
            rate: messages per second.
            asleep: the machine sleeps, and the monotonic clock does not count; else the process is stopped.
        """
        for turn in range(int(seconds * rate)):
            self.write(1, age_s=-turn / rate)
        if asleep:
            self.slept_s += seconds
        else:
            self.now_s += seconds
            self._events = [(at_s + seconds, count, generator) for at_s, count, generator in self._events]
        self._set_wall()
        return self

    # The log

    def write(self, count, *, partition=None, producer=7, age_s=0.0, again=0, value=b"{}", environment="production"):
        """Have a producer append so many messages.

        Args:
            count: how many.
            partition: to which, or to any.
            producer: its id.
            age_s: how old they are when the broker gets them.
            again: gives a number for the second time, or one that is still to be given; the next number stays.
            value: what is in them.
            environment: where they began.
        """
        for _ in range(count):
            number = self.dice.choice(list(self.partitions)) if partition is None else partition
            into = self.partitions[number]
            last = self._numbers.get((number, producer), 0)
            given = last + 1 + again
            if not again:
                self._numbers[number, producer] = given
            sent_ms = NOW_MS + int((self.at_s + self.slept_s - age_s) * 1000)
            header = pipeline_header.encode(
                flags=pipeline_header.PER_PARTITION,
                hops=1,
                environment=environment,
                origin_ms=sent_ms,
                newest_ms=0,
                path=1,
                producer_id=producer,
                sequence=given,
                tag=pipeline_header.tag_of("orders", number),
            )
            into.messages.append(("orders", number, into.end, sent_ms, None, [("otelp", header)], value, 2))

    def lose(self, count, *, partition=0, producer=7):
        """Have so many messages get lost on their way to the broker."""
        self._numbers[partition, producer] += count

    def producer(self, rate, *, until_s=float("inf"), evenly=False, **how):
        """Write at a rate, messages per second; a function of the seconds since the start, or a number."""
        while self.at_s < until_s:
            now = rate(self.at_s) if callable(rate) else rate
            if now <= 0:
                yield 1.0
                continue
            self.write(1, **how)
            yield 1 / now if evenly else self.dice.expovariate(now)

    def backlog(self, count, **how):
        self.write(count, **how)
        return self

    # The client

    def _fetches(self):
        """Ask for more every half second, as far as the buffer is not full."""
        while True:
            if self.broker_up and self.fetching:
                sent_s, self._answer_s = self.now_s, self.now_s + 0.005
                yield 0.005
                for each in self.partitions.values():
                    if each.paused or each.fetched - each.position > 500:
                        continue
                    observer = self.consumer.fetch_observer("orders", each.number)
                    observer.fetched(sent_s, self.now_s, each.fetched, each.stable, each.end, 0)
                    if self.serving:
                        each.fetched = min(each.stable, each.fetched + 500)
            self._answer_s = self.now_s + 0.5
            yield 0.495

    @property
    def _answer_in_s(self):
        """How long to wait for the next answer, at least a millisecond."""
        return max(self._answer_s - self.now_s, 0.0) + 0.001

    def _available(self, limit):
        return [
            (each, each.messages[each.position : min(each.fetched, each.position + limit)])
            for each in self.partitions.values()
            if not each.paused and each.position < each.fetched
        ]

    def poll(self, *, timeout_s=1.0, max_records=500, explicit=False):
        """Poll once: yields while it waits, and returns the messages."""
        consumer, polling = self.consumer, self.consumer.polling
        if consumer.batch is not None:
            batch, consumer.batch = consumer.batch, None
            if not consumer.explicit:
                for observer, offset, origins in batch.parts:
                    observer.processed_batch(offset, origins, self.now_ms)
        polling.begin(self.now_ns, by_iterator=False)
        deadline_s = self.now_s + timeout_s
        while not (found := self._available(max_records)) and self.now_s < deadline_s:
            yield min(self._answer_in_s, deadline_s - self.now_s)
        polling.end(self.now_ns)
        batch, messages = Batch(), []
        for each, polled in found:
            each.position += len(polled)
            state = consumer.partition("orders", each.number)
            headers = [message[5][-1][1] for message in polled]
            origins = state.observer.batch(polled, headers, self.now_ms)
            batch.add(state.observer, polled[-1][2], headers, origins)
            messages += polled
        if batch.parts:
            consumer.batch = batch
        if explicit:
            consumer.explicit = True
        return messages

    def next(self):
        """Hand out one message by an iterator."""
        consumer, polling = self.consumer, self.consumer.polling
        self.leave()
        if not self._available(1):
            polling.begin(self.now_ns, by_iterator=True)
            while not self._available(1):
                yield self._answer_in_s
            polling.end(self.now_ns)
        each, (message,) = self.dice.choice(self._available(1))
        each.position += 1
        state = consumer.partition("orders", each.number)
        state.handed_offset = message[2]
        header = message[5][-1][1]
        origin = state.observer.one(
            message, message[2], message[3], header, pipeline_header.fields(header), self.now_ms
        )
        consumer.open = SimpleNamespace(
            destination="orders",
            partition=each.number,
            offset=message[2],
            started_ns=self.now_ns,
            state=state,
            origin_ms=origin,
        )
        return message

    def leave(self):
        delivery, self.consumer.open = self.consumer.open, None
        if delivery is not None:
            self._processed(delivery.state, delivery.offset, delivery.origin_ms, delivery.started_ns)

    def _processed(self, state, offset, origin_ms, started_ns):
        state.process_duration.cell.record((self.now_ns - started_ns) / 1e9)
        state.observer.processed(offset, origin_ms, self.now_ms)

    def seek(self, partition, offset):
        each = self.partitions[partition]
        each.position = each.fetched = offset
        self.consumer.partition("orders", partition).observer.sought(offset)

    # Applications

    def iterator(self, work):
        """Handle one message after the other; `work` gives the seconds that one takes."""
        while True:
            message = yield from self.next()
            yield work(message)

    def poller(self, work, *, max_records=500, sleep_s=0.0):
        """Poll, handle all, poll again."""
        while True:
            messages = yield from self.poll(max_records=max_records)
            yield sum(work(message) for message in messages) + sleep_s

    def pool(self, work, workers):
        """Poll, and hand everything to threads that use `process()`."""
        queue, idle = [], workers

        def worker():
            nonlocal idle
            while queue:
                message = queue.pop(0)
                state = self.consumer.partition("orders", message[1])
                self.consumer.explicit = True
                state.observer.began(message[2], message)
                started_ns = self.now_ns
                yield work(message)
                self._processed(state, message[2], message[3], started_ns)
            idle += 1

        while True:
            queue += yield from self.poll(timeout_s=0.2)
            awake = min(idle, len(queue)) if self.pool_works else 0
            idle -= awake
            for _ in range(awake):
                self.spawn(worker())
            yield 0.001

    # The verdict

    def _looks(self):
        self.flows.look()  # The process has been looked at before its first message comes.
        while True:
            yield 1.0
            self.look()

    def look(self):
        """Look and judge, as once a second."""
        self.flows.look()
        found = [each for each in self._gathering.evidence() if not each.of_producer]
        for flow in self._verdict.judge(found, self.now_s, self.now_ms / 1000):
            for name, light in flow.lights.items():
                self._words[name] = light.why
                if self._was.get(name) != (light.state, light.row):
                    self._was[name] = light.state, light.row
                    self.seen.append((round(self.at_s), name, light.state, light.row, light.why))

    def of(self, name):
        """The changes of one light: (second, colour, row)."""
        return [(at_s, state, row) for at_s, light, state, row, _ in self.seen if light == name]

    def words(self, name):
        """What a light says now."""
        return self._words[name]

    def colours(self, name, since_s=0):
        """The colours that a light had."""
        return {state for at_s, state, _ in self.of(name) if at_s >= since_s}

    def first(self, name, *colours, row=None):
        """When a light first had one of these colours, and the row, s; None where it never did."""
        return next(
            (at_s for at_s, state, of in self.of(name) if state in colours and (row is None or row == of)), None
        )
