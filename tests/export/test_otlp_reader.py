from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_pipeline.export.otlp_reader import (
    EventRecord,
    LinkRecord,
    LogRecord,
    MetricRecord,
    PointRecord,
    SpanRecord,
    parse,
    read,
)
from tests.limits import below_at_above

TRACE = "5f0c1a2b5f0c1a2b5f0c1a2b5f0c1a2b"
SPAN = "00f067aa0ba902b7"
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "scorer"}}]}


def spans(*items):
    return {
        "resourceSpans": [{"resource": RESOURCE, "scopeSpans": [{"scope": {"name": "otel_pipeline"}, "spans": items}]}]
    }


def span(**fields):
    return {"traceId": TRACE, "spanId": SPAN, **fields}


def write(tmp_path, *lines):
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_a_span_is_read_whole():
    """Numbers as strings, links, events, status and resource, as our own writer and the Collector write them."""
    request = spans(
        {
            "traceId": TRACE,
            "spanId": SPAN,
            "parentSpanId": "b7ad6b7169203331",
            "traceState": "vendor=1",
            "flags": 769,
            "name": "process digits.raw",
            "kind": 5,
            "startTimeUnixNano": "1795520440000000001",
            "endTimeUnixNano": "1795520440000000009",
            "attributes": [{"key": "kafka.offset", "value": {"intValue": "7"}}],
            "links": [
                {
                    "traceId": TRACE,
                    "spanId": "b7ad6b7169203331",
                    "attributes": [{"key": "a", "value": {"boolValue": True}}],
                }
            ],
            "events": [
                {
                    "name": "exception",
                    "timeUnixNano": "5",
                    "attributes": [{"key": "b", "value": {"doubleValue": 0.5}}],
                }
            ],
            "status": {"code": 2, "message": "no"},
        }
    )

    assert parse(request) == [
        SpanRecord(
            trace_id=TRACE,
            span_id=SPAN,
            parent_span_id="b7ad6b7169203331",
            name="process digits.raw",
            kind="CONSUMER",
            start_ns=1795520440000000001,
            end_ns=1795520440000000009,
            attributes={"kafka.offset": 7},
            links=(LinkRecord(TRACE, "b7ad6b7169203331", {"a": True}),),
            events=(EventRecord("exception", 5, {"b": 0.5}),),
            status="ERROR",
            status_message="no",
            resource={"service.name": "scorer"},
            scope="otel_pipeline",
            trace_state="vendor=1",
            flags=769,
        )
    ]


def test_what_is_left_out_has_protobufs_defaults():
    """Protobuf's JSON leaves out what is zero or empty."""
    assert parse({"resourceSpans": [{"scopeSpans": [{"spans": [span()]}]}]}) == [
        SpanRecord(TRACE, SPAN, "", "", "INTERNAL", 0, 0, {}, (), (), "UNSET", "", {}, "", "", 0)
    ]


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (1, "INTERNAL"),
        ("2", "SERVER"),
        (3, "CLIENT"),
        ("SPAN_KIND_PRODUCER", "PRODUCER"),
        ("CONSUMER", "CONSUMER"),
        (99, "INTERNAL"),
        ("SPAN_KIND_FROM_THE_FUTURE", "INTERNAL"),
    ],
)
def test_kinds_are_numbers_or_words(written, kind):
    """Both are OTLP JSON; what a newer version brings is the default."""
    assert parse(spans(span(kind=written)))[0].kind == kind


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"stringValue": "a"}, "a"),
        ({"intValue": 7}, 7),
        ({"doubleValue": "NaN"}, pytest.approx(float("nan"), nan_ok=True)),
        ({"boolValue": False}, False),
        ({"bytesValue": "AAE="}, b"\0\1"),
        ({"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "b"}]}}, (1, "b")),
        ({"arrayValue": {}}, ()),
        ({"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": True}}]}}, {"k": True}),
        ({}, None),
    ],
)
def test_values_of_every_kind(written, value):
    """Every kind of attribute value that OTLP has."""
    assert parse(spans(span(attributes=[{"key": "a", "value": written}])))[0].attributes == {"a": value}


def test_a_parent_of_zeros_is_none():
    """Some exporters write a missing parent as zeros."""
    assert parse(spans(span(parentSpanId="0" * 16)))[0].parent_span_id == ""


