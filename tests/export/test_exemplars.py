"""Exemplars: a recorded span for each bucket of an age, the newest, to every reader that wants them."""

from __future__ import annotations

import json

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.trace import SpanContext, TraceFlags

from otel_pipeline.engine.totals import Totals
from otel_pipeline.export import metrics, otlp_json

EVERY = 1 << 62
"""A time after each collection of this test, ns."""


def span(number):
    return SpanContext(100 + number, 200 + number, is_remote=False, trace_flags=TraceFlags(1))


def connected(reader, **options):
    """Totals whose histograms this reader gets."""
    totals = Totals()
    provider = MeterProvider([reader], shutdown_on_exit=False, **options)
    connection = metrics.connect(provider, totals, problem=lambda *said: pytest.fail(str(said)))
    assert connection.how == "collect"
    return totals, totals.histogram("age", "s", "", (1, 10))


def exemplars(reader):
    """(value, time, trace id, span id) of each, by the point's attributes."""
    data = reader.get_metrics_data()
    return {
        tuple(point.attributes.items()): [
            (each.value, each.time_unix_nano, each.trace_id, each.span_id) for each in point.exemplars
        ]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def record(cell, seconds, time_ns, number):
    cell.record(seconds)
    cell.exemplify(seconds, time_ns, span(number))


def test_the_newest_of_each_bucket():
    """Whatever cell it was recorded in; those without stay without."""
    totals, histogram = connected(reader := InMemoryMetricReader())
    record(histogram.cell({"a": 1}), 0.5, 10, 1)
    record(histogram.cell({"a": 1}), 20, 20, 2)
    owner = reader
    record(histogram.cell({"a": 1}, owner=owner), 0.7, 30, 3)
    record(histogram.cell({"a": 1}, owner=owner), 21, 15, 4)
    histogram.cell({"a": 2}).record(5)

    assert totals.exemplars
    expected = {(("a", 1),): [(0.7, 30, 103, 203), (20, 20, 102, 202)], (("a", 2),): []}
    # Once more: a cumulative point shows the same until there is a newer one.
    assert [exemplars(reader), exemplars(reader)] == [expected, expected]


def test_those_of_cells_that_are_gone_are_kept():
    """As what they counted is."""
    _, histogram = connected(reader := InMemoryMetricReader())

    class Owner:
        pass

    owner = Owner()
    record(histogram.cell({}, owner=owner), 0.5, 10, 1)
    del owner

    assert exemplars(reader) == {(): [(0.5, 10, 101, 201)]}


def test_deltas_show_those_of_their_interval():
    """An old one says nothing of what was added."""
    reader = InMemoryMetricReader(preferred_temporality={Histogram: AggregationTemporality.DELTA})
    _, histogram = connected(reader)
    record(histogram.cell({}), 0.5, histogram.start_ns + 1, 1)
    first = exemplars(reader)
    record(histogram.cell({}), 5, EVERY, 2)

    assert first == {(): [(0.5, histogram.start_ns + 1, 101, 201)]}
    assert exemplars(reader) == {(): [(5, EVERY, 102, 202)]}


def test_a_view_that_makes_one_point_of_two():
    """Has the newest of both."""
    view = View(instrument_name="age", attribute_keys=set())
    _, histogram = connected(reader := InMemoryMetricReader(), views=[view])
    record(histogram.cell({"a": 1}), 0.5, 10, 1)
    record(histogram.cell({"a": 2}), 0.6, 20, 2)

    assert exemplars(reader) == {(): [(0.6, 20, 102, 202)]}


@pytest.mark.parametrize("way", ["variable", "argument"])
def test_the_filter_of_the_provider(monkeypatch, way):
    """Off is off, however it was said."""
    options = {}
    if way == "variable":
        monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    else:
        options["exemplar_filter"] = AlwaysOffExemplarFilter()

    assert not connected(InMemoryMetricReader(), **options)[0].exemplars


def test_they_leave_as_otlp():
    """As protobuf and as lines: ids, value and time."""
    _, histogram = connected(reader := InMemoryMetricReader())
    record(histogram.cell({}), 0.5, 10, 1)
    data = reader.get_metrics_data()
    (point,) = encode_metrics(data).resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points
    (sent,) = point.exemplars

    assert (sent.trace_id, sent.span_id) == ((101).to_bytes(16, "big"), (201).to_bytes(8, "big"))
    assert (sent.as_double, sent.time_unix_nano) == (0.5, 10)
    assert f'"traceId": "{101:032x}"' in json.dumps(otlp_json.metrics(data))
