"""Programs in processes of their own: what they leave behind is read from the lines they wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from otel_pipeline.brokers.embedded import embedded_broker
from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, SpanRecord, read


@dataclass
class Ran:
    """A program that has ended."""

    code: int
    out: str
    err: str
    seconds: float
    lines: Path
    ended_s: float
    """When it was gone, s since the epoch."""

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
class Collector:
    """An OTLP receiver, and what has reached it so far."""

    endpoint: str
    folder: Path

    def records(self, kind):
        """All of one kind."""
        return [record for record in read(self.folder / "telemetry.jsonl") if isinstance(record, kind)]

    def spans(self):
        """How many spans by name."""
        return dict(Counter(span.name for span in self.records(SpanRecord)))

    def logs(self):
        """How many log records."""
        return len(self.records(LogRecord))

    def sums(self, name):
        """The last value of each series of a counter, by (instance, attributes)."""
        values = {}
        for record in self.records(MetricRecord):
            if record.name == name:
                for point in record.points:
                    key = record.resource["service.instance.id"], tuple(sorted(map(str, point.attributes.items())))
                    values[key] = point.value
        return values


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
        return Ran(
            done.returncode, done.stdout, done.stderr, time.monotonic() - started, state / "telemetry", time.time()
        )


@pytest.fixture
def broker():
    pytest.importorskip("confluent_kafka")
    with embedded_broker({"orders": 1, "next": 1}) as address:
        yield address


@pytest.fixture
def collector(tmp_path):
    with otlp_receiver(tmp_path / "collector") as endpoint:
        yield Collector(endpoint, tmp_path / "collector")


@pytest.fixture
def programs(tmp_path):
    return Programs(tmp_path)
