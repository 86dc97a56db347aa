"""Each rule finds a bad span and is silent about a good one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_pipeline.export.otlp_reader import LinkRecord, MetricRecord, PointRecord, SpanRecord
from otel_pipeline.semconv import DURATION_BUCKETS_S
from otel_pipeline.testing.checker import check


def span(name, kind, operation, **more):
    attributes = {
        "messaging.system.name": "kafka",
        "messaging.operation.name": name.split()[0],
        "messaging.operation.type": operation,
        "messaging.destination.name": "orders",
        "server.address": "kafka",
        "server.port": 9092,
    }
    values = {
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "parent_span_id": "",
        "start_ns": 1,
        "end_ns": 2,
        "links": (),
        "events": (),
        "status": "UNSET",
        "status_message": "",
        "resource": {},
        "scope": "",
        "trace_state": "",
        "flags": 1,
    }
    return SpanRecord(name=name, kind=kind, attributes=attributes, **{**values, **more})


SENT = span("send orders", "PRODUCER", "send")
PROCESSED = span(
    "process orders",
    "CONSUMER",
    "process",
    span_id="3" * 16,
    parent_span_id="2" * 16,
    links=(LinkRecord("1" * 32, "2" * 16, {}),),
)
RECEIVED = span("poll orders", "CLIENT", "receive", span_id="4" * 16)
RECEIVED = replace(RECEIVED, attributes={**RECEIVED.attributes, "messaging.batch.message_count": 3})
PREDICTED = replace(
    SENT,
    name="predict churn",
    kind="INTERNAL",
    attributes={"otel_pipeline.model.name": "churn", "otel_pipeline.inference.operation": "predict"},
)


def with_attributes(record, **changed):
    """Double underscores are dots; None takes an attribute away."""
    attributes = {**record.attributes, **{name.replace("__", "."): value for name, value in changed.items()}}
    return replace(record, attributes={name: value for name, value in attributes.items() if value is not None})


def test_good_spans_pass():
    """One of each kind; a messaging system that the conventions do not know has its own name."""
    assert check([SENT, PROCESSED, RECEIVED, PREDICTED]) == []
    assert check([with_attributes(SENT, messaging__system__name="in_memory")]) == []


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (replace(SENT, kind="CONSUMER"), "kind"),
        (replace(SENT, name="orders send"), "name"),
        (replace(SENT, status="OK"), "status"),
        (replace(SENT, status="ERROR"), "error.type"),
        (with_attributes(SENT, error__type="X"), "error.type"),
        (replace(SENT, end_ns=0), "time"),
        (with_attributes(SENT, messaging__system__name=None), "required"),
        (with_attributes(SENT, kafka__offset="5"), "type"),
        (with_attributes(SENT, messaging__made__up=1), "unknown"),
        (with_attributes(SENT, server__address=None), "server"),
        (with_attributes(SENT, kafka__message__tombstone=False), "tombstone"),
        (with_attributes(SENT, messaging__operation__type="settle"), "settle"),
        (with_attributes(SENT, messaging__operation__type="deliver"), "operation"),
        (with_attributes(SENT, otel_pipeline__made__up=1), "registry"),
        (with_attributes(SENT, otel_pipeline__hops="1"), "type"),
        (with_attributes(RECEIVED, messaging__batch__message_count=None), "batch"),
        (with_attributes(RECEIVED, kafka__offset=3), "batch"),
        (replace(PREDICTED, kind="CLIENT"), "kind"),
        (replace(PREDICTED, name="churn"), "name"),
        (with_attributes(PREDICTED, otel_pipeline__inference__operation=None), "required"),
    ],
)
def test_each_rule_finds_a_bad_span(bad, rule):
    """By the name of the rule."""
    assert rule in {finding.rule for finding in check([bad])}


def test_parent_and_link_rules_look_at_other_spans():
    """A creation context that is not linked, a batch that is a message's child."""
    unlinked = replace(PROCESSED, links=())
    batch = with_attributes(PROCESSED, messaging__batch__message_count=2)

    assert [[finding.rule for finding in check([SENT, bad])] for bad in (unlinked, batch)] == [["link"], ["parent"]]


DURATION = MetricRecord(
    name="messaging.process.duration",
    unit="s",
    description="",
    kind="histogram",
    points=(
        PointRecord(
            {"messaging.system.name": "kafka", "messaging.operation.name": "process"}, 1, 2, bounds=DURATION_BUCKETS_S
        ),
    ),
    monotonic=False,
    temporality="CUMULATIVE",
    resource={},
    scope="",
)


@pytest.mark.parametrize(
    ("bad", "rules"),
    [
        (DURATION, []),
        (replace(DURATION, unit="ms"), ["unit"]),
        (replace(DURATION, kind="sum"), ["instrument"]),
        (replace(DURATION, name="messaging.made.up"), ["registry"]),
        (replace(DURATION, points=(replace(DURATION.points[0], bounds=(1,)),)), ["buckets"]),
        (
            replace(DURATION, points=(replace(DURATION.points[0], attributes={"messaging.system.name": "kafka"}),)),
            ["required"],
        ),
        (
            replace(
                DURATION,
                points=(replace(DURATION.points[0], attributes={**DURATION.points[0].attributes, "kafka.offset": 1}),),
            ),
            ["unknown", "cardinality"],
        ),
    ],
)
def test_metrics_are_judged(bad, rules):
    """Unit, instrument, buckets, attributes."""
    assert [finding.rule for finding in check([], [bad])] == rules
