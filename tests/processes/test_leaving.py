"""Leaving the program: nobody listens, somebody never answers, the folder cannot be written."""

from __future__ import annotations

import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

APP = """
import otel_pipeline
pipe = otel_pipeline.instrument("app"{arguments})
with otel_pipeline.inference("model"):
    pass
"""


@pytest.fixture
def refused():
    """An address where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def silent():
    """An address that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def collector():
    """An OTLP receiver that counts requests by path."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("environment", ["local", "test"])
def test_a_refused_endpoint_falls_back_to_lines(programs, refused, environment):
    """Nothing waits, nothing is lost, and it is said once."""
    ran = programs.run(
        APP.format(arguments="") + "import time\nprint(time.time())\n",
        OTEL_EXPORTER_OTLP_ENDPOINT=refused,
        OTEL_PIPELINE_ENVIRONMENT=environment,
    )

    assert (ran.code, ran.names(), ran.err.count("nobody listens")) == (0, ["predict model"], 1), ran.err
    assert ran.ended_s - float(ran.out) < 0.5 + 2


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_what_has_not_arrived_at_the_end_is_said(programs, request, kind):
    """In one line, with why and what comes of it; none of the exporter's own lines is there."""
    endpoint = request.getfixturevalue(kind)
    source = "import logging; logging.basicConfig(level=logging.INFO)\n" + APP.format(arguments="")
    ran = programs.run(source, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_PIPELINE_ENVIRONMENT="production")
    why = {"refused": "nobody listens there", "silent": "it gives no answer in time"}[kind]

    (line,) = [line for line in ran.err.splitlines() if "otel_pipeline" in line and "the program ends" in line]
    where = re.escape(endpoint)
    said = rf"1 span did not arrive at {where}: {why}; .* Nothing is lost: .* the next start of app sends them"
    assert re.search(said, line), ran.err
    assert "opentelemetry" not in ran.err


@pytest.mark.parametrize("environment", ["local", "production"])
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_leaving_is_bounded(programs, request, environment, kind):
    """A dead or silent collector does not hold the program: the SDK's own exit takes 7 s and more."""
    endpoint = request.getfixturevalue(kind)
    ran = programs.run(
        APP.format(arguments="") + "import time\nprint(time.time())\n",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_PIPELINE_ENVIRONMENT=environment,
    )

    assert ran.code == 0
    assert ran.ended_s - float(ran.out) < (0.5 if environment == "local" else 2.0) + 2


