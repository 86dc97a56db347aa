"""What the encoder makes, read by protobuf's library, is what the SDK's encoder makes; and what it cannot take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import ResourceMetrics as OfResource
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from otel_pipeline.export.otlp import encoder, metrics, spans, wire
from tests.limits import below_at_above

IS_NEW = tuple(map(int, sdk_version.split(".")[:2])) >= (1, 45)
"""Older encoders leave out scopes' attributes and schemas, and values that are None."""
REQUESTS = {
    "traces": (ExportTraceServiceRequest, encode_spans),
    "logs": (ExportLogsServiceRequest, encode_logs),
    "metrics": (ExportMetricsServiceRequest, encode_metrics),
}
TIMES = st.integers(0, 2**64 - 1)
COUNTS = st.integers(0, 2**32 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=140)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.one_of(st.booleans(), INTEGERS, st.floats(), st.binary(max_size=300), TEXTS)
PLAIN_OR_NONE = PLAIN | st.none() if IS_NEW else PLAIN
NESTED = st.recursive(
    PLAIN_OR_NONE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


def counted(attributes, dropped):
    """As the SDK keeps them, with how many it has dropped."""
    made = BoundedAttributes(immutable=False)
    made._dict.update(attributes)
    made.dropped = dropped
    return made


DICTS = st.dictionaries(KEYS, NESTED, max_size=5)
ATTRIBUTES = st.one_of(DICTS, st.none(), st.builds(counted, DICTS, COUNTS))
SCHEMAS = st.sampled_from(["", "https://schema"]) if IS_NEW else st.just("")
RESOURCES = st.builds(Resource, st.dictionaries(KEYS, TEXTS, max_size=3), st.sampled_from(["", "https://resource"]))
SCOPES = st.builds(
    InstrumentationScope,
    KEYS,
    KEYS | st.none(),
    SCHEMAS,
    st.dictionaries(KEYS, TEXTS, max_size=2) if IS_NEW else st.none(),
)
STATES = st.sampled_from([TraceState(), TraceState([("ot", "th:8;rv:1"), ("vendor", "x")])])
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    STATES,
)


def bounded(items, dropped):
    made = BoundedList.from_seq(max(len(items), 1), items)
    made.dropped = dropped
    return made


def several(each):
    return st.lists(each, max_size=3) | st.builds(bounded, st.lists(each, max_size=3), COUNTS)


SPANS = st.builds(
    ReadableSpan,
    name=TEXTS,
    context=CONTEXTS,
    parent=CONTEXTS | st.none(),
    attributes=ATTRIBUTES,
    events=several(st.builds(Event, TEXTS, ATTRIBUTES, TIMES)),
    links=several(st.builds(Link, CONTEXTS, ATTRIBUTES)),
    kind=st.sampled_from(list(SpanKind)),
    status=st.builds(Status, st.just(StatusCode.ERROR), TEXTS | st.none())
    | st.sampled_from([Status(), Status(StatusCode.OK)]),
    start_time=TIMES | st.none(),
    end_time=TIMES | st.none(),
)


def shared(items, resources, scopes):
    """Give items the same few resources and scopes, and equal ones that are other objects."""
    for number, item in enumerate(items):
        item._resource = resources[number % len(resources)]
        item._instrumentation_scope = scopes[number % len(scopes)]
    return items


def same(signal, batch):
    """Compare bytes: NaN is not equal to itself."""
    kind, encode = REQUESTS[signal]
    found = encoder.encode(signal, batch)
    ours, theirs = kind.FromString(found.body), encode(batch)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    return found


@settings(max_examples=150)
@given(
    st.builds(
        shared,
        st.lists(SPANS, min_size=1, max_size=4),
        st.lists(RESOURCES, min_size=1, max_size=2),
        st.lists(SCOPES | st.none(), min_size=1, max_size=2),
    )
)
def test_spans(batch):
    assert same("traces", batch)[1:] == (len(batch), 0, 0)


def log(resource, scope, attributes, body, **fields):
    """What a log exporter is given, in all versions: its fields."""
    record = SimpleNamespace(
        attributes=attributes,
        body=body,
        resource=resource,
        dropped_attributes=getattr(attributes, "dropped", 0),
        **fields,
    )
    return SimpleNamespace(
        log_record=record,
        resource=resource,
        instrumentation_scope=scope,
        dropped_attributes=record.dropped_attributes,
    )


