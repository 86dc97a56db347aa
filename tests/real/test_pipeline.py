"""The demo's three services on a real broker, exporting through a real Collector: the test reads what the Collector wrote."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict

import pytest

from otel_pipeline.demo.check import STEPS
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, SpanRecord, read
from otel_pipeline.testing.checker import check

pytestmark = pytest.mark.real
MESSAGES = 60


ONE_LINE = pytest.param([], id="one line", marks=pytest.mark.xdist_group("demo with one line"))
WRAPPER = pytest.param(["--wrapper"], id="wrapper", marks=pytest.mark.xdist_group("demo with the wrapper"))


@pytest.fixture(scope="module", params=[ONE_LINE, WRAPPER])
def written(request, real_broker, real_collector):
    """What the Collector has written of one run of the demo."""
    before = time.time_ns()
    done = subprocess.run(
        [
            *[sys.executable, "-m", "otel_pipeline.cli.main", "demo", "--messages", str(MESSAGES)],
            *["--bootstrap", real_broker.bootstrap, "--export", real_collector.http, *request.param],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + 20
    while True:
        records = [record for record in read(real_collector.output) if _since(record) > before]
        spans = [record for record in records if isinstance(record, SpanRecord)]
        if len([span for span in spans if span.kind == "PRODUCER"]) >= 3 * MESSAGES or time.monotonic() > deadline:
            return records
        time.sleep(0.2)


def _since(record):
    if isinstance(record, MetricRecord):
        return max(point.time_ns for point in record.points)
    return record.start_ns if isinstance(record, SpanRecord) else record.time_ns


def test_every_message_is_one_trace_over_three_services(written):
    """One trace id a message, the parents as the steps have them, each service in its environment."""
    traces = defaultdict(list)
    for record in written:
        if isinstance(record, SpanRecord) and not record.name.startswith("poll"):
            traces[record.trace_id].append(record)

    shapes = defaultdict(int)
    for spans in traces.values():
        by_id = {span.span_id: span for span in spans}
        shape = []
        for span in sorted(spans, key=lambda span: (span.start_ns, span.kind)):
            parent = by_id.get(span.parent_span_id)
            shape.append(
                (
                    span.kind,
                    span.resource["service.name"],
                    span.resource["deployment.environment.name"],
                    (parent.kind, parent.resource["service.name"]) if parent else None,
                    span.attributes.get("otel_pipeline.origin.environment"),
                    span.attributes.get("otel_pipeline.hops"),
                )
            )
        shapes[tuple(sorted(shape, key=str))] += 1

    whole = [
        ("PRODUCER", "ingest", "local", None, None, None),
        ("CONSUMER", "features", "staging", ("PRODUCER", "ingest"), "local", 1),
        ("PRODUCER", "features", "staging", ("CONSUMER", "features"), None, None),
        ("CONSUMER", "scorer", "production", ("PRODUCER", "features"), "local", 2),
        ("INTERNAL", "scorer", "production", ("CONSUMER", "scorer"), "local", None),
        ("PRODUCER", "scorer", "production", ("CONSUMER", "scorer"), None, None),
    ]
    assert dict(shapes) == {tuple(sorted(whole, key=str)): MESSAGES}
    assert len(STEPS) == len(whole)


def test_the_checker_finds_nothing(written):
    """Spans and metrics are as the conventions and our registry want them."""
    spans = [record for record in written if isinstance(record, SpanRecord)]
    metrics = [record for record in written if isinstance(record, MetricRecord)]

    assert (check(spans, metrics), bool(spans), bool(metrics)) == ([], True, True)


def test_metrics_count_every_message(written):
    """Sent and consumed, by service, from the last collection of each."""
    last = {}
    for record in written:
        if isinstance(record, MetricRecord) and record.name.startswith("messaging.client.") and record.kind == "sum":
            for point in record.points:
                last[record.resource["service.name"], record.name] = point.value

    assert last == {
        ("ingest", "messaging.client.sent.messages"): MESSAGES,
        ("features", "messaging.client.consumed.messages"): MESSAGES,
        ("features", "messaging.client.sent.messages"): MESSAGES,
        ("scorer", "messaging.client.consumed.messages"): MESSAGES,
        ("scorer", "messaging.client.sent.messages"): MESSAGES,
    }


def test_log_lines_are_in_the_traces(written):
    """The scorer's lines carry the trace that they belong to."""
    traces = {record.trace_id for record in written if isinstance(record, SpanRecord)}
    lines = [record for record in written if isinstance(record, LogRecord) and "looks like" in str(record.body)]

    assert len(lines) == MESSAGES
    assert {line.trace_id for line in lines} <= traces
