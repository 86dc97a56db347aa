from __future__ import annotations

import contextlib
import gzip
import http.client
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import (
    EventRecord,
    LinkRecord,
    LogRecord,
    MetricRecord,
    PointRecord,
    SpanRecord,
    read,
)
from tests.limits import below_at_above


def post(endpoint, path, body, headers=None):
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=10)
    connection.request("POST", path, body, headers or {})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    return answer.status, said


def put(pairs, **values):
    for name, value in values.items():
        pair = pairs.add(key=name)
        kind = {str: "string_value", int: "int_value", float: "double_value", bool: "bool_value", bytes: "bytes_value"}
        if isinstance(value, list):
            for item in value:
                pair.value.array_value.values.add(string_value=item)
        elif isinstance(value, dict):
            put(pair.value.kvlist_value.values, **value)
        elif value is not None:
            setattr(pair.value, kind[type(value)], value)


def test_a_kind_of_value_that_otlp_has_got_since(tmp_path):
    """As the index of a text, which profiles have, or one of a later version: the span is kept without this value."""
    sent = ExportTraceServiceRequest()
    span = sent.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name="a")
    known = span.attributes.add(key="k").value
    if "string_value_strindex" not in known.DESCRIPTOR.fields_by_name:
        pytest.skip("older packages of OTLP read it as nothing")
    known.string_value_strindex = 7
    put(span.attributes, other=1)
    with otlp_receiver(tmp_path) as endpoint:
        status, _ = post(endpoint, "/v1/traces", sent.SerializeToString())

    assert (status, [each.attributes for each in read(tmp_path / "telemetry.jsonl")]) == (
        200,
        [{"k": None, "other": 1}],
    )


def test_spans_are_kept_as_they_came(tmp_path):
    """Every field and every kind of value, through our own reader."""
    sent = ExportTraceServiceRequest()
    group = sent.resource_spans.add()
    put(group.resource.attributes, service="scorer")
    scope = group.scope_spans.add()
    scope.scope.name = "kafka"
    span = scope.spans.add(
        trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
        parent_span_id=b"\3" * 8,
        name="process a",
        kind=5,
        start_time_unix_nano=1,
        end_time_unix_nano=2**60,
        trace_state="a=b",
        flags=257,
    )
    values = {"a": "x", "b": -7, "c": 0.5, "d": True, "e": b"\0", "f": ["y", "z"], "g": {"h": 1}, "i": None}
    put(span.attributes, **values)
    span.status.code, span.status.message = 2, "no"
    span.events.add(name="exception", time_unix_nano=5)
    link = span.links.add(trace_id=b"\1" * 16, span_id=b"\3" * 8)
    put(link.attributes, k=1)
    with otlp_receiver(tmp_path) as endpoint:
        answer = post(endpoint, "/v1/traces", gzip.compress(sent.SerializeToString()), {"Content-Encoding": "gzip"})

    assert (answer, list(read(tmp_path / "telemetry.jsonl"))) == (
        (200, b""),
        [
            SpanRecord(
                "01" * 16,
                "02" * 8,
                "03" * 8,
                "process a",
                "CONSUMER",
                1,
                2**60,
                {**values, "f": ("y", "z")},
                (LinkRecord("01" * 16, "03" * 8, {"k": 1}),),
                (EventRecord("exception", 5, {}),),
                "ERROR",
                "no",
                {"service": "scorer"},
                "kafka",
                "a=b",
                257,
            )
        ],
    )


def test_logs_and_metrics_are_kept(tmp_path):
    """On their own paths, into the same file."""
    logs = ExportLogsServiceRequest()
    log = (
        logs.resource_logs.add()
        .scope_logs.add()
        .log_records.add(
            time_unix_nano=4, severity_number=9, severity_text="INFO", trace_id=b"\1" * 16, span_id=b"\2" * 8, flags=1
        )
    )
    log.body.string_value = "hello"
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="sent", unit="{message}")
    metric.sum.data_points.add(as_int=3, time_unix_nano=5)
    metric.sum.is_monotonic = True
    with otlp_receiver(tmp_path) as endpoint:
        post(endpoint, "/v1/logs", logs.SerializeToString())
        post(endpoint, "/v1/metrics", metrics.SerializeToString())

    assert list(read(tmp_path / "telemetry.jsonl")) == [
        LogRecord(4, "INFO", 9, "hello", {}, "01" * 16, "02" * 8, 1, {}, ""),
        MetricRecord("sent", "{message}", "", "sum", (PointRecord({}, 0, 5, value=3),), True, "UNSPECIFIED", {}, ""),
    ]


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/traces", b"\xff\xff\xff", {}),
        ("/v1/traces", b"not gzip", {"Content-Encoding": "gzip"}),
        ("/v1/profiles", b"", {}),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, path, body, headers):
    """With an answer, so that the exporter does not try again and again; nothing is kept."""
    with otlp_receiver(tmp_path) as endpoint:
        status, _ = post(endpoint, path, body, headers)

    assert (status, (tmp_path / "telemetry.jsonl").read_text()) == (400, "")