@settings(max_examples=150)
@given(
    st.data(),
    st.lists(RESOURCES, min_size=1, max_size=2),
    st.lists(SCOPES | st.none(), min_size=1, max_size=2),
)
def test_log_records(data, resources, scopes):
    logs = st.builds(
        log,
        st.sampled_from(resources),
        st.sampled_from(scopes),
        ATTRIBUTES,
        NESTED,
        timestamp=TIMES | st.none(),
        observed_timestamp=TIMES,
        trace_id=st.integers(0, 2**128 - 1),
        span_id=st.integers(0, 2**64 - 1),
        trace_flags=st.integers(0, 255).map(TraceFlags),
        severity_text=TEXTS | st.none(),
        severity_number=st.sampled_from(list(SeverityNumber)),
        event_name=TEXTS | st.none() if IS_NEW else st.none(),
    )
    batch = data.draw(st.lists(logs, min_size=1, max_size=4))

    assert same("logs", batch)[1:] == (len(batch), 0, 0)


NUMBERS = INTEGERS | st.floats()
EXEMPLARS = st.builds(
    Exemplar,
    ATTRIBUTES,
    NUMBERS,
    TIMES,
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**128 - 1),
)
FOUND = st.lists(EXEMPLARS, max_size=2)
POINTS = st.lists(st.builds(NumberDataPoint, ATTRIBUTES, TIMES, TIMES, NUMBERS, FOUND), max_size=3)
TEMPORALITIES = st.sampled_from(list(AggregationTemporality))
BUCKETS = st.builds(
    SimpleNamespace,
    offset=st.integers(-(2**31), 2**31 - 1),
    bucket_counts=st.lists(st.integers(0, 2**64 - 1), max_size=4),
)
OPTIONAL = st.none() | st.floats()
DATA = st.one_of(
    st.builds(Gauge, POINTS),
    st.builds(Sum, POINTS, TEMPORALITIES, st.booleans()),
    st.builds(
        Histogram,
        st.lists(
            st.builds(
                HistogramDataPoint,
                attributes=ATTRIBUTES,
                start_time_unix_nano=TIMES,
                time_unix_nano=TIMES,
                count=TIMES,
                sum=OPTIONAL,
                bucket_counts=st.lists(TIMES, max_size=4),
                explicit_bounds=st.lists(st.floats(), max_size=3) | st.sampled_from([(1.0, 2.0), ()]),
                min=OPTIONAL,
                max=OPTIONAL,
                exemplars=FOUND,
            ),
            max_size=3,
        ),
        TEMPORALITIES,
    ),
    st.builds(
        ExponentialHistogram,
        st.lists(
            st.builds(
                ExponentialHistogramDataPoint,
                attributes=ATTRIBUTES,
                start_time_unix_nano=TIMES,
                time_unix_nano=TIMES,
                count=TIMES,
                sum=st.floats(),
                scale=st.integers(-(2**31), 2**31 - 1),
                zero_count=TIMES,
                positive=BUCKETS,
                negative=BUCKETS,
                flags=COUNTS,
                min=st.floats(),
                max=st.floats(),
                exemplars=FOUND,
            ),
            max_size=3,
        ),
        TEMPORALITIES,
    ),
)
METRICS = st.builds(Metric, TEXTS, TEXTS, TEXTS, DATA)


@settings(max_examples=150)
@given(
    RESOURCES,
    st.lists(
        st.tuples(SCOPES, st.lists(METRICS, min_size=1, max_size=3)), max_size=2, unique_by=lambda scoped: scoped[0]
    ),
)
def test_metrics(resource, scopes):
    """Of each kind; with exemplars, which are of spans or not."""
    of_scopes = [ScopeMetrics(scope, found, scope.schema_url) for scope, found in scopes]
    batch = MetricsData([ResourceMetrics(resource, of_scopes, resource.schema_url)] if of_scopes else [])
    points = sum(len(metric.data.data_points) for _, found in scopes for metric in found)

    assert same("metrics", batch)[1:] == (points, 0, 0)


