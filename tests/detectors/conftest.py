"""Everything that watches data, with plain tuples for messages: no client, no broker, a clock that the test moves."""

from __future__ import annotations

from dataclasses import fields
from operator import itemgetter
from time import perf_counter_ns
from types import SimpleNamespace

import pytest

from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.detectors.flows import Flows
from otel_pipeline.detectors.settings import HealthSettings
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.clients import Consumer, Position
from otel_pipeline.engine.engine import Engine
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals
from otel_pipeline.verdict.gathering import Gathering
from otel_pipeline.verdict.verdict import Verdict

NOW_MS = 1_795_435_200_000
FIELDS = MessageFields(*map(itemgetter, range(8)))


class Said:
    """What is configured, the same for every destination."""

    def __init__(self, said):
        self._said = said

    def of(self, owner, **others):
        known = {each.name for each in fields(owner)}
        return owner(**{**others, **{name: value for name, value in self._said.items() if name in known}})

    def destination(self, owner, _name):
        return self.of(owner)


class Watching:
    """A process that watches `orders` for the group `g`. What is configured is given by the names of options' fields."""

    def __init__(
        self, *, environment="production", tables=None, load=lambda _destination: None, clock_ns=perf_counter_ns, **said
    ):
        self.totals, self.guard = Totals(), Guard()
        self.now_ms, self.now_s, self.slept_s = NOW_MS, 1000.0, 0.0
        configured = Said(said)
        settings = configured.of(HealthSettings, environment=environment, configured=configured)
        self.contracts = Contracts(self.totals, configured, load=load, problem=self.guard.problem, clock_ns=clock_ns)
        self.flows = Flows(
            self.totals,
            settings,
            guard=self.guard,
            clock_ms=lambda: self.now_ms,
            monotonic_s=lambda: self.now_s,
            work_ns=lambda: int(self.now_s * 1e9),
            steady_s=lambda: self.now_s + self.slept_s,
            values=self.contracts,
            tables=tables,
        )
        self.engine = Engine(
            spans=SimpleNamespace(),
            propagation=SimpleNamespace(),
            totals=self.totals,
            guard=self.guard,
            monotonic_ns=lambda: int(self.now_s * 1e9),
        )
        self.flows.attach(self.engine)
        self.contracts.attach(self.engine)
        self._gathering = Gathering(self.flows, self.contracts, self.engine)
        self._verdict = Verdict(settings, detectors=self.flows.detectors, guard=self.guard)
        self.at = {("orders", 0): 0}
        self.consumer = self.begin()

    def begin(self):
        """A new consumer of the group, whose positions are known."""
        return Consumer(
            self.engine,
            FIELDS,
            attributes={"messaging.system.name": "kafka"},
            client_id=None,
            group="g",
            excluded=False,
            operation="poll",
            positions=lambda: {key: Position(offset) for key, offset in self.at.items()},
        )

    @staticmethod
    def message(offset, *, value=None, age_ms=100, event_ms=None, header=None, key=None):
        said = [] if event_ms is None else [("ce_time", event_ms)]
        return "orders", 0, offset, NOW_MS - age_ms, key, [*said, ("otelp", header)], value, 10

    @staticmethod
    def header(number, *, environment="production", tag=None, producer=7, origin_ms=NOW_MS - 300):
        return pipeline_header.encode(
            flags=pipeline_header.PER_PARTITION,
            hops=1,
            environment=environment,
            origin_ms=origin_ms,
            newest_ms=0,
            path=1,
            producer_id=producer,
            sequence=number,
            tag=pipeline_header.tag_of("orders", 0) if tag is None else tag,
        )

    def deliver(self, *messages, consumer=None):
        """Hand messages out one by one, and have each processed."""
        observer = (consumer or self.consumer).partition("orders", 0).observer
        for message in messages:
            header = message[5][-1][1]
            read = None if header is None else pipeline_header.fields(header)
            origin_ms = observer.one(message, message[2], message[3], header, read, self.now_ms)
            observer.processed(message[2], origin_ms, self.now_ms)
        return observer

    def numbered(self, *numbers, offset=0):
        """Messages of one producer with these numbers, at offsets in a row."""
        return [self.message(offset + at, header=self.header(number)) for at, number in enumerate(numbers)]

    def evidence(self):
        """Of the flow."""
        (found,) = [each for each in self._gathering.evidence() if not each.of_producer]
        return found

    def lights(self):
        """After two looks a second apart, by name."""
        for _ in range(2):
            self.now_s += 1
            (flow,) = self._verdict.judge([self.evidence()], self.now_s, self.now_ms / 1000)
        return flow.lights

    def points(self, name):
        """All series of a metric with their values, or how many values they have."""
        instruments = (*self.totals.counters, *self.totals.gauges, *self.totals.histograms)
        (found,) = [each for each in instruments if each.name == name] or [SimpleNamespace(points=list)]
        return [(attributes, getattr(value, "count", value)) for attributes, value in found.points()]


@pytest.fixture
def watching():
    """Makes what watches, as it is configured."""
    return Watching
