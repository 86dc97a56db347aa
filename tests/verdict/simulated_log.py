"""A simulated process: its clocks, and the log of the topic that it reads; events, not ticks.

What happens is a generator that yields how many seconds pass.
"""

from __future__ import annotations

import heapq
import itertools
import random

from otel_pipeline.engine import pipeline_header
from tests.detectors.conftest import NOW_MS, Watching

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


class SimulatedLog(Watching):
    """The log of `orders`. Wall and monotonic clock run together, but for `skew_s` and `slept_s`."""

    def __init__(self, *, partitions=1, seed=7, **said):
        self.partitions = {number: Partition(number) for number in range(partitions)}
        self.dice = random.Random(seed)
        super().__init__(clock_ns=lambda: self.now_ns, **said)
        self.now_s = START_S
        self._events, self._count = [], itertools.count()
        self._numbers = {}
        self.skew_s = 0.0
        """How far this machine's wall clock is ahead."""
        self.harm_s = None
        """When the harm began, s since the start."""

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