BAD = st.one_of(
    st.text(max_size=20),
    st.integers(),
    st.just(object()),
    st.binary(max_size=20).map(bytearray),
    st.recursive(
        st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
    ),
    st.sets(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), st.text(max_size=5), max_size=3),
)
BAD_ATTRIBUTES = st.dictionaries(st.text(max_size=10) | st.integers() | st.none(), BAD, max_size=4)
BAD_SPANS = st.builds(
    ReadableSpan,
    name=BAD,
    context=st.builds(SpanContext, st.integers(0), st.integers(0), st.booleans()) | st.none(),
    attributes=BAD_ATTRIBUTES,
    events=st.lists(st.builds(Event, BAD, BAD_ATTRIBUTES, st.integers()), max_size=2),
    kind=st.sampled_from(list(SpanKind)) | BAD,
    start_time=st.integers(),
    end_time=st.integers() | st.text(max_size=5),
)
BAD_LOGS = st.builds(
    log,
    RESOURCES,
    SCOPES,
    BAD_ATTRIBUTES,
    BAD,
    timestamp=st.integers(),
    observed_timestamp=BAD,
    trace_id=st.integers(),
    span_id=st.integers(),
    trace_flags=st.integers(),
    severity_text=BAD,
    severity_number=st.sampled_from(list(SeverityNumber)) | BAD,
    event_name=BAD,
)


@settings(max_examples=200)
@given(st.lists(BAD_SPANS, min_size=1, max_size=3), st.lists(BAD_LOGS, min_size=1, max_size=3))
def test_whatever_a_value_is(bad_spans, bad_logs):
    """Nothing raises, what comes out is a request, and each item is in it or is counted as left out."""
    good = shared(ended("good"), [Resource({})], [InstrumentationScope("s")])
    shared(bad_spans, [Resource({})], [InstrumentationScope("s")])
    of_spans, of_logs = encoder.encode("traces", [*bad_spans, *good]), encoder.encode("logs", bad_logs)
    read = ExportLogsServiceRequest.FromString(of_logs.body)
    records = sum(len(scope.log_records) for of in read.resource_logs for scope in of.scope_logs)

    assert names_in(of_spans)[-1] == "good"
    assert len(names_in(of_spans)) == of_spans.items == len(bad_spans) + 1 - of_spans.left_out
    assert records == of_logs.items == len(bad_logs) - of_logs.left_out


def ended(*names, **attributes):
    tracer = TracerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False).get_tracer("t", "1")
    made = [tracer.start_span(name, attributes=attributes) for name in names]
    for span in made:
        span.end()
    return [span._readable_span() for span in made]


def names_in(encoded):
    found = ExportTraceServiceRequest.FromString(encoded.body)
    return [span.name for of in found.resource_spans for scope in of.scope_spans for span in scope.spans]


class Redacted(ReadableSpan):
    """Somebody's own class, that shows less than it keeps."""

    @property
    def attributes(self):
        return {"card": "***"}


def test_a_class_of_somebody_elses_is_asked():
    """And not read around."""
    (span,) = ended("a", card="x")
    redacted = Redacted(span.name, span.context, attributes=dict(span.attributes), resource=span.resource)

    found = same("traces", [redacted])
    assert (b"***" in found.body, found.items) == (True, 1)


