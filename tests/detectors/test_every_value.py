"""Every value of every closed enumeration comes out of something that happens: none is exported as 0 for ever."""

from __future__ import annotations

import pytest

from otel_pipeline.contracts.contract import Contract, Field
from otel_pipeline.detectors import clock, kernel_clock
from otel_pipeline.detectors.clock_bound import ClockBound
from otel_pipeline.detectors.settings import Objective
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.totals import Totals
from otel_pipeline.testing import registry
from otel_pipeline.verdict.consumer_status import STATUSES

ORDER, MISSING = "otel_pipeline.order.violations", "otel_pipeline.messages.missing"
COVERAGE, SLO = "otel_pipeline.header.coverage", "otel_pipeline.slo.events"
IMPOSSIBLE, YEAR_MS = "otel_pipeline.clock.impossible_ages", 365 * 86_400_000
FOREIGN = "otel_pipeline.messages.foreign_environment"
CHECKED, DIFFERENCES = "otel_pipeline.contract.checked", "otel_pipeline.contract.violations"


def numbers(*given):
    """These numbers of one producer, at offsets in a row."""
    return lambda found: found.deliver(*found.numbered(*given))


def read_again(found):
    found.deliver(*found.numbered(1, 2, 3))
    found.deliver(*found.numbered(2, 3, offset=1))


def set_back(found):
    found.deliver(*found.numbered(1, 2, 3)).sought()
    found.deliver(*found.numbered(2, 3, offset=1))


def older(found):
    found.deliver(found.message(0, age_ms=100), found.message(1, age_ms=2_000))


def one_key_twice(found):
    observer = found.deliver(found.message(0, key="a"))
    for offset in (1, 2):
        observer.began(offset, found.message(offset, key="a"))


def given_up(found):
    found.deliver(*found.numbered(1, 2, 5)).order.close()


def gone(resumed):
    """The position is no longer in the log."""

    def act(found):
        observer = found.deliver(*found.numbered(1, 2))
        observer.order.out_of_range(2, resumed)
        found.deliver(*found.numbered(31, offset=30))

    return act


def begun_behind(found):
    found.consumer.fetch_observer("orders", 0).skipped(7)
    found.deliver(*found.numbered(8, offset=7))


def cut(found):
    pace = found.consumer.fetch_observer("orders", 0)
    found.deliver(*found.numbered(1, 2, 3))
    pace.of_log("id")
    pace.fetched(0.0, 0.0, 3, 1)
    found.at["orders", 0] = 3
    for _ in range(12):
        found.now_s += 1
        found.flows.look()


def with_header(**said):
    """A message whose header says this."""
    return lambda found: found.deliver(found.message(0, header=found.header(1, **said)))


def delivered(**said):
    """A message like this."""
    return lambda found: found.deliver(found.message(0, **said))


def value(given, side="consumer"):
    """A value that is compared with the contract."""
    return lambda found: found.contracts.of("orders", side).check(given, 9)


def learned(found):
    watch = found.contracts.of("orders", "consumer")
    for given in ({"id": 1}, {"id": "x"}):
        watch.check(given, 9)


