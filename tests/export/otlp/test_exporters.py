"""The exporters: what the SDK's own would send, with the same preferences; and what they say when nothing is sent."""

from __future__ import annotations

import itertools
import subprocess
import sys
from types import SimpleNamespace

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_pipeline.export import attempt, causes, exporters
from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.destination import Destination
from otel_pipeline.export.otlp import exporters as otlp_exporters
from otel_pipeline.export.otlp.exporters import OtlpMetrics, OtlpSpans, Sender, make
from otel_pipeline.export.otlp.variables import HttpSettings
from tests.collected import paths


def spans(*names):
    tracer = TracerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False).get_tracer("t")
    made = [tracer.start_span(name, attributes={"a": 1}) for name in names]
    for span in made:
        span.end()
    return [span._readable_span() for span in made]


def test_the_same_as_the_sdks_exporter_sends(collector):
    """But for compression and the name of who sends."""
    batch = spans("a", "b")
    make("traces", HttpSettings(f"{collector.endpoint}/v1/traces")).export(batch)
    OTLPSpanExporter(endpoint=f"{collector.endpoint}/v1/traces").export(batch)

    ours, theirs = (ExportTraceServiceRequest.FromString(each.body) for each in collector.requests)
    assert ours == theirs
    assert collector.requests[0].headers["content-encoding"] == "gzip"


PREFERENCES = ["", "cumulative", "DELTA", " lowmemory ", "nonsense"]
AGGREGATIONS = ["", "explicit_bucket_histogram", "base2_exponential_bucket_histogram", "nonsense"]


@pytest.mark.parametrize(("temporality", "aggregation"), list(itertools.product(PREFERENCES, AGGREGATIONS)))
def test_preferences_of_metrics(monkeypatch, temporality, aggregation):
    """As the SDK's exporter has them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation)
    ours, theirs = OtlpMetrics(Sender("metrics", HttpSettings("http://c"))), OTLPMetricExporter(endpoint="http://c")

    assert ours._preferred_temporality == theirs._preferred_temporality
    assert {kind: type(how) for kind, how in ours._preferred_aggregation.items()} == {
        kind: type(how) for kind, how in theirs._preferred_aggregation.items()
    }


def said(sender, batch, timeout_s=10.0):
    """What an attempt is told."""
    with attempt.attempting() as trying:
        taken = sender.send(batch, timeout_s)
    return taken, trying.says, trying.requests


def test_what_is_too_large_is_not_sent(collector, monkeypatch):
    sender = Sender("traces", HttpSettings(f"{collector.endpoint}/v1/traces"))
    assert said(sender, spans("a")) == (True, None, 1)

    monkeypatch.setattr(otlp_exporters, "MAX_REQUEST_BYTES", 10)
    assert said(sender, spans("a")) == (False, causes.TOO_LARGE, 0)


def test_after_the_end_nothing_is_sent(collector):
    exporter = OtlpSpans(sender := Sender("traces", HttpSettings(f"{collector.endpoint}/v1/traces")))
    exporter.shutdown()

    assert (said(sender, spans("a")), collector.requests) == ((False, causes.ENDED, 0), [])


def test_where_nothing_is_left_nothing_is_sent(collector):
    assert said(Sender("traces", HttpSettings(f"{collector.endpoint}/v1/traces")), [None]) == (
        False,
        causes.NOT_ENCODED,
        0,
    )
    assert collector.requests == []


def test_the_shorter_time_counts(collector):
    """A reader's, or the variable's."""
    collector.fault("hang")
    taken, _, requests = said(
        Sender("traces", HttpSettings(f"{collector.endpoint}/v1/traces", timeout_s=60)), spans("a"), 0.2
    )

    assert (taken, requests) == (False, 1)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", False),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", False),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER", True),
    ],
)
def test_a_credential_providers_session_goes_with_the_sdks_exporter(monkeypatch, name, ours):
    """Of the signal that it is for, or of all."""
    monkeypatch.setenv(name, "vendor")
    imported = []

    def theirs(module):
        imported.append(module)
        return SimpleNamespace(OTLPSpanExporter=lambda **_options: OtlpSpans(None))

    monkeypatch.setattr(exporters, "import_module", theirs)
    destination = Destination(("otlp",), "http/protobuf", "http://c", "http://c", lines_when_refused=False)
    exporters._otlp("traces", destination, Answers())

    assert imported == ([] if ours else ["opentelemetry.exporter.otlp.proto.http.trace_exporter"])


LOADED = """
import sys
import otel_pipeline
pipe = otel_pipeline.instrument("service", endpoint=sys.argv[1])
from opentelemetry import trace
import logging
trace.get_tracer("t").start_span("a").end()
logging.getLogger("app").warning("said")
assert pipe.flush()
print(*sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:])))
"""

NOT_LOADED = (
    *("charset_normalizer", "google", "grpc", "idna", "loguru", "packaging", "requests", "urllib3"),
    *("asyncio", "difflib", "multiprocessing", "wrapt"),
)


def test_nothing_of_protobuf_or_requests_is_imported(collector):
    """Encoding and sending all three signals is ours; of the rest, what the program does not use is not loaded.

    What OpenTelemetry's API loads is its own affair: asyncio, and wrapt, in older ones.
    """
    theirs = "import sys, opentelemetry.trace; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", theirs], capture_output=True, text=True, check=True, timeout=60)
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, collector.endpoint, *(set(NOT_LOADED) - set(loaded.stdout.split()))],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert ran.stdout == "\n"
    assert {"/v1/traces", "/v1/metrics", "/v1/logs"} <= set(paths(collector))


STARTED = """
import sys
import kafka
before = set(sys.modules)
import otel_pipeline
otel_pipeline.instrument("service", endpoint="http://127.0.0.1:9")
new = set(sys.modules) - before
ours = {name for name in new if name.partition(".")[0] == "otel_pipeline"}
official = {name for name in new if name.partition(".")[0] == "opentelemetry"}
print(len(ours), len(official), len(new - ours - official))
"""
CEILING = (238, 95, 66)
"""Modules of ours, of OpenTelemetry and of others that `instrument()` may load beside kafka-python's; the last two depend
on versions, and have some air."""


@pytest.mark.once
def test_a_start_loads_no_more_than_it_did():
    """Each module is 0.3 ms and 30 kB: what only some programs need is loaded by them (decision 40)."""
    ran = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True, timeout=120)

    assert all(count <= most for count, most in zip(map(int, ran.stdout.split()), CEILING, strict=True)), ran.stdout


FIRST = """
import sys
import otel_pipeline
from opentelemetry import trace
pipe = otel_pipeline.instrument("service", endpoint=sys.argv[1])
import logging
before = set(sys.modules)
trace.get_tracer("t").start_span("a").end()
logging.getLogger("app").warning("said")
assert pipe.flush()
print(sorted(set(sys.modules) - before))
"""


def test_the_first_export_imports_nothing(collector):
    """A child that is forked in the middle of an import waits for it for ever."""
    ran = subprocess.run([sys.executable, "-c", FIRST, collector.endpoint], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"