def test_a_live_span():
    """An exporter may be called with one that has just ended."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("name", attributes={"a": 1})
    span.add_event("event", {"b": (1, 2)})
    span.end()

    same("traces", [span])


BAD_NAMES = [f"span {number}" for number in range(512)]
BAD_NAMES[200] = "half \ud800"


def test_what_cannot_be_encoded_is_repaired_alone():
    found = encoder.encode("traces", ended(*BAD_NAMES))

    assert names_in(found) == [name.replace("\ud800", "\ufffd") for name in BAD_NAMES]
    assert found[1:] == (512, 1, 0)


@pytest.mark.parametrize("places", [{0}, {511}, {100, 101, 400}, set(range(512))])
def test_what_no_repair_helps_is_left_out_alone(places):
    """Ids of more bits than ids have."""
    batch = ended(*(f"good {number}" for number in range(512)))
    for number in places:
        batch[number]._context = SpanContext(1 << 200, 1, is_remote=False)
    found = encoder.encode("traces", batch)

    assert names_in(found) == [f"good {number}" for number in range(512) if number not in places]
    assert found[1:] == (512 - len(places), 0, len(places))


@pytest.mark.parametrize("thing", [None, object(), SimpleNamespace(resource=None, instrumentation_scope=None)])
def test_what_is_no_span_at_all(thing):
    assert encoder.encode("traces", [thing])[1:] == (0, 0, 1)
    assert encoder.encode("logs", [thing])[1:] == (0, 0, 1)


def test_a_resource_and_a_scope_that_cannot_be_encoded():
    """All items are of it: it is repaired."""
    tracer = TracerProvider(resource=Resource({"service.name": "\ud800"}), shutdown_on_exit=False).get_tracer("t\ud800")
    span = tracer.start_span("a")
    span.end()
    found = encoder.encode("traces", [span._readable_span()])
    (of,) = ExportTraceServiceRequest.FromString(found.body).resource_spans

    assert (of.resource.attributes[0].value.string_value, of.scope_spans[0].scope.name) == ("\ufffd", "t\ufffd")
    assert found[1:] == (1, 1, 0)


def collected(*found):
    return MetricsData([OfResource(Resource({}), [ScopeMetrics(InstrumentationScope("s"), list(found), "")], "")])


def point(value, at=1):
    return NumberDataPoint({"value": value}, 0, 1, at, [])


def test_points_that_cannot_be_encoded():
    """One is repaired, one is left out, and a metric of which nothing is left as well."""
    many = Metric("a", "", "", Gauge([point("x"), point("\ud800"), point("y", at=2**70), point("z")]))
    none = Metric("b", "", "", Gauge([point("y", at="no number")]))
    found = encoder.encode("metrics", collected(many, none, Metric("c\ud800", "", "", Gauge([point("x")]))))
    (of,) = ExportMetricsServiceRequest.FromString(found.body).resource_metrics

    read = [
        (each.name, [one.attributes[0].value.string_value for one in each.gauge.data_points])
        for each in of.scope_metrics[0].metrics
    ]
    assert read == [("a", ["x", "\ufffd", "z"]), ("c\ufffd", ["x"])]
    assert found[1:] == (4, 2, 2)


def test_a_kind_of_metric_that_nobody_knows():
    unknown = SimpleNamespace(name="a", description="", unit="", data=SimpleNamespace(data_points=[1, 2]))

    assert encoder.encode("metrics", collected(unknown))[1:] == (0, 0, 2)


def test_nothing():
    assert encoder.encode("traces", []) == (b"", 0, 0, 0)


@below_at_above("export.otlp.wire.MAX_VALUES", 64, 63, 0, 0)
def test_of_a_name_whose_values_are_ever_others_none_is_kept(monkeypatch, size, outcome):
    monkeypatch.setattr(wire, "_keys", {})
    for number in range(size):
        wire.key_value("id", f"{number}", 9)

    assert len(wire._keys["id"].pairs) == outcome


@below_at_above("export.otlp.metrics.MAX_METRICS", 1024, 1023, 1024, 1)
def test_names_of_metrics_that_are_kept(monkeypatch, size, outcome):
    monkeypatch.setattr(metrics, "_names", {})
    for number in range(size):
        metrics.metric_of(Metric(f"m{number}", "", "", Gauge([])), [])

    assert len(metrics._names) == outcome


@below_at_above("export.otlp.metrics.MAX_BOUNDS", 64, 63, 64, 1)
def test_bounds_that_are_kept(monkeypatch, size, outcome):
    monkeypatch.setattr(metrics, "_bounds", {})
    kept = [(float(number),) for number in range(size)]
    for bounds in kept:
        metrics._bounds_of(bounds)

    assert len(metrics._bounds) == outcome


def test_plain_spans_are_read_without_their_properties():
    """Which make copies: `sys.setprofile` counts calls of Python's for a span of four attributes."""
    import sys

    (span,) = ended("name", a="x", b=1, c=1.5, d=True)
    spans.encode(span)
    calls = []
    sys.setprofile(lambda _frame, event, _argument: calls.append(event) if event == "call" else None)
    try:
        spans.encode(span)
    finally:
        sys.setprofile(None)

    assert len(calls) <= 14