def test_a_sum_and_a_histogram():
    """Counts arrive as strings; other kinds of metric are left out."""
    point = {"attributes": [], "startTimeUnixNano": "1", "timeUnixNano": "2"}
    request = {
        "resourceMetrics": [
            {
                "resource": RESOURCE,
                "scopeMetrics": [
                    {
                        "scope": {"name": "otel_pipeline"},
                        "metrics": [
                            {
                                "name": "messaging.client.sent.messages",
                                "unit": "{message}",
                                "description": "Sent.",
                                "sum": {
                                    "dataPoints": [{**point, "asInt": "3"}],
                                    "aggregationTemporality": 2,
                                    "isMonotonic": True,
                                },
                            },
                            {
                                "name": "messaging.process.duration",
                                "unit": "s",
                                "histogram": {
                                    "dataPoints": [
                                        {
                                            **point,
                                            "count": "3",
                                            "sum": 0.5,
                                            "explicitBounds": [0.1],
                                            "bucketCounts": ["1", "2"],
                                        }
                                    ],
                                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA",
                                },
                            },
                            {"name": "lag", "gauge": {"dataPoints": [{**point, "asDouble": 1}]}},
                            {"name": "other", "summary": {"dataPoints": []}},
                        ],
                    }
                ],
            }
        ]
    }
    resource = {"service.name": "scorer"}

    assert parse(request) == [
        MetricRecord(
            "messaging.client.sent.messages",
            "{message}",
            "Sent.",
            "sum",
            (PointRecord({}, 1, 2, value=3),),
            monotonic=True,
            temporality="CUMULATIVE",
            resource=resource,
            scope="otel_pipeline",
        ),
        MetricRecord(
            "messaging.process.duration",
            "s",
            "",
            "histogram",
            (PointRecord({}, 1, 2, count=3, sum=0.5, bounds=(0.1,), bucket_counts=(1, 2)),),
            monotonic=False,
            temporality="DELTA",
            resource=resource,
            scope="otel_pipeline",
        ),
        MetricRecord(
            "lag",
            "",
            "",
            "gauge",
            (PointRecord({}, 1, 2, value=1.0),),
            monotonic=False,
            temporality="UNSPECIFIED",
            resource=resource,
            scope="otel_pipeline",
        ),
    ]


def test_a_log_record():
    """A record outside any span has empty ids; the time observed stands in for a missing time."""
    logs = [
        {
            "timeUnixNano": "4",
            "severityText": "INFO",
            "severityNumber": 9,
            "body": {"stringValue": "looks like a 3"},
            "traceId": TRACE,
            "spanId": SPAN,
            "flags": 1,
        },
        {"observedTimeUnixNano": "5", "severityNumber": "SEVERITY_NUMBER_WARN"},
    ]
    request = {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"logRecords": logs}]}]}
    resource = {"service.name": "scorer"}

    assert parse(request) == [
        LogRecord(4, "INFO", 9, "looks like a 3", {}, TRACE, SPAN, 1, resource, ""),
        LogRecord(5, "", 0, None, {}, "", "", 0, resource, ""),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "5f0',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"7",
        b'{"something": "else"}',
        json.dumps(spans({"spanId": SPAN})).encode(),
        json.dumps(spans(span(traceId="xyz"))).encode(),
        json.dumps(spans(span(startTimeUnixNano="soon"))).encode(),
        json.dumps(spans(7)).encode(),
        b"[" * 100_000,
        b'{"resourceSpans": ' + b'{"a":' * 50_000,
    ],
)
def test_a_bad_line_is_counted_and_the_next_is_read(tmp_path, bad):
    """A crash tears lines; the rest of the file is still good."""
    reading = read(write(tmp_path, spans(span(name="a")), bad, spans(span(name="b")), b""))

    assert ([record.name for record in reading], reading.skipped) == (["a", "b"], 1)


def test_only_lines_with_a_text(tmp_path):
    """What has not the text in it is not even parsed."""
    other = "1" * 32
    reading = read(write(tmp_path, spans(span()), spans(span(traceId=other)), b"torn"), containing=other)

    assert ([record.trace_id for record in reading], reading.skipped) == ([other], 0)


def test_an_empty_export_is_no_bad_line(tmp_path):
    """An exporter may write a request with nothing in it."""
    reading = read(write(tmp_path, {}, {"resourceSpans": []}))

    assert (list(reading), reading.skipped) == ([], 0)


def test_a_missing_file_is_the_callers_error(tmp_path):
    """Lines are forgiven, files are not."""
    with pytest.raises(FileNotFoundError):
        list(read(tmp_path / "none.jsonl"))


def test_what_the_collector_wrote():
    """Lines of the file exporter of Collector 0.155.0, shortened."""
    span, counter, histogram, log = read(Path(__file__).with_name("collector.jsonl"))

    assert (
        (span.name, span.kind, span.attributes["otel_pipeline.hops"], span.links[0].span_id, span.status, span.flags),
        (counter.kind, counter.monotonic, counter.temporality, counter.points[0].value),
        (histogram.kind, sum(histogram.points[0].bucket_counts), len(histogram.points[0].bounds)),
        (log.body, log.trace_id == span.trace_id, log.span_id == span.span_id),
        span.resource == counter.resource == log.resource,
    ) == (
        ("process digits.features", "CONSUMER", 2, span.parent_span_id, "UNSET", 768),
        ("sum", True, "CUMULATIVE", 200),
        ("histogram", 19, 14),
        ("image 0 looks like a 0, a person saw a 0", True, True),
        True,
    )


@below_at_above("export.otlp_reader.MAX_TIME_NS", 2**64, 0, 1, 1)
def test_the_last_moment(tmp_path, size, outcome):
    """What OTLP's 64 bits can say is a time; another line is skipped, and counted."""
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(spans(span(startTimeUnixNano=str(size)))) + "\n")
    reading = read(path)

    assert (len(list(reading)), reading.skipped) == (1 - outcome, outcome)
