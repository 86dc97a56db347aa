"""OTLP JSON lines in the user's state folder: what leaves a process in `local` and `test` while nobody listens."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_pipeline.export import otlp_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# The log exporter's classes got longer names with SDK 1.39.
_LogExporter: Any = getattr(logs_export, "LogRecordExporter", None) or logs_export.LogExporter
_LogExportResult: Any = getattr(logs_export, "LogRecordExportResult", None) or logs_export.LogExportResult

_SIGNALS = {"resourceSpans": "traces", "resourceMetrics": "metrics", "resourceLogs": "logs"}
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FOLDER_BYTES = 512 * 1024 * 1024
MAX_AGE_S = 7 * 86_400


class Lines:
    """One bounded file per process; a forked child writes one of its own. Thread-safe; never raises.

    Args:
        folder: made when missing, for its user alone.
        service: stands in the file's name.
        problem: told once when nothing can be written.
    """

    def __init__(self, folder: Path, service: str, problem: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._service = re.sub(r"[^A-Za-z0-9._-]", "_", service)[:60] or "service"
        self._problem = problem
        self._lock = threading.Lock()
        self._file: int | None = None
        self._pid = 0
        self._room = 0
        self.dropped = 0
        self.count_dropped: Callable[[str], object] = lambda _signal: None
        """Told the signal of each line that is dropped; in any thread."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where the lines lie."""
        return self._folder

    def write(self, request: dict[str, Any]) -> bool:
        """Append one export request; false when it was dropped."""
        try:
            line = json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            with self._lock:
                if self._pid != os.getpid():
                    self._open()
                if self._file is None or len(line) > self._room:
                    if self._file is not None:
                        self._say("is full", f"at most {MAX_FILE_BYTES} bytes per process are kept")
                    self._drop(request)
                    return False
                written = os.write(self._file, line)
                self._room -= written
                if written < len(line):
                    raise OSError("the disk is full")  # noqa: TRY301 - said below, as what the system raises
        except Exception as error:
            self._drop(request)
            self._say("cannot be written", str(getattr(error, "strerror", None) or error))
            return False
        return True

    def _open(self) -> None:
        """Open a new file for this process, after making room. The caller holds the lock."""
        self._pid = os.getpid()
        self._file = None
        self._room = MAX_FILE_BYTES
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{self._folder} is no folder")
        _sweep(self._folder)
        name = f"{self._service}-{self._pid}-{time.time_ns() // 1_000_000}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        self._file = os.open(self._folder / name, flags, 0o600)

    def _drop(self, request: dict[str, Any]) -> None:
        self.dropped += 1
        for name, signal in _SIGNALS.items():
            if name in request:
                self.count_dropped(signal)

    def _say(self, what: str, why: str) -> None:
        self._problem(
            "lines", f"telemetry in {self._folder} {what}: {why}; set OTEL_PIPELINE_STATE_DIR to another folder"
        )


def _sweep(folder: Path) -> None:
    """Remove the oldest files beyond the folder's bounds."""
    try:
        found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.jsonl"))
        total = sum(size for _, size, _ in found)
        for modified, size, path in found:
            if total <= MAX_FOLDER_BYTES and time.time() - modified < MAX_AGE_S:
                break
            path.unlink(missing_ok=True)
            total -= size
    except OSError:
        return  # Another process was faster.


class SpanLines(SpanExporter):
    """Writes spans."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Write a batch."""
        written = self._lines.write(otlp_json.spans(spans))
        return SpanExportResult.SUCCESS if written else SpanExportResult.FAILURE


class MetricLines(MetricExporter):
    """Writes metrics."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Write a collection."""
        del timeout_millis, kwargs
        written = self._lines.write(otlp_json.metrics(metrics_data))
        return MetricExportResult.SUCCESS if written else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Do nothing: there is nothing to stop."""


class LogLines(_LogExporter):
    """Writes log records."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def export(self, batch: Sequence[Any]) -> Any:
        """Write a batch."""
        return _LogExportResult.SUCCESS if self._lines.write(otlp_json.logs(batch)) else _LogExportResult.FAILURE

    def shutdown(self) -> None:
        """Do nothing: there is nothing to stop."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True
