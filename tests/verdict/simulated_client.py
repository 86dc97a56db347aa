"""A simulated client of a simulated log, and what applications do with it."""

from __future__ import annotations

from operator import itemgetter
from types import SimpleNamespace

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.batch import Batch
from otel_pipeline.engine.clients import Consumer, Position
from otel_pipeline.engine.messages import MessageFields
from tests.verdict.simulated_log import START_S, SimulatedLog

FIELDS = MessageFields(*map(itemgetter, range(8)))


class SimulatedClient(SimulatedLog):
    """One consumer of `orders`."""

    def __init__(self, *, max_poll_interval_s=300.0, member=True, **said):
        self.member, self.max_poll_interval_s = member, max_poll_interval_s
        self.assigned = True
        """Whether the group has given it the partitions."""
        super().__init__(**said)
        self.broker_up = True
        self.fetching = True
        self.serving = True
        """Whether fetches bring messages, and not only the log's end."""
        self.pool_works = True
        """Whether there are threads behind a pool's queue."""
        self._answer_s = START_S
        """When the next fetch is answered."""

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
        held = self.partitions.values() if self.assigned else ()
        return {("orders", each.number): Position(each.position, each.paused) for each in held}

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
