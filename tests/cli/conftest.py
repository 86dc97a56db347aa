from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest


@pytest.fixture
def telemetry(tmp_path, monkeypatch):
    """An empty state folder, a fixed time zone; returns a function that writes lines as one service's file."""
    monkeypatch.setenv("OTEL_PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    folder = tmp_path / "telemetry"

    def write(lines, name="scorer-1-1.jsonl"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder / name

    yield write
    monkeypatch.undo()
    time.tzset()


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
