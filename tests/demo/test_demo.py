from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import entry_points

import pytest

from otel_pipeline.demo.check import check
from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import MetricRecord, SpanRecord, read
from real import prometheus
from tests.cli.lines import fact

pytestmark = pytest.mark.once

pytest.importorskip("sklearn")
pytest.importorskip("confluent_kafka")


NOT_IN_THE_DEMO = {"otel_pipeline.sdk.errors"}
"""What the dashboard and the rules ask for as well: nothing fails in the demo."""
INSTALLED = any(point.value.startswith("otel_pipeline.") for point in entry_points(group="opentelemetry_distro"))
WRAPPER = pytest.param(
    ("--wrapper",),
    ["green", "green"],
    marks=pytest.mark.skipif(not INSTALLED, reason="otel-pipeline is not installed"),
)


@pytest.mark.broker
@pytest.mark.parametrize(
    ("how", "in_order"),
    [
        ((), ["green", "green"]),
        WRAPPER,
        (("--client", "aiokafka"), ["green", "green"]),
        # It chooses the partition itself, so that nobody knows whether one of its messages is missing.
        (("--client", "confluent"), ["grey", "grey"]),
        (("--client", "mixed"), ["green", "grey"]),
    ],
)
def test_the_demo(demo, how, in_order):
    """Messages in whole traces, a command that opens one of them, and evidence for every light."""
    code, out, err = demo("--messages", "140", *how)
    assert (code, fact(out, "messages"), fact(out, "broken traces")) == (
        0,
        "140 through 3 services, none missing",
        "0",
    ), "\n".join([*out, err])

    heading = next(at for at, line in enumerate(out) if line.startswith("healthy?"))
    lights = [line.split()[3:8] for line in out[heading + 1 : heading + 3]]
    assert lights == [["green", order, "green", "green", "green"] for order in in_order], out[heading:]

    # As it is printed, by a shell.
    shown = subprocess.run(fact(out, "open it") + " --json", shell=True, capture_output=True, check=True)  # noqa: S602
    trace = json.loads(shown.stdout)
    assert (trace["services"], trace["environments"], sorted(span["kind"] for span in trace["spans"])) == (
        ["ingest", "features", "scorer"],
        ["local", "staging", "production"],
        ["CONSUMER", "CONSUMER", "INTERNAL", "PRODUCER", "PRODUCER", "PRODUCER"],
    )


@pytest.mark.broker
def test_the_demo_exports_where_it_is_told(demo, tmp_path):
    """Everything arrives there, and the screen says what it cannot show."""
    with otlp_receiver(tmp_path / "elsewhere") as endpoint:
        code, out, _ = demo("--messages", "20", "--export", endpoint)
    spans = [record for record in read(tmp_path / "elsewhere" / "telemetry.jsonl") if isinstance(record, SpanRecord)]
    verdict = check(spans, 20)

    assert (code, fact(out, "telemetry"), len(verdict.whole), verdict.broken_traces) == (0, endpoint, 20, 0)
    emitted = {
        record.name for record in read(tmp_path / "elsewhere" / "telemetry.jsonl") if isinstance(record, MetricRecord)
    }
    queries = prometheus.DASHBOARD.read_text("utf-8") + prometheus.RULES.read_text("utf-8")
    asked = {
        metric.name
        for metric in prometheus.metrics()
        if any(re.search(rf"\b{series}\b", queries) for series in metric.series)
    }
    assert asked - emitted == NOT_IN_THE_DEMO


@pytest.mark.broker
def test_a_service_without_telemetry_fails_the_demo(demo, tmp_path, monkeypatch):
    """The demo can fail: one library switched off, and every trace is broken."""
    sitecustomize = tmp_path / "site"
    sitecustomize.mkdir()
    (sitecustomize / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('OTEL_SERVICE_NAME') == 'features':\n"
        "    os.environ['OTEL_SDK_DISABLED'] = 'true'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(sitecustomize), prepend=":")
    code, out, _ = demo("--messages", "5")

    assert (code, fact(out, "messages"), fact(out, "broken traces")) == (1, "5 through 3 services, none missing", "10")
