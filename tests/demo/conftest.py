from __future__ import annotations

import os
import subprocess
import sys

import pytest


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
        # Python's own variables: readline, which pytest imports, has set COLUMNS behind them.
        environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=environ)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run
