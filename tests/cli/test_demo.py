from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from otel_pipeline.cli.demo_check import check
from otel_pipeline.cli.otlp_receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import SpanRecord, read

pytest.importorskip("sklearn")
pytest.importorskip("confluent_kafka")


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Run the demo in a process of its own; returns exit code, stdout and stderr."""
    monkeypatch.setenv("OTEL_PIPELINE_STATE_DIR", str(tmp_path))
    # What the shell says must not matter.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://company.invalid:4318")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "company.invalid:9092")

    def run(*words):
        command = [sys.executable, "-m", "otel_pipeline.cli.main", "demo", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def fact(lines, name):
    """What the screen says after a name."""
    return next((line.removeprefix(name).strip() for line in lines if line.startswith(name)), None)


INSTALLED = any(point.value.startswith("otel_pipeline.") for point in entry_points(group="opentelemetry_distro"))
WRAPPER = pytest.param(("--wrapper",), marks=pytest.mark.skipif(not INSTALLED, reason="otel-pipeline is not installed"))


@pytest.mark.broker
@pytest.mark.parametrize("how", [(), WRAPPER])
def test_the_demo(demo, how):
    """Forty messages, forty whole traces, and a command that opens one of them."""
    code, out, err = demo("--messages", "40", *how)
    assert (code, fact(out, "messages"), fact(out, "broken traces")) == (
        0,
        "40 through 3 services, none missing",
        "0",
    ), "\n".join([*out, err])

    words = fact(out, "open it").split()
    shown = subprocess.run(
        [sys.executable, "-m", "otel_pipeline.cli.main", *words[1:], "--json"], capture_output=True, check=True
    )
    trace = json.loads(shown.stdout)
    assert (trace["services"], trace["environments"], sorted(span["name"].split()[0] for span in trace["spans"])) == (
        ["ingest", "features", "scorer"],
        ["local", "staging", "production"],
        ["predict", "process", "process", "send", "send", "send"],
    )


@pytest.mark.broker
def test_the_demo_exports_where_it_is_told(demo, tmp_path):
    """Everything arrives there, and the screen says what it cannot show."""
    with otlp_receiver(tmp_path / "elsewhere") as endpoint:
        code, out, _ = demo("--messages", "20", "--export", endpoint)
    spans = [record for record in read(tmp_path / "elsewhere" / "telemetry.jsonl") if isinstance(record, SpanRecord)]
    verdict = check(spans, 20)

    assert (code, fact(out, "telemetry"), len(verdict.whole), verdict.broken_traces) == (0, endpoint, 20, 0)


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
