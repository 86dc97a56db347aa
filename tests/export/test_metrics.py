from __future__ import annotations

import gc
import io
import threading
import weakref
from importlib.metadata import version

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    HistogramDataPoint,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, SumAggregation, View
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from otel_pipeline.engine.totals import Totals
from otel_pipeline.export import histograms, metrics
from otel_pipeline.version import VERSION

DELTA = AggregationTemporality.DELTA
CUMULATIVE = AggregationTemporality.CUMULATIVE
BOUNDS = (0.1, 1.0, 10.0)
NEW_SDK = hasattr(MeterProvider, "add_metric_reader")


class Pipeline:
    """Totals with one of each instrument, connected to a provider with these readers."""

    def __init__(self, *readers, views=(), connect=True):
        self.problems = []
        self.totals = Totals(problem=self.problem)
        self.provider = MeterProvider(readers, Resource({"service.name": "s"}), shutdown_on_exit=False, views=views)
        self.age = self.totals.histogram("age", "s", "How old.", BOUNDS)
        self.sent = self.totals.counter("sent", "{message}", "How many.")
        self.lag = [({"topic": "a"}, 7)]
        self.totals.gauge("lag", "{message}", "How far behind.", lambda: self.lag)
        if connect:
            self.connection = metrics.connect(self.provider, self.totals, problem=self.problem)

    def problem(self, key, message):
        self.problems.append((key, message))

    def record(self, *seconds, **attributes):
        for value in seconds:
            self.age.cell(attributes).record(value)


def delta_reader():
    return InMemoryMetricReader(preferred_temporality={Histogram: DELTA, ObservableCounter: DELTA})


def collected(data):
    """The metrics, without those that the SDK has of itself."""
    return [
        metric
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if not metric.name.startswith("otel.sdk.")
    ]


def names(reader):
    return [metric.name for metric in collected(reader.get_metrics_data())]


def points(reader, name):
    """All points of a metric, as (attributes, what they hold)."""
    return [
        (
            point.attributes,
            (point.count, round(point.sum, 6), tuple(point.bucket_counts), point.min, point.max)
            if isinstance(point, HistogramDataPoint)
            else point.value,
        )
        for metric in collected(reader.get_metrics_data())
        for point in metric.data.data_points
        if metric.name == name
    ]


def test_everything_reaches_an_in_memory_reader():
    """Counters are monotonic sums, gauges gauges, histograms have our buckets; one resource, one scope of ours."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)
    pipeline.sent.cell({"topic": "a"}).value += 3
    pipeline.record(0.05, 5, topic="a")

    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    age, sent, lag = sorted(scope.metrics, key=lambda metric: "age sent lag".index(metric.name))
    (point,) = age.data.data_points
    assert pipeline.connection.how == "collect"
    assert pipeline.problems == []
    assert resource.resource.attributes == {"service.name": "s"}
    assert (scope.scope.name, scope.scope.version) == ("otel_pipeline", VERSION)
    assert scope.schema_url == scope.scope.schema_url == "https://opentelemetry.io/schemas/1.45.0"
    assert (age.name, age.unit, age.description) == ("age", "s", "How old.")
    assert age.data.aggregation_temporality is CUMULATIVE
    assert (point.attributes, point.count, point.sum, point.min, point.max) == ({"topic": "a"}, 2, 5.05, 0.05, 5)
    assert (tuple(point.bucket_counts), tuple(point.explicit_bounds)) == ((1, 0, 1, 0), BOUNDS)
    assert point.start_time_unix_nano == pipeline.age.start_ns < point.time_unix_nano
    assert (sent.name, sent.unit, sent.description) == ("sent", "{message}", "How many.")
    assert (sent.data.is_monotonic, [(p.attributes, p.value) for p in sent.data.data_points]) == (
        True,
        [({"topic": "a"}, 3)],
    )
    assert [(p.attributes, p.value) for p in lag.data.data_points] == [({"topic": "a"}, 7)]


def test_cumulative_points_grow():
    """Each collection gives all since the start."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)
    pipeline.record(0.5)
    first = points(reader, "age")
    pipeline.record(2, 20)

    assert first == [({}, (1, 0.5, (0, 1, 0, 0), 0.5, 0.5))]
    assert points(reader, "age") == [({}, (3, 22.5, (0, 1, 1, 1), 0.5, 20))]