def test_numbers_that_are_none_are_words(tmp_path):
    """As protobuf's JSON has them: other readers refuse a bare NaN."""
    sent = ExportTraceServiceRequest()
    span = sent.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
    put(span.attributes, none=float("nan"), most=float("inf"), least=-float("inf"), half=0.5)
    with otlp_receiver(tmp_path) as endpoint:
        assert post(endpoint, "/v1/traces", sent.SerializeToString())[0] == 200
    text = (tmp_path / "telemetry.jsonl").read_text()
    (span,) = read(tmp_path / "telemetry.jsonl")

    assert [f'{{"doubleValue":{word}}}' in text for word in ('"NaN"', '"Infinity"', '"-Infinity"', "0.5")] == [True] * 4
    assert span.attributes["least"] == -float("inf")


@below_at_above("the receiver's largest body", 64_000_000, 400, 400, 413)
@pytest.mark.parametrize("packed", [False, True])
def test_the_size_of_a_request(tmp_path, size, outcome, packed):
    """As it comes, and unpacked: a small one can be anything. (400: it is no telemetry either.)"""
    body = b"\xff" * size
    with otlp_receiver(tmp_path) as endpoint:
        sent = gzip.compress(body, 1) if packed else body
        status = answer_to(endpoint, sent, {"Content-Encoding": "gzip"} if packed else {})

    assert status == outcome


def answer_to(endpoint, body, headers):
    """The status; what is too large is answered before it was read."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=30)
    connection.putrequest("POST", "/v1/traces")
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    with contextlib.suppress(OSError):
        connection.send(body)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "9" * 30}, 413),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "x"}, 411),
        ({"Transfer-Encoding": "chunked"}, 400),
        ({"Transfer-Encoding": "gzip, chunked", "Content-Length": ""}, 400),
        ({"Origin": "http://somewhere.invalid"}, 403),
        ({"Content-Encoding": "gzip"}, 400),
    ],
)
def test_what_no_exporter_sends_is_refused(tmp_path, headers, status):
    """And the next request is answered."""
    with otlp_receiver(tmp_path) as endpoint:
        answers = [answer_to(endpoint, b"", headers), post(endpoint, "/v1/traces", b"")[0]]

    assert answers == [status, 200]


EMPTY = gzip.compress(b"", mtime=0)


def chunked(*chunks, end=b"0\r\n\r\n"):
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (chunked(b"", end=b""), {}, 200),
        (chunked(end=b"0\r\nChecksum: 1\r\n\r\n"), {}, 200),
        (chunked(EMPTY[:9], EMPTY[9:]), {"Content-Encoding": "gzip"}, 200),
        (chunked(b"abc"), {}, 400),
        (b"-1\r\n\r\n", {}, 400),
        (b"3\r\nabcd\r\n0\r\n\r\n", {}, 400),
        (b"3d09001\r\n", {}, 413),
        (b"f" * 9 + b"\r\n", {}, 400),
        (b"0\r\n" + b"a: b\r\n" * 40, {}, 400),
    ],
    ids=range(9),
)
def test_a_body_in_chunks(tmp_path, body, headers, status):
    """It is read whole, within the same bounds; what is none is refused."""
    with otlp_receiver(tmp_path) as endpoint:
        found = answer_to(endpoint, body, {"Transfer-Encoding": "chunked", "Content-Length": "", **headers})

    assert found == status


def test_what_came_in_chunks_is_kept(tmp_path):
    """As any other request."""
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans
    made.add(name="a", trace_id=b"1" * 16, span_id=b"1" * 8)
    made.add(name="b", trace_id=b"1" * 16, span_id=b"2" * 8)
    body = request.SerializeToString()
    with otlp_receiver(tmp_path) as endpoint:
        sent = chunked(body[:10], body[10:])
        status = answer_to(endpoint, sent, {"Transfer-Encoding": "chunked", "Content-Length": ""})

    assert (status, [record.name for record in read(tmp_path / "telemetry.jsonl")]) == (200, ["a", "b"])


def test_a_body_that_is_cut_short_is_refused(tmp_path):
    """Half of what was packed is nothing."""
    with otlp_receiver(tmp_path) as endpoint:
        packed = gzip.compress(ExportTraceServiceRequest().SerializeToString() + b"x" * 100)
        status, said = post(endpoint, "/v1/traces", packed[:-10], {"Content-Encoding": "gzip"})

    assert (status, said) == (400, b"its compression is cut short")


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    """So that the exporter tries again later."""

    def full(_lines, _request, _connection):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("otel_pipeline.dev.receiver.Lines.take", full)
    with otlp_receiver(tmp_path) as endpoint:
        assert post(endpoint, "/v1/traces", b"") == (503, b"it cannot be kept: No space left on device")
