"""Each way in which an export fails is told apart and said in words, over HTTP and gRPC, against real servers."""

from __future__ import annotations

import logging
from importlib import import_module
from operator import itemgetter
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_pipeline.export import causes, exporters
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.destination import Destination
from otel_pipeline.export.losses import Losses
from otel_pipeline.testing import Collector
from tests.collected import CERTIFICATE, fail, names, refused_port


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Enough for one answer; exporters of old have a time for attempts of its own."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    for kind in ("http.trace_exporter", "grpc.exporter"):
        module = import_module(f"opentelemetry.exporter.otlp.proto.{kind}")
        if hasattr(module, "_create_exp_backoff_generator"):
            monkeypatch.setattr(module, "_create_exp_backoff_generator", lambda max_value: iter((0.01, max_value)))


def spans(count=1):
    """Spans that have ended."""
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("t")
    made = [tracer.start_span(f"span {number}") for number in range(count)]
    for span in made:
        span.end()
    return made


def failed(endpoint, protocol="http/protobuf", path="/v1/traces"):
    """Export once; return the reason, and what is said."""
    problems = []
    given = endpoint + path if protocol != "grpc" else endpoint
    destination = Destination(("otlp",), protocol, endpoint, given, lines_when_refused=False)
    ((_, border),) = exporters.make(
        "traces", destination, None, Answers(), Losses(), lambda *said: problems.append(said)
    )
    border.export(spans())
    border.shutdown()
    assert problems == []
    return border.account.last_error and border.account.last_error[1]


def said(cause):
    return cause and (cause.reason, str(cause))


STATUSES = {
    "400": ("400", "it refuses the request (HTTP 400); is it an OTLP endpoint? look at its log"),
    "401": ("401", "the credentials are not accepted (HTTP 401); look at OTEL_EXPORTER_OTLP_HEADERS"),
    "403": ("403", "the credentials are not accepted (HTTP 403); look at OTEL_EXPORTER_OTLP_HEADERS"),
    "404": (
        "404",
        (
            "nothing takes traces at this path (HTTP 404); is it an OTLP endpoint, with a pipeline for traces? "
            "OTEL_TRACES_EXPORTER=none sends none"
        ),
    ),
    "429": ("429", "it gets too much (HTTP 429); give it more capacity, or record less (sample_rate)"),
    "429:30": ("429", "it gets too much (HTTP 429); give it more capacity, or record less (sample_rate)"),
    "500": ("500", "it fails (HTTP 500); look at its log"),
    "503": ("503", "it is not available (HTTP 503); is it starting, overloaded, or behind a proxy?"),
    "redirect": (
        "302",
        "it redirects, which is not followed (HTTP 302); set OTEL_EXPORTER_OTLP_ENDPOINT to where it leads",
    ),
    "hang": (
        "timeout",
        (
            "it gives no answer in time; is it overloaded, is a firewall between? OTEL_EXPORTER_OTLP_TIMEOUT says how long "
            "is waited"
        ),
    ),
    "reset": ("reset", "it closes the connection without an answer; look at its log: is it an OTLP endpoint?"),
    "close": ("reset", "it closes the connection without an answer; look at its log: is it an OTLP endpoint?"),
    "ok": None,
}


@pytest.mark.parametrize("mode", STATUSES)
def test_over_http(collector, mode):
    """What a server answers, or does not."""
    fail(collector, mode)

    assert said(failed(collector.endpoint)) == STATUSES[mode]


def test_nobody_listens():
    assert said(failed(f"http://127.0.0.1:{refused_port()}")) == (
        "refused",
        "nobody listens there; start a Collector, or set OTEL_EXPORTER_OTLP_ENDPOINT to one",
    )


def test_a_name_that_does_not_exist():
    assert said(failed("http://no-such-host.invalid:4318")) == (
        "name_not_found",
        "its name cannot be resolved; look at the host in OTEL_EXPORTER_OTLP_ENDPOINT",
    )


def test_http_spoken_to_a_grpc_port():
    with Collector(grpc=True) as collector:
        assert said(failed(collector.grpc_endpoint)) == (
            "wrong_protocol",
            "this port speaks gRPC; use port 4318, or OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
        )


def test_a_path_that_is_doubled(collector):
    collector.fault(404)

    assert said(failed(collector.endpoint, path="/v1/traces/v1/traces")) == (
        "404",
        (
            "nothing takes traces at this path (HTTP 404); leave /v1/... out of OTEL_EXPORTER_OTLP_ENDPOINT: /v1/traces is "
            "added to it"
        ),
    )


def test_a_path_that_is_left_out(collector):
    """OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is taken as it is."""
    collector.fault(404)

    assert said(failed(collector.endpoint, path="")) == (
        "404",
        (
            "nothing takes traces at this path (HTTP 404); OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is the whole address: end it "
            "with /v1/traces"
        ),
    )


