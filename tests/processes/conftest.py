"""Programs in processes of their own: what they leave behind is read from the lines they wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from otel_pipeline.export.otlp_reader import SpanRecord, read


@dataclass
class Ran:
    """A program that has ended."""

    code: int
    out: str
    err: str
    seconds: float
    lines: Path

    def spans(self):
        """All spans of all its processes."""
        return [
            record
            for file in sorted(self.lines.glob("*.jsonl"))
            for record in read(file)
            if isinstance(record, SpanRecord)
        ]

    def names(self):
        return sorted(span.name for span in self.spans())


@dataclass
class Programs:
    """Runs programs with a clean environment."""

    folder: Path
    environ: dict = field(default_factory=dict)

    def run(self, source, *, wrapper=False, timeout=60, **environ):
        """Run a program; variables are given as keywords."""
        script = self.folder / "app.py"
        script.write_text(textwrap.dedent(source))
        state = self.folder / f"state-{time.monotonic_ns()}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CI", "PYTEST"))}
        clean |= {"OTEL_PIPELINE_STATE_DIR": str(state), "OTEL_PIPELINE_ENVIRONMENT": "local"}
        clean |= {name: str(value) for name, value in environ.items()}
        command = [sys.executable, str(script)]
        if wrapper:
            command.insert(0, str(Path(sys.executable).parent / "opentelemetry-instrument"))
        started = time.monotonic()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean, timeout=timeout, cwd=self.folder
        )
        return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - started, state / "telemetry")


@pytest.fixture
def programs(tmp_path):
    return Programs(tmp_path)