def test_a_given_endpoint_gets_all_three_signals_and_no_proxy_is_used(programs, collector):
    """The argument's endpoint, on loopback, is reached directly whatever HTTP_PROXY says."""
    endpoint, paths = collector
    source = APP.format(arguments=f", endpoint={endpoint!r}") + "import logging; logging.warning('hello')\n"
    ran = programs.run(source, HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")

    assert (ran.code, sorted(set(paths))) == (0, ["/v1/logs", "/v1/metrics", "/v1/traces"]), ran.err


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_state_folder_that_cannot_be_written(programs, tmp_path):
    """A file where the folder should be: counted, said once, and the program does not notice."""
    (tmp_path / "taken").write_text("")
    ran = programs.run(APP.format(arguments=""), OTEL_PIPELINE_STATE_DIR=tmp_path / "taken")

    assert (ran.code, ran.out, ran.err.count("cannot be written")) == (0, "", 1), ran.err


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_the_applications_own_providers_are_in_force(programs, first):
    """Set before or after `instrument()`: traces, metrics and logs go to the application's providers, silently."""
    theirs = """
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    _logs.set_logger_provider(LoggerProvider())
    """
    ours = """
    import otel_pipeline
    pipe = otel_pipeline.instrument("app")
    """
    work = """
    with otel_pipeline.inference("model"):
        pass
    names = [m.name for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics]
    print([span.name for span in spans.get_finished_spans()], "otel_pipeline.inference.duration" in names)
    print(pipe.status().providers)
    """
    ran = programs.run((theirs + ours if first == "theirs" else ours + theirs) + work)

    assert ran.out.splitlines() == [
        "['predict model'] True",
        str((*(f"{signal}: the application's" for signal in ("traces", "metrics", "logs")), "spans: compatible lane")),
    ], ran.err
    assert "not allowed" not in ran.err


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_providers_of_classes_of_their_own(programs, first):
    """As logfire's, which stand in front of the SDK's, and can be no keys: the application runs, and has our spans."""
    theirs = """
    from dataclasses import dataclass
    from typing import Any
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    @dataclass
    class Meters(metrics.MeterProvider):
        inner: Any
        def get_meter(self, *arguments, **named):
            return self.inner.get_meter(*arguments, **named)

    @dataclass
    class Tracers(trace.TracerProvider):
        inner: Any
        def get_tracer(self, *arguments, **named):
            return self.inner.get_tracer(*arguments, **named)

    spans, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(Tracers(provider))
    metrics.set_meter_provider(Meters(MeterProvider([reader])))
    """
    ours = """
    import otel_pipeline
    pipe = otel_pipeline.instrument("app")
    """
    work = """
    with otel_pipeline.inference("model"):
        pass
    names = [m.name for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics]
    print([span.name for span in spans.get_finished_spans()], "otel_pipeline.inference.duration" in names)
    print(pipe.status().errors, pipe.status().providers[-1])
    """
    ran = programs.run((theirs + ours if first == "theirs" else ours + theirs) + work)

    assert ran.out.splitlines() == ["['predict model'] True", "{} spans: sdk lane"], ran.err


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_beside_one_provider_of_the_applications_own(programs, collector, first, endpoint):
    """Nothing of ours exports what nobody asked for; with an endpoint that was given the other signals go there."""
    theirs = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    trace.set_tracer_provider(TracerProvider())
    """
    ours = """
    import otel_pipeline, logging
    pipe = otel_pipeline.instrument("app")
    """
    work = """
    with otel_pipeline.inference("model"):
        logging.warning("hello")
    pipe.flush()
    print(pipe.status().export)
    """
    url, paths = collector
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": url} if endpoint else {}
    ran = programs.run((theirs + ours if first == "theirs" else ours + theirs) + work, **given)

    nothing = "nothing (the application has providers of its own, and no endpoint was given)"
    expected = f"OTLP http/protobuf to {url} (OTEL_EXPORTER_OTLP_ENDPOINT)" if endpoint else nothing
    assert (ran.out.strip(), list(ran.lines.glob("*"))) == (expected, []), ran.err
    assert set(paths) == ({"/v1/logs", "/v1/metrics"} if endpoint else set())


@pytest.mark.parametrize("end", ["uninstrument", "shutdown"])
def test_instrumenting_again_goes_on(programs, end):
    """After `uninstrument()` with the same providers, after `shutdown()` with new ones; nothing is lost or doubled."""
    ran = programs.run(
        f"""
        import otel_pipeline
        for number in range(3):
            pipe = otel_pipeline.instrument("app")
            with otel_pipeline.inference(f"model-{{number}}"):
                pass
            print(pipe.status().providers)
            pipe.{end}()
        """
    )

    assert (ran.code, ran.names()) == (0, [f"predict model-{number}" for number in range(3)]), ran.err
    assert set(ran.out.splitlines()) == {"('traces: ours', 'metrics: ours', 'logs: ours', 'spans: native lane')"}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_lines_that_are_lost_are_counted(programs, tmp_path):
    """By signal; where nothing is to leave, nothing is lost."""
    (tmp_path / "taken").write_text("")
    source = (
        APP.format(arguments="")
        + """
import logging
logging.warning("hello")
pipe.flush()
exports = pipe.status().exports
print({each.signal: (each.exported, each.queued, list(each.dropped)) for each in exports})
print(all(each.lost >= 1 for each in exports))
"""
    )
    lost = programs.run(source, OTEL_PIPELINE_STATE_DIR=tmp_path / "taken")
    elsewhere = programs.run(source, OTEL_PIPELINE_ENVIRONMENT="production", OTEL_TRACES_EXPORTER="none",
                             OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")  # fmt: skip

    gone = (0, 0, ["not_written"])
    assert lost.out.splitlines() == [str({"traces": gone, "metrics": gone, "logs": gone}), "True"], lost.err
    assert elsewhere.out.splitlines() == ["{}", "True"], elsewhere.err
