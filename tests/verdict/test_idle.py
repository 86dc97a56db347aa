"""Flows in which nothing moves are judged every 10 s, and written when something has changed; all others each second."""

from __future__ import annotations

import json
from operator import itemgetter
from types import SimpleNamespace

import pytest

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.verdict import monitoring
from otel_pipeline.verdict.document import Document

FIELDS = MessageFields(*map(itemgetter, range(8)))


class Process:
    """A process whose seconds the test counts."""

    def __init__(self, telemetry, monkeypatch, **arguments):
        self.pipe = telemetry.instrument(**arguments)
        self.monitoring, self.now_s = self.pipe._monitoring, 1_000.0
        clock = SimpleNamespace(time=lambda: 1e9 + self.now_s, monotonic=lambda: self.now_s)
        monkeypatch.setattr(monitoring, "time", clock)
        self.judged = []
        gathering = self.monitoring.load().gathering
        of_flow = gathering._of_flow

        def counted(now):
            self.judged.append(now.flow.key.destination)
            return of_flow(now)

        gathering._of_flow = counted
        self.consumer = Consumer(
            self.pipe._engine, FIELDS, attributes={"messaging.system.name": "kafka"}, group="g", operation="poll"
        )

    def deliver(self, destination, offset, *, number=None, processed=True):
        observer = self.consumer.partition(destination, 0).observer
        header = pipeline_header.encode(
            flags=pipeline_header.PER_PARTITION,
            hops=1,
            environment="test",
            origin_ms=1,
            newest_ms=0,
            path=1,
            producer_id=7,
            sequence=offset + 1 if number is None else number,
            tag=pipeline_header.tag_of(destination, 0),
        )
        message = (destination, 0, offset, 1, None, [("otelp", header)], {"at": offset}, 1)
        observer.one(message, offset, 1, header, pipeline_header.fields(header), 2)
        if not processed:
            observer.began(offset, message)
        else:
            observer.processed(offset, 1, 2)

    def beats(self, count):
        """What was judged at each of so many seconds."""
        found = []
        for _ in range(count):
            self.now_s += 1
            self.judged.clear()
            self.monitoring.beat()
            found.append(sorted(self.judged))
        return found


@pytest.fixture
def process(telemetry, monkeypatch, tmp_path):
    """A function that begins one, with a configuration."""

    def begin(text=""):
        (tmp_path / "otel_pipeline.yaml").write_text(text)
        return Process(telemetry, monkeypatch, config_file=tmp_path / "otel_pipeline.yaml")

    return begin


def test_flows_at_rest(process):
    """Each is judged every 10 s, and not all of them at once; health() has all."""
    running = process()
    names = [f"orders-{at:02}" for at in range(50)]
    for name in names:
        running.deliver(name, 0)
    first = running.beats(3)
    running.beats(10)
    found = running.beats(20)

    assert first[0] == names
    assert [len(each) for each in found] == [5] * 20
    assert all(sum(name in each for each in found) == 2 for name in names)
    assert [flow.destination for flow in running.monitoring._latest.flows] == names


def test_flows_that_come_to_rest_together(process):
    """Neither are those that have moved for a while, each second, all due at once."""
    running = process()
    names = [f"orders-{at:02}" for at in range(50)]
    for second in range(14):
        for name in names:
            running.deliver(name, second)
        running.beats(1)
    running.beats(10)

    assert [len(each) for each in running.beats(20)] == [5] * 20


def test_what_moves_is_judged_each_second(process):
    """A message that came, one that is in hand, a number that is missing, a destination that messages are expected at."""
    running = process("destinations: {expected: {expect_every: 1h}}")
    for name in ("busy", "expected", "gap", "rests"):
        running.deliver(name, 0)
    running.deliver("gap", 1, number=9)
    running.beats(10)
    found = []
    for second in range(1, 7):
        running.deliver("busy", second)
        found += running.beats(1)

    assert all(set(each) >= {"busy", "expected", "gap"} for each in found)
    assert sum("rests" in each for each in found) <= 1
    assert {"rests"} <= {name for each in running.beats(5) for name in each}


def test_a_message_that_comes_is_seen_at_once(process):
    """In the second in which it came."""
    running = process()
    running.deliver("orders", 0)
    running.beats(14)
    rested = running.beats(10)
    at = next(at for at, each in enumerate(rested) if each)
    running.beats(at + 1)
    running.deliver("orders", 1)

    assert sum(map(len, rested)) == 1
    assert running.beats(1) == [["orders"]]


def test_whoever_asks_for_a_verdict_gets_one_of_now(process):
    """`judge()` judges all: pytest, and a process that nobody judges regularly."""
    running = process()
    running.deliver("orders", 0)
    running.beats(10)
    running.judged.clear()
    running.monitoring.judge()

    assert running.judged == ["orders"]


class File:
    """Stands in for the state file."""

    def __init__(self):
        self.texts, self.there = [], True

    def is_there(self):
        return self.there

    def write(self, text):
        self.texts.append(text)

    def close(self):
        pass


def test_the_state_file_is_written_when_something_has_changed(process):
    """Else every 3 s, and at once where it is gone; it holds what `health()` does."""
    running = process()
    file = running.monitoring._file = File()
    for at in range(20):
        running.deliver(f"orders-{at}", 0)
    running.beats(20)
    file.texts.clear()
    running.beats(12)
    written = len(file.texts)
    file.there = False
    running.beats(1)
    again = len(file.texts) - written
    running.deliver("orders-3", 1)
    running.beats(1)

    assert (written, again) == (4, 1)
    assert json.loads(file.texts[-1]) == json.loads(json.dumps(running.monitoring._latest.to_dict(), default=str))


def test_what_has_not_changed_is_not_written_anew(process):
    """The text of a flow is that of before."""
    running = process()
    for name in ("a", "b"):
        running.deliver(name, 0)
    running.beats(20)
    document, health = Document(), running.monitoring._latest
    document.text(health)
    (known_a, text_a), (_, text_b) = document._texts.values()
    running.deliver("b", 1)
    running.beats(1)
    document.text(running.monitoring._latest)

    assert known_a is health.flows[0]
    (_, again_a), (_, again_b) = document._texts.values()
    assert again_a is text_a
    assert again_b is not text_b


def test_what_comes_before_the_first_second_may_wait_to_be_explained(process):
    """Messages that are too old when a process begins may be those of a producer whose clock is wrong."""
    monitoring = process().monitoring
    before = monitoring.flows.looked_at
    monitoring.begin(None, lambda _leave: lambda: None)
    begun = monitoring.flows.looked_at
    monitoring.stop()

    assert (before, begun) == (False, True)
