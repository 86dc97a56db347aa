"""The lines hold what the official encoder would have sent."""

from __future__ import annotations

import base64
import json

import pytest
from google.protobuf.json_format import MessageToDict, Parse
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_pipeline.export import otlp_json

IDS = {"traceId", "spanId", "parentSpanId"}


def as_protobuf(value):
    """OTLP JSON has ids in hex where protobuf's own JSON has base64."""
    if isinstance(value, dict):
        return {
            key: base64.b64encode(bytes.fromhex(each)).decode() if key in IDS else as_protobuf(each)
            for key, each in value.items()
        }
    return [as_protobuf(each) for each in value] if isinstance(value, list) else value


def without_ours(value):
    """OTLP wants the W3C flags in the low byte, and the tracestate of links; the official encoder leaves them out,
    and an older one the schema of scopes."""
    if isinstance(value, dict):
        links = [{**link, "traceState": None} for link in value.get("links", ())]
        return {
            key: each & ~0xFF if key == "flags" else without_ours(each)
            for key, each in ({**value, "links": links} if links else value).items()
            if each is not None and key != "schemaUrl"
        }
    return [without_ours(each) for each in value] if isinstance(value, list) else value


def parsed(request, kind):
    return MessageToDict(Parse(json.dumps(as_protobuf(request)), kind()))


@pytest.fixture
def spans():
    """Spans with everything that a span can have."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", "1", schema_url="https://example.org/1")
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "1")]))
    attributes = {"s": "ü", "b": True, "i": -5, "d": 0.5, "l": ["x", "y"], "n": [1, 2], "big": 2**40}
    span = tracer.start_span(
        "consume",
        set_span_in_context(NonRecordingSpan(remote)),
        SpanKind.CONSUMER,
        attributes,
        [Link(remote, {"k": "v"})],
    )
    span.add_event("event", {"e": 1})
    span.set_status(Status(StatusCode.ERROR, "broken"))
    span.end()
    provider.get_tracer("other").start_span("root").end()
    return exporter.get_finished_spans()


def test_spans_equal_the_official_encoders(spans):
    """Decoded, both are the same."""
    official = MessageToDict(encode_spans(spans))

    assert without_ours(parsed(otlp_json.spans(spans), ExportTraceServiceRequest)) == without_ours(official)


def test_metrics_equal_the_official_encoders():
    """A sum, a gauge and a histogram."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("scope", "1")
    meter.create_counter("counter", "1", "counts").add(3, {"a": "b"})
    meter.create_histogram("histogram", "s").record(0.3, {"a": "b"})
    meter.create_observable_gauge("gauge", [lambda _options: []])
    meter.create_up_down_counter("updown").add(-2.5)
    data = reader.get_metrics_data()
    provider.shutdown()

    assert parsed(otlp_json.metrics(data), ExportMetricsServiceRequest) == MessageToDict(encode_metrics(data))


@pytest.mark.parametrize(
    ("number", "written"),
    [(0.5, 0.5), (float("nan"), "NaN"), (float("inf"), "Infinity"), (-float("inf"), "-Infinity")],
)
def test_numbers_that_json_has_not(number, written):
    """As protobuf's JSON has them, so that a Collector reads them."""
    assert otlp_json.value(number) == {"doubleValue": written}
    assert parsed(
        {"resourceSpans": [{"resource": {"attributes": otlp_json.attributes({"a": number})}}]},
        ExportTraceServiceRequest,
    )
