"""What the exporters' session tells of the Collector's clock, and that it changes nothing about an export."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from otel_pipeline.detectors.clock_bound import ClockBound
from otel_pipeline.export import exporters
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.destination import Destination
from otel_pipeline.export.losses import Losses


class Collector:
    """Answers with the headers and status codes that a test wants; keeps what it was asked."""

    def __init__(self):
        self.dates = [lambda: formatdate(usegmt=True)]
        self.statuses = []
        self.requests = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, dict(self.headers), body))
                self.send_response_only(collector.statuses.pop(0) if collector.statuses else 200)
                date = collector.dates[0]()
                if date is not None:
                    self.send_header("Date", date)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector():
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def spans():
    """One span, ended."""
    ended = []

    class Keep(SimpleSpanProcessor):
        def on_end(self, span):
            ended.append(span)

    provider = TracerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False)
    provider.add_span_processor(Keep(None))
    provider.get_tracer("t").start_span("name").end()
    return ended


def destination(endpoint, protocol="http/protobuf"):
    return Destination(("otlp",), protocol, endpoint, f"{endpoint}/v1/traces", lines_when_refused=False)


def exporter(endpoint, answers, protocol="http/protobuf"):
    problems = []
    ((_, border),) = exporters.make(
        "traces", destination(endpoint, protocol), None, answers, Losses(), lambda *said: problems.append(said)
    )
    assert problems == []
    return border


def told(answers):
    """What the listener is told from now on."""
    heard = []
    answers.listener = lambda *times: heard.append(times)
    return heard


def test_the_bound_of_one_machine_contains_zero(collector, spans):
    answers, clock = Answers(), ClockBound()
    answers.listener = clock.add
    made = exporter(collector.endpoint, answers)

    for _ in range(3):
        assert made.export(spans) is SpanExportResult.SUCCESS

    found = clock.interval()
    assert found.lower <= 0 <= found.upper
    assert found.bound < 1.2


@pytest.mark.parametrize("ahead", [7.0, -7.0])
def test_a_collector_with_another_clock(collector, spans, ahead):
    """It is ahead: theta = clock(here) - clock(Collector) is negative."""
    collector.dates[0] = lambda: formatdate(time.time() + ahead, usegmt=True)
    answers, clock = Answers(), ClockBound()
    answers.listener = clock.add
    exporter(collector.endpoint, answers).export(spans)

    found = clock.interval()
    assert found.lower <= -ahead <= found.upper
    assert 6 <= found.bound <= 8.2


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Thu, 99 Foo 2026 25:61:61 GMT", "\xff" * 50, "0", "Thu, 01 Jan 1970", "1" * 5000]
)
def test_a_date_that_is_missing_or_bad_is_no_evidence(collector, spans, date):
    collector.dates[0] = lambda: date
    answers = Answers()
    heard = told(answers)

    assert exporter(collector.endpoint, answers).export(spans) is SpanExportResult.SUCCESS
    assert heard == []


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0000"])
def test_every_way_to_write_greenwich(collector, spans, zone):
    collector.dates[0] = lambda: f"Sun, 06 Nov 1994 08:49:37 {zone}"
    answers = Answers()
    heard = told(answers)
    exporter(collector.endpoint, answers).export(spans)

    assert [date for _, _, date in heard] == [784111777]


def test_a_listener_that_raises_harms_no_export(collector, spans):
    answers = Answers()

    def listener(*_times):
        raise ValueError

    answers.listener = listener
    assert exporter(collector.endpoint, answers).export(spans) is SpanExportResult.SUCCESS


def test_nobody_listens(collector, spans):
    assert exporter(collector.endpoint, Answers()).export(spans) is SpanExportResult.SUCCESS


def test_retries_are_the_exporters_own(collector, spans):
    """A 503 is tried again, and both answers have a Date."""
    collector.statuses = [503]
    answers = Answers()
    heard = told(answers)

    assert exporter(collector.endpoint, answers).export(spans) is SpanExportResult.SUCCESS
    assert (len(collector.requests), len(heard)) == (2, 2)
    assert all(sent <= received for sent, received, _ in heard)
    assert heard[0][1] <= heard[1][0]


def test_only_one_machine_is_compared_with(collector, spans):
    answers = Answers()
    heard = told(answers)
    exporter(collector.endpoint, answers).export(spans)
    exporter(collector.endpoint.replace("127.0.0.1", "localhost"), answers).export(spans)

    assert len(heard) == 1


def test_grpc_says_nothing_of_its_clock():
    made = exporter("http://127.0.0.1:4317", Answers(), "grpc")
    assert isinstance(made.exporter, GrpcExporter)
    made.shutdown()


@pytest.mark.real
def test_against_the_real_collector(real_collector, spans):
    """On one machine: found after the first of three exports, and 0 is inside."""
    answers, clock = Answers(), ClockBound()
    answers.listener = clock.add
    made = exporter(real_collector.http, answers)
    found = []
    for _ in range(3):
        assert made.export(spans) is SpanExportResult.SUCCESS
        found.append(clock.interval())
        time.sleep(0.35)

    assert all(each is not None and each.lower <= 0 <= each.upper for each in found), found
    assert found[-1].bound < 1.1