ORDERS = Contract("orders", {"$": Field(("object",), True), "id": Field(("int",), True)})
FILE = {"load": lambda _destination: ORDERS}
OBJECTIVE = {"objectives": (Objective("fresh", destination="orders", age="delivery", threshold_s=1.0, objective=0.9),)}
HAPPENS = {
    ("otel_pipeline.age", "delivery"): (IMPOSSIBLE, {}, delivered(age_ms=11 * YEAR_MS)),
    ("otel_pipeline.age", "data"): (IMPOSSIBLE, {}, with_header(origin_ms=1_795_435_200)),
    ("otel_pipeline.age", "event"): (IMPOSSIBLE, {"event_age": True}, delivered(event_ms=b"1971-01-21T18:43:55Z")),
    ("otel_pipeline.violation", "reordered"): (ORDER, {}, numbers(1, 3, 2)),
    ("otel_pipeline.violation", "duplicate"): (ORDER, {}, numbers(1, 2, 2)),
    ("otel_pipeline.violation", "redelivered"): (ORDER, {}, read_again),
    ("otel_pipeline.violation", "rewound"): (ORDER, {}, set_back),
    ("otel_pipeline.violation", "event_time_regression"): (ORDER, {"ordered": True}, older),
    ("otel_pipeline.violation", "concurrent_key"): (ORDER, {"same_key": True}, one_key_twice),
    ("otel_pipeline.cause", "before_broker"): (MISSING, {}, given_up),
    ("otel_pipeline.cause", "expired"): (MISSING, {}, gone("earliest")),
    ("otel_pipeline.cause", "offset_reset"): (MISSING, {}, gone("latest")),
    ("otel_pipeline.cause", "skipped"): (MISSING, {}, begun_behind),
    ("otel_pipeline.cause", "cut"): (MISSING, {}, cut),
    ("otel_pipeline.header_state", "ok"): (COVERAGE, {}, with_header()),
    ("otel_pipeline.header_state", "missing"): (COVERAGE, {}, delivered()),
    ("otel_pipeline.header_state", "unreadable"): (COVERAGE, {}, delivered(header=b"\xff" * 40)),
    ("otel_pipeline.header_state", "relayed"): (COVERAGE, {}, with_header(tag=1)),
    ("otel_pipeline.policy", "allow"): (FOREIGN, {"foreign": {"local": "allow"}}, with_header(environment="local")),
    ("otel_pipeline.policy", "flag"): (FOREIGN, {}, with_header(environment="local")),
    ("otel_pipeline.policy", "reject"): (FOREIGN, {"foreign": {"*": "reject"}}, with_header(environment="local")),
    ("otel_pipeline.slo.met", "true"): (SLO, OBJECTIVE, delivered(age_ms=900)),
    ("otel_pipeline.slo.met", "false"): (SLO, OBJECTIVE, delivered(age_ms=1_100)),
    ("otel_pipeline.slo.met", "replayed"): (SLO, OBJECTIVE, set_back),
    ("otel_pipeline.slo.met", "unknown"): (SLO, OBJECTIVE, delivered(age_ms=-1_000)),
    ("otel_pipeline.side", "consumer"): (CHECKED, FILE, value({"id": 1})),
    ("otel_pipeline.side", "producer"): (CHECKED, FILE, value({"id": 1}, "producer")),
    ("otel_pipeline.kind", "field_added"): (DIFFERENCES, FILE, value({"id": 1, "new": 1})),
    ("otel_pipeline.kind", "field_missing"): (DIFFERENCES, FILE, value({})),
    ("otel_pipeline.kind", "type_changed"): (DIFFERENCES, FILE, value({"id": "1"})),
    ("otel_pipeline.kind", "became_null"): (DIFFERENCES, FILE, value({"id": None})),
    ("otel_pipeline.kind", "int_to_float"): (DIFFERENCES, FILE, value({"id": 1.5})),
    ("otel_pipeline.kind", "unreadable"): (
        DIFFERENCES,
        FILE,
        lambda found: found.contracts.unreadable("orders", "consumer"),
    ),
    ("otel_pipeline.source", "file"): (DIFFERENCES, FILE, value({"id": "1"})),
    ("otel_pipeline.source", "learned"): (DIFFERENCES, {"learn_messages": 1}, learned),
}
"""By attribute and value: a metric that has it above 0, what is configured, and what happens."""


@pytest.mark.parametrize(("key", "wanted"), HAPPENS)
def test_it_is_counted_when_it_happens(watching, key, wanted):
    """And nothing of it before."""
    metric, said, act = HAPPENS[key, wanted]
    found = watching(**said)

    def count():
        return sum(value for attributes, value in found.points(metric) if attributes[key] == wanted)

    before = count()
    act(found)

    assert before == 0 < count()


def test_both_ends_of_each_clock(monkeypatch):
    """Against the Collector and by the kernel."""
    totals, bound = Totals(), ClockBound()
    monkeypatch.setattr(bound, "interval", lambda: clock.Interval(-0.1, 0.2))
    monkeypatch.setattr(kernel_clock, "error_s", lambda: 0.01)
    clock.define(totals, bound)
    (gauge,) = totals.gauges

    assert {tuple(attributes.values()): value for attributes, value in gauge.points()} == {
        ("collector", "lower"): -0.1,
        ("collector", "upper"): 0.2,
        ("kernel", "lower"): -0.01,
        ("kernel", "upper"): 0.01,
    }


def test_each_light(telemetry):
    """Of every flow."""
    pipe = telemetry.instrument()
    fields = MessageFields(*[lambda _: 0] * 8)
    given = {"attributes": {"messaging.system.name": "kafka"}, "client_id": None, "operation": "poll"}
    Consumer(pipe._engine, fields, group="g", excluded=False, **given).partition("orders", 0)
    points = telemetry.metric("otel_pipeline.health.light").points

    assert [point.attributes["otel_pipeline.light"] for point in points] == [
        *("fresh", "order", "pace", "contract", "environment")
    ]


def test_no_value_is_left_out():
    """Whoever adds a value says here how it comes about."""
    every = {(each.key, value) for each in registry.attributes().values() for value in each.values}
    by_themselves = {
        *(("otel_pipeline.reference", name) for name in ("collector", "kernel")),
        *(("otel_pipeline.bound", name) for name in ("lower", "upper")),
        # tests/export/test_losses.py: what is dropped of each.
        *(("otel_pipeline.signal", name) for name in ("traces", "metrics", "logs")),
        # tests/verdict/test_pace.py: each word, from a row that it stands for.
        *(("otel_pipeline.state", name) for name in STATUSES),
        *(("otel_pipeline.light", name) for name in ("fresh", "order", "pace", "contract", "environment")),
        # tests/verdict/test_delivered.py: of what is sent.
        ("otel_pipeline.light", "delivered"),
    }

    assert every == {*HAPPENS, *by_themselves}
