"""What the exporters' session tells of the Collector's clock, and that it changes nothing about an export."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from otel_pipeline.detectors.clock_bound import ClockBound
from otel_pipeline.export import exporters
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.destination import Destination
from otel_pipeline.export.losses import Losses
from otel_pipeline.export.transports import session


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


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_the_same_request_as_without_us(collector, spans, monkeypatch, compression):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "tenant=a,authorization=Bearer%20b")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # gzip writes it.
    exporter(collector.endpoint, Answers()).export(spans)
    OTLPSpanExporter(endpoint=f"{collector.endpoint}/v1/traces").export(spans)

    ours, plain = collector.requests
    assert ours == plain
    assert ours[1].get("Content-Encoding", "none") == compression
    assert ours[1]["tenant"] == "a"


def test_certificates_and_timeouts_stay_the_exporters(monkeypatch, spans, tmp_path):
    """What reaches `requests` is the same, but that an answer is not read to its end."""
    for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        (tmp_path / name).write_text("")
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", str(tmp_path / name))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    seen = []

    def send(self, _adapter_request, **arguments):
        arguments["timeout"] = round(arguments["timeout"], 1)
        del arguments["stream"]
        seen.append(arguments)
        response = requests.Response()
        response.status_code = 200
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    exporter("https://collector.example:4318", Answers()).export(spans)
    OTLPSpanExporter(endpoint="https://collector.example:4318/v1/traces").export(spans)

    ours, plain = seen
    assert ours == plain
    assert (ours["verify"], ours["timeout"]) == (str(tmp_path / "CERTIFICATE"), 3)
    assert ours["cert"] == (str(tmp_path / "CLIENT_CERTIFICATE"), str(tmp_path / "CLIENT_KEY"))
    assert ours["proxies"]["https"] == "http://proxy:1"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", False),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", False),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER", True),
    ],
)
def test_a_credential_providers_session_is_left_alone(monkeypatch, name, ours):
    monkeypatch.setenv(name, "vendor")
    assert (session("traces", Answers(), loopback=False) is not None) is ours


def test_loopback_needs_no_proxy():
    assert session("traces", Answers(), loopback=True).trust_env is False
    assert session("traces", Answers(), loopback=False).trust_env is True


def test_grpc_says_nothing_of_its_clock():
    made = exporter("http://127.0.0.1:4317", Answers(), "grpc")
    assert isinstance(made.exporter, GrpcExporter)
    made.shutdown()


def test_other_sessions_of_requests_are_not_touched(collector):
    answers = Answers()
    heard = told(answers)
    session("traces", answers, loopback=True)
    requests.post(f"{collector.endpoint}/v1/traces", data=b"x", timeout=5).close()
    assert heard == []


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
