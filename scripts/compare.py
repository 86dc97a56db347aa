"""Runs the demo's services under contrib's instrumentation and under this one, and prints both.

The scripts are the same, without a line of telemetry code; both run under `opentelemetry-instrument` with the same
variables and export to the same receiver. contrib lives in a virtual environment of its own, made at the first run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.cli.errors import CommandError
from otel_pipeline.cli.terminal import Cell, detect, table
from otel_pipeline.cli.traces import service
from otel_pipeline.demo.check import SERVICES
from otel_pipeline.demo.services import Service, copy_scripts, start, stop
from otel_pipeline.demo.topics import Witness, embedded
from otel_pipeline.dev.receiver import otlp_receiver
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, Record, SpanRecord, read
from otel_pipeline.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTRIB = "0.66b1"
PINS = (
    f"opentelemetry-distro=={CONTRIB}",
    f"opentelemetry-instrumentation-kafka-python=={CONTRIB}",
    f"opentelemetry-instrumentation-logging=={CONTRIB}",
    "opentelemetry-exporter-otlp-proto-http==1.45.1",
)
# The libraries of the services themselves: the same versions on both sides.
SHARED = ("kafka-python", "scikit-learn", "loguru", "numpy")
_STUCK_SECONDS = 60.0


@dataclass(frozen=True)
class Figures:
    """What one instrumentation told about the same messages."""

    messages: int
    carried: int
    """Messages with one trace id in the headers of all three topics."""
    spans: list[SpanRecord]
    metrics: list[MetricRecord]
    logs: list[LogRecord]

    @property
    def traces(self) -> int:
        """Distinct trace ids on the messages' way: pulls, which are many messages', are left out."""
        return len({span.trace_id for span in self.spans if span.kind != "CLIENT"})

    @property
    def sends_under_handlers(self) -> int:
        """Sends of the second and third service that are children of the span in which their message was handled."""
        handlers = {(span.trace_id, span.span_id) for span in self.spans if span.kind == "CONSUMER"}
        return sum((span.trace_id, span.parent_span_id) in handlers for span in self._sends())

    @property
    def sends(self) -> int:
        """Sends of the second and third service."""
        return len(self._sends())

    @property
    def model_calls(self) -> int:
        """Spans of model calls, whatever they are called: what is neither a send nor a delivery, in the scorer."""
        return sum(span.kind == "INTERNAL" and service(span) == "scorer" for span in self.spans)

    @property
    def logs_in_traces(self) -> int:
        """Log records that carry a trace id."""
        return sum(bool(log.trace_id.strip("0")) for log in self.logs)

    @property
    def metric_names(self) -> list[str]:
        """The metrics that came."""
        return sorted({metric.name for metric in self.metrics})

    def _sends(self) -> list[SpanRecord]:
        return [span for span in self.spans if span.kind == "PRODUCER" and service(span) != "ingest"]


def main() -> int:
    """Measure both, print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=500)
    messages = parser.parse_args().messages
    try:
        contrib = measure(contrib_python(), messages, f"contrib {CONTRIB}")
        ours = measure(sys.executable, messages, f"otel-pipeline {VERSION}")
    except CommandError as error:
        print(f"{error}\n  {error.remedy}", file=sys.stderr)
        return 1
    for line in table(rows(contrib, ours), detect(sys.stdout)):
        print(line)
    print()
    for title, figures in ((f"contrib {CONTRIB}", contrib), (f"otel-pipeline {VERSION}", ours)):
        print(f"metrics of {title}: {', '.join(figures.metric_names) or 'none'}")
    return 0


def rows(contrib: Figures, ours: Figures) -> list[list[Cell]]:
    """Arrange the comparison as a table."""
    heading = ["", f"contrib {CONTRIB}", f"otel-pipeline {VERSION}"]
    found: list[list[str]] = [heading]
    both = (contrib, ours)

    def row(title: str, cells: Iterable[str]) -> None:
        found.append([title, *cells])

    row("messages through three services", (f"{each.messages:,}" for each in both))
    row("traces per message", (f"{each.traces / each.messages:.2f}" for each in both))
    row("messages that carry one trace id all the way", (f"{each.carried:,}" for each in both))
    row("sends under the handler that made them", (f"{each.sends_under_handlers:,} of {each.sends:,}" for each in both))
    row("spans that carry the model call", (f"{each.model_calls:,}" for each in both))
    row("log records with a trace id", (f"{each.logs_in_traces:,}" for each in both))
    row("metrics", (f"{len(each.metric_names)}" for each in both))
    return [[Cell(text, right=at > 0) for at, text in enumerate(cells)] for cells in found]


def measure(python: str, messages: int, title: str) -> Figures:
    """Stream the digits through the services under one instrumentation."""
    print(f"{title}: {messages:,} messages", file=sys.stderr)
    services: list[Service] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        copy_scripts(folder / "services", with_line=False)
        broker = stack.enter_context(embedded())
        endpoint = stack.enter_context(otlp_receiver(folder / "telemetry"))
        stack.callback(stop, services)
        witness = Witness(broker)
        stack.callback(witness.close)
        for each in ("scorer", "features", "ingest"):
            variables = {
                **broker.variables,
                "MESSAGES": str(messages),
                "OTEL_SERVICE_NAME": each,
                "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={SERVICES[each]}",
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            }
            if python != sys.executable:
                variables["PYTHONPATH"] = ""
            services.append(start(each, folder / "services", variables, wrapper=True, python=python))
        _wait(services, witness, messages)
        records = list(read(folder / "telemetry" / "telemetry.jsonl"))
    return _figures(records, witness, messages)


def _wait(services: list[Service], witness: Witness, messages: int) -> None:
    """Read along until all have come, then until the services have ended by themselves."""
    done, moved = 0, time.monotonic()
    while done < messages or any(service.process.poll() is None for service in services):
        now_done = witness.read()
        if now_done > done:
            done, moved = now_done, time.monotonic()
        for each in services:
            if each.failed():
                raise CommandError(f"{each.name} ended with code {each.process.returncode}", each.tail())
        if time.monotonic() - moved > _STUCK_SECONDS:
            raise CommandError(f"only {done:,} of {messages:,} messages came through, or a service does not end")


def _figures(records: Iterable[Record], witness: Witness, messages: int) -> Figures:
    found = list(records)
    return Figures(
        messages=messages,
        carried=messages - len(witness.broken()),
        spans=[record for record in found if isinstance(record, SpanRecord)],
        metrics=[record for record in found if isinstance(record, MetricRecord)],
        logs=[record for record in found if isinstance(record, LogRecord)],
    )


def contrib_python() -> str:
    """Return the Python of contrib's virtual environment, in a cache outside the checkout."""
    wanted = [*PINS, *(f"{name}=={version(name)}" for name in SHARED)]
    digest = hashlib.sha256(" ".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-pipeline"
    folder = cache / f"compare-{digest}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "ready").exists():
        print(f"installing contrib {CONTRIB} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        (folder / "ready").touch()
    return str(python)


if __name__ == "__main__":
    sys.exit(main())