def test_delta_points_hold_what_is_new():
    """Without minimum and maximum, which are not known for an interval; nothing new is no point."""
    reader = delta_reader()
    pipeline = Pipeline(reader)
    pipeline.record(0.5, topic="a")
    pipeline.record(0.5, topic="b")
    first = points(reader, "age")
    pipeline.record(2, 20, topic="a")
    second = points(reader, "age")

    assert first == [
        ({"topic": "a"}, (1, 0.5, (0, 1, 0, 0), None, None)),
        ({"topic": "b"}, (1, 0.5, (0, 1, 0, 0), None, None)),
    ]
    assert second == [({"topic": "a"}, (2, 22.0, (0, 0, 1, 1), None, None))]
    assert points(reader, "age") == []


def test_delta_intervals_touch():
    """One interval starts where the last one ended, also when nothing was recorded meanwhile."""
    reader = delta_reader()
    pipeline = Pipeline(reader)
    seen = []
    for number in range(3):
        pipeline.record(*([1] if number != 1 else []))
        seen += [
            (p.start_time_unix_nano, p.time_unix_nano)
            for m in collected(reader.get_metrics_data())
            if m.name == "age"
            for p in m.data.data_points
        ]

    (first, second) = seen
    assert pipeline.age.start_ns == first[0] < first[1] < second[0] < second[1]


def test_readers_of_both_temporalities_do_not_disturb_each_other():
    """Each reader has its own previous counts, counters included."""
    cumulative, delta, other = InMemoryMetricReader(), delta_reader(), delta_reader()
    pipeline = Pipeline(cumulative, delta, other)
    seen = []
    for _ in range(2):
        pipeline.record(0.5)
        pipeline.sent.cell({}).value += 2
        seen.append([(points(reader, "age")[0][1][0]) for reader in (cumulative, delta)])
        seen.append([points(reader, "sent") for reader in (cumulative, delta)])

    assert seen == [[1, 1], [[({}, 2)], [({}, 0)]], [2, 1], [[({}, 4)], [({}, 0)]]]
    assert points(other, "age") == [({}, (2, 1.0, (0, 2, 0, 0), None, None))]


def test_delta_counters_hold_what_is_new():
    """The SDK makes deltas of what the observable counters read."""
    reader = delta_reader()
    pipeline = Pipeline(reader)
    pipeline.sent.cell({}).value += 2
    first = points(reader, "sent")
    pipeline.sent.cell({}).value += 3

    assert (first, points(reader, "sent")) == ([({}, 2)], [({}, 3)])


def test_prometheus_shows_them():
    """As a pull of its text shows it."""
    registry = CollectorRegistry()
    known = "registry" in PrometheusMetricReader.__init__.__kwdefaults__ if NEW_SDK else False
    reader = PrometheusMetricReader(registry=registry) if known else PrometheusMetricReader(disable_target_info=True)
    if not known:
        from prometheus_client import REGISTRY as registry  # noqa: N811
    try:
        pipeline = Pipeline(reader)
        pipeline.record(0.05, 5, topic="a")
        pipeline.sent.cell({"topic": "a"}).value += 3
        text = generate_latest(registry).decode()
        again = generate_latest(registry).decode()
    finally:
        reader.shutdown()

    lines = [line for line in text.splitlines() if line.startswith(("age", "sent", "lag")) and "_created" not in line]
    seen = {line.split("{")[0] + (line.split('le="')[1].split('"')[0] if "le=" in line else ""): line for line in lines}
    assert {name: line.rsplit(" ", 1)[1] for name, line in seen.items()} == {
        "age_seconds_bucket0.1": "1.0",
        "age_seconds_bucket1.0": "1.0",
        "age_seconds_bucket10.0": "2.0",
        "age_seconds_bucket+Inf": "2.0",
        "age_seconds_count": "2.0",
        "age_seconds_sum": "5.05",
        "sent_total": "3.0",
        "lag": "7.0",
    }
    assert all('topic="a"' in line for line in lines)
    assert "age_seconds_count" in again