def test_plain_http_to_a_tls_port(tls_collector):
    assert said(failed(tls_collector.endpoint.replace("https", "http"))) == (
        "tls",
        "this port speaks TLS; begin OTEL_EXPORTER_OTLP_ENDPOINT with https://",
    )


def test_tls_to_a_plain_port(collector):
    assert said(failed(collector.endpoint.replace("http", "https"))) == (
        "tls",
        "this port speaks no TLS; begin OTEL_EXPORTER_OTLP_ENDPOINT with http://",
    )


def test_a_certificate_that_nobody_has_signed(tls_collector, monkeypatch):
    """And one that is named as trusted."""
    assert said(failed(tls_collector.endpoint)) == (
        "certificate",
        "its certificate is not trusted; name the file of its authority in OTEL_EXPORTER_OTLP_CERTIFICATE",
    )

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(CERTIFICATE))
    assert (said(failed(tls_collector.endpoint)), names(tls_collector)) == (None, ["span 0"])


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (
            401,
            "UNAUTHENTICATED",
            "the credentials are not accepted (UNAUTHENTICATED); look at OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "it gets too much (RESOURCE_EXHAUSTED); give it more capacity, or record less (sample_rate)",
        ),
        (503, "UNAVAILABLE", "it is not available (UNAVAILABLE); is it starting, overloaded, or behind a proxy?"),
        (500, "INTERNAL", "it answers with an error (INTERNAL); look at its log"),
    ],
)
def test_over_grpc(status, code, expected):
    """What a server answers."""
    with Collector(grpc=True) as collector, collector.fault(status):
        assert said(failed(collector.grpc_endpoint, "grpc")) == (code, expected)


def test_over_grpc_nothing_takes_traces():
    with Collector(grpc=True) as collector, collector.fault(404):
        assert said(failed(collector.grpc_endpoint, "grpc")) == (
            "UNIMPLEMENTED",
            (
                "it takes no traces (UNIMPLEMENTED); is it an OTLP endpoint, with a pipeline for traces? "
                "OTEL_TRACES_EXPORTER=none sends none"
            ),
        )


def test_over_grpc_nobody_listens():
    assert said(failed(f"http://127.0.0.1:{refused_port()}", "grpc")) == (
        "refused",
        "nobody listens there; start a Collector, or set OTEL_EXPORTER_OTLP_ENDPOINT to one",
    )


def test_grpc_spoken_to_an_http_port(collector):
    assert said(failed(collector.endpoint, "grpc")) == (
        "wrong_protocol",
        "this port speaks HTTP, not gRPC; use port 4317, or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    )


def test_over_grpc_no_answer(collector):
    collector.fault("hang")

    assert failed(collector.endpoint, "grpc") is not None


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_exporters_own_lines_are_kept_back(caplog, protocol):
    """They are read, and said in words; those of the application's own exporter stay."""
    caplog.set_level(logging.DEBUG)
    port = refused_port()
    failed(f"http://127.0.0.1:{port}", protocol)
    ours = [record.name for record in caplog.records]
    caplog.clear()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        made = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}")
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        made = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    try:
        made.export(spans())
    except OSError:
        assert protocol == "http/protobuf"  # Old ones raise it.
    theirs = {record.name.split(".")[0] for record in caplog.records}

    assert (ours, bool(theirs & {"opentelemetry", "urllib3"})) == (["otel_pipeline"], True)


PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text("utf-8").replace("`", "")
NAMED = [value for value in vars(causes).values() if isinstance(value, causes.Cause)]
WORDS = [*causes._STATUSES.values(), *causes._FAMILIES.values(), *causes._CODES.values(), *map(itemgetter(1, 2), NAMED)]
OWN_WORDS = {"it fails", "it answers with an error", "no TLS connection comes about"}
"""Which say as much as can be said."""


@pytest.mark.parametrize("words", sorted({words for words, _ in WORDS} - OWN_WORDS))
def test_the_page_has_the_words(words):
    """Who reads a line in a log finds it there."""
    assert words in PAGE


@pytest.mark.parametrize("reason", sorted({each.reason for each in NAMED}))
def test_the_page_has_the_reason(reason):
    """Which is what a metric has."""
    assert reason in PAGE


@pytest.mark.real
@pytest.mark.parametrize(
    ("at", "protocol", "path", "words"),
    [
        ("grpc", "http/protobuf", "/v1/traces", "this port speaks gRPC"),
        ("http", "grpc", "", "this port speaks HTTP, not gRPC"),
        ("http", "http/protobuf", "/v1/traces/v1/traces", "nothing takes traces at this path (HTTP 404)"),
        ("http", "http/protobuf", "/v1/traces", None),
        ("grpc", "grpc", "", None),
    ],
)
def test_with_the_real_collector(real_collector, at, protocol, path, words):
    """Whose servers are others than these."""
    cause = failed(getattr(real_collector, at), protocol, path)

    assert (cause and cause.words) == words