def test_the_console_prints_them():
    """The SDK's own JSON of the points, cumulative and delta."""
    for temporality in (CUMULATIVE, DELTA):
        out = io.StringIO()
        exporter = ConsoleMetricExporter(out, preferred_temporality={Histogram: temporality})
        pipeline = Pipeline(PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf")))
        pipeline.record(0.5)
        pipeline.provider.force_flush()
        pipeline.provider.shutdown()

        assert '"name": "age"' in out.getvalue()
        assert f'"min": {"null" if temporality is DELTA else "0.5"}' in out.getvalue()


def test_otlp_encodes_them():
    """The official encoder takes the points; delta points have no minimum and no maximum."""
    cumulative, delta = InMemoryMetricReader(), delta_reader()
    pipeline = Pipeline(cumulative, delta)
    pipeline.record(0.5, topic="a")
    encoded = [
        metric
        for reader in (cumulative, delta)
        for scope in encode_metrics(reader.get_metrics_data()).resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == "age"
    ]
    found = [metric.histogram.data_points[0] for metric in encoded]

    assert [metric.histogram.aggregation_temporality for metric in encoded] == [2, 1]
    assert [list(point.bucket_counts) for point in found] == [[0, 1, 0, 0]] * 2
    assert [list(point.explicit_bounds) for point in found] == [list(BOUNDS)] * 2
    assert [(point.HasField("min"), point.HasField("max")) for point in found] == [(True, True), (False, False)]


def test_a_view_renames_and_filters_attributes():
    """What is equal without the hidden attributes is one point, its sums and extremes merged."""
    cumulative, delta = InMemoryMetricReader(), delta_reader()
    view = View(instrument_name="age", name="renamed", description="By topic.", attribute_keys={"topic"})
    pipeline = Pipeline(cumulative, delta, views=[view])
    pipeline.record(0.5, topic="a", group="x")
    pipeline.record(5, topic="a", group="y")
    pipeline.record(20, topic="b", group="y")

    assert points(cumulative, "renamed") == [
        ({"topic": "a"}, (2, 5.5, (0, 1, 1, 0), 0.5, 5)),
        ({"topic": "b"}, (1, 20, (0, 0, 0, 1), 20, 20)),
    ]
    assert points(delta, "renamed") == [
        ({"topic": "a"}, (2, 5.5, (0, 1, 1, 0), None, None)),
        ({"topic": "b"}, (1, 20, (0, 0, 0, 1), None, None)),
    ]
    pipeline.record(5, topic="a", group="z")
    assert points(delta, "renamed") == [({"topic": "a"}, (1, 5, (0, 0, 1, 0), None, None))]


def test_a_view_drops():
    """Histogram and counter alike."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader, views=[View(instrument_name="*", aggregation=DropAggregation())])
    pipeline.record(1)
    pipeline.sent.cell({}).value += 1

    assert names(reader) == []


def test_two_views_are_two_streams():
    """As with the SDK's own instruments."""
    reader = delta_reader()
    views = [View(instrument_name="age", name="one"), View(instrument_name="age", name="two", attribute_keys=set())]
    pipeline = Pipeline(reader, views=views)
    pipeline.record(1, topic="a")
    first = (points(reader, "one"), names(reader))
    pipeline.record(1, topic="a")

    assert first == ([({"topic": "a"}, (1, 1, (0, 1, 0, 0), None, None))], ["lag"])
    assert points(reader, "two") == [({}, (1, 1, (0, 1, 0, 0), None, None))]


@pytest.mark.parametrize("aggregation", [SumAggregation(), ExplicitBucketHistogramAggregation((1, 2))])
def test_a_view_cannot_change_the_buckets(aggregation):
    """Our buckets stay as they are; where another kind of aggregation is asked for, that is said."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader, views=[View(instrument_name="age", aggregation=aggregation)])
    pipeline.record(0.5)

    assert points(reader, "age") == [({}, (1, 0.5, (0, 1, 0, 0), 0.5, 0.5))]
    assert [key for key, _ in pipeline.problems] == (
        ["metrics.aggregation.age"] if isinstance(aggregation, SumAggregation) else []
    )


def test_they_stand_beside_the_application_s_own():
    """Another scope's metrics and the same resource; a histogram of the same name in both."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)
    pipeline.provider.get_meter("app").create_histogram("age").record(3)
    pipeline.record(0.5)

    (resource,) = reader.get_metrics_data().resource_metrics
    found = {scope.scope.name: [metric.name for metric in scope.metrics] for scope in resource.scope_metrics}
    assert (found["app"], found["otel_pipeline"]) == (["age"], ["lag", "age"])


@pytest.mark.skipif(not NEW_SDK, reason="this SDK's providers take no readers later")
def test_a_reader_added_later_gets_them():
    """And one that is removed is forgotten."""
    pipeline = Pipeline()
    pipeline.record(0.5)
    reader = delta_reader()
    pipeline.provider.add_metric_reader(reader)

    assert points(reader, "age") == [({}, (1, 0.5, (0, 1, 0, 0), None, None))]
    pipeline.connection.disconnect()
    pipeline.record(0.5)
    assert points(reader, "age") == []
    pipeline.provider.remove_metric_reader(reader)


def test_an_instrument_defined_later_is_exported():
    """Also one that the reading of a gauge defines while somebody collects, at the next collection at the latest."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)
    made = []

    def read():
        made.append(pipeline.totals.counter("in.gauge", "1", ""))
        made[0].cell({}).value += 1
        return []

    pipeline.totals.gauge("defining", "1", "", read)
    pipeline.totals.histogram("later", "s", "", BOUNDS).cell({}).record(1)

    assert names(reader) == ["lag", "later"]
    assert points(reader, "in.gauge") == [({}, 2)]


def test_disconnecting_restores_the_provider():
    """The SDK's collect is its own again and nothing of ours is collected."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader, connect=False)
    consumer = pipeline.provider._measurement_consumer
    before = (dict(vars(consumer)).keys(), reader._collect)
    connection = metrics.connect(pipeline.provider, pipeline.totals, problem=pipeline.problem)
    pipeline.record(1)
    during = names(reader)
    connection.disconnect()
    connection.disconnect()
    pipeline.totals.counter("later", "1", "").cell({})

    assert during == ["lag", "age"]
    assert (dict(vars(consumer)).keys(), reader._collect) == before
    assert names(reader) == []


def test_connecting_again_goes_on_where_it_was():
    """A new pipeline on the same provider: a sum must not fall, a delta must not be negative."""
    cumulative, delta = InMemoryMetricReader(), delta_reader()
    pipeline = Pipeline(cumulative, delta)
    pipeline.sent.cell({}).value += 5
    pipeline.record(1)
    first = (points(cumulative, "sent"), points(delta, "sent"))
    pipeline.connection.disconnect()
    totals = Totals()
    second = metrics.connect(pipeline.provider, totals, problem=pipeline.problem)
    totals.counter("sent", "{message}", "How many.").cell({}).value += 2
    totals.histogram("age", "s", "How old.", BOUNDS).cell({}).record(1)

    assert first == ([({}, 5)], [({}, 5)])
    assert (points(cumulative, "sent"), points(delta, "sent")) == ([({}, 7)], [({}, 2)])
    assert points(cumulative, "age") == [({}, (1, 1, (0, 1, 0, 0), 1, 1))]
    second.disconnect()
    again = metrics.connect(pipeline.provider, pipeline.totals, problem=pipeline.problem)
    assert points(cumulative, "sent") == [({}, 7)]
    again.disconnect()
    assert pipeline.problems == []


def test_two_connections_end_in_any_order():
    """The one that was made first may end first."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)
    other = Totals()
    other.histogram("other", "s", "", BOUNDS).cell({}).record(1)
    second = metrics.connect(pipeline.provider, other, problem=pipeline.problem)
    pipeline.record(1)
    both = names(reader)
    pipeline.connection.disconnect()
    one = names(reader)
    second.disconnect()

    assert (both, one, names(reader)) == (["lag", "age", "other"], ["other"], [])


def test_a_provider_that_is_not_the_sdk_s_gets_each_value():
    """Through the API, the slow way, and it is said."""
    reader = InMemoryMetricReader()
    sdk = MeterProvider([reader], Resource({}), shutdown_on_exit=False)

    class Foreign(NoOpMeterProvider):
        def get_meter(self, *args, **kwargs):
            return sdk.get_meter(*args, **kwargs)

    problems = []
    totals = Totals()
    age = totals.histogram("age", "s", "How old.", BOUNDS)
    cell = age.cell({"topic": "a"})
    connection = metrics.connect(Foreign(), totals, problem=lambda key, _: problems.append(key))
    cell.record(0.5)
    age.local({"topic": "b"}).cell.record(5)
    totals.counter("sent", "1", "").cell({}).value += 1

    assert (connection.how, problems) == ("record", ["metrics.how"])
    assert points(reader, "sent") == [({}, 1)]
    assert points(reader, "age") == [
        ({"topic": "a"}, (1, 0.5, (0, 1, 0, 0), 0.5, 0.5)),
        ({"topic": "b"}, (1, 5, (0, 0, 1, 0), 5, 5)),
    ]
    connection.disconnect()
    cell.record(0.5)
    assert sum(held[0] for _, held in points(reader, "age")) == 2


def test_an_sdk_that_changed_inside_gets_each_value(monkeypatch):
    """The probe on a scratch provider finds it before anything is touched."""
    monkeypatch.setattr(histograms, "fits", lambda: False)
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)
    pipeline.record(0.5)

    assert pipeline.connection.how == "record"
    assert "collect" not in vars(pipeline.provider._measurement_consumer)
    assert points(reader, "age") == [({}, (1, 0.5, (0, 1, 0, 0), 0.5, 0.5))]


def test_the_probe_fits_this_sdk():
    """In every set that is tested."""
    assert histograms.fits.__wrapped__(), version("opentelemetry-sdk")


def test_a_switched_off_sdk_is_left_alone(monkeypatch):
    """OTEL_SDK_DISABLED gives meters that do nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    pipeline = Pipeline()

    assert (pipeline.connection.how, pipeline.problems) == ("off", [])
    pipeline.connection.disconnect()


def test_a_failure_of_ours_never_reaches_the_reader(monkeypatch):
    """The SDK's own metrics are collected all the same."""
    reader = InMemoryMetricReader()
    pipeline = Pipeline(reader)

    def broken():
        raise RuntimeError("broken")

    monkeypatch.setattr(pipeline.age, "points", broken)
    pipeline.provider.get_meter("app").create_counter("own").add(1)

    assert "own" in names(reader)
    assert [key for key, _ in pipeline.problems] == ["metrics.collect"]


def test_threads_record_while_readers_collect():
    """Deltas of one reader add up to exactly what was recorded."""
    reader = delta_reader()
    pipeline = Pipeline(reader)
    here = pipeline.age.local({})
    stop, seen = threading.Event(), []

    def collect():
        while not stop.is_set():
            seen.extend(held[0] for _, held in points(reader, "age"))

    collector = threading.Thread(target=collect)
    collector.start()
    threads = [threading.Thread(target=lambda: [here.cell.record(0.5) for _ in range(2000)] and None) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    collector.join()
    seen.extend(held[0] for _, held in points(reader, "age"))

    assert sum(seen) == 16_000
    assert pipeline.problems == []


def test_a_dropped_provider_is_freed():
    """Nothing global holds providers, pipelines or readers."""
    pipeline = Pipeline(InMemoryMetricReader())
    gone = [weakref.ref(pipeline.provider), weakref.ref(pipeline.totals)]
    pipeline.connection.disconnect()
    del pipeline
    gc.collect()

    assert [ref() for ref in gone] == [None, None]
