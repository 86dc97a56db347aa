"""OTLP JSON lines in the user's state folder: what leaves a process in `local` and `test` while nobody listens."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_pipeline.engine.forks import forks
from otel_pipeline.export import otlp_json
from otel_pipeline.export.batches import count
from otel_pipeline.own_files import FLAGS, is_gone, make_folder, own_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# The log exporter's classes got longer names with SDK 1.39.
LogExporter: Any = getattr(logs_export, "LogRecordExporter", None) or logs_export.LogExporter
LOG_EXPORT_RESULT: Any = getattr(logs_export, "LogRecordExportResult", None) or logs_export.LogExportResult

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_FILES = 4
"""Of a process: the oldest goes for a new one."""
MAX_FOLDER_BYTES = 512 * 1024 * 1024
MAX_AGE_S = 7 * 86_400
_OURS = re.compile(r"[A-Za-z0-9._-]{1,60}-[0-9]+-[0-9]{13,16}\.jsonl")


class Lines:
    """Files of one process, bounded; a forked child writes its own. Thread-safe; never raises.

    Args:
        folder: made with the first line when missing, for its user alone, and again when it has gone.
        service: stands in the files' names.
        problem: told once when nothing can be written.
    """

    def __init__(self, folder: Path, service: str, problem: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._service = re.sub(r"[^A-Za-z0-9._-]", "_", service)[:60] or "service"
        self._problem = problem
        self._lock = threading.Lock()
        self._file: int | None = None
        self._pid = 0
        self._size = 0
        self._written: deque[Path] = deque()
        """This process's files, the oldest first."""
        self._counts: dict[Path, dict[str, int]] = {}
        """What each of these holds, by signal."""
        self.count_removed: Callable[[str, int], object] = lambda _signal, _count: None
        """Called with a signal and how much of it went with a file that made room; in any thread."""
        self.dropped = 0
        forks.add(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where the lines lie."""
        return self._folder

    def write(self, request: dict[str, Any], signal: str = "", count: int = 0) -> bool:
        """Append one export request, with so many spans, points or log records; false when it was dropped."""
        try:
            line = json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            with self._lock:
                self._append(line)
                held = self._counts.setdefault(self._written[-1], {})
                held[signal] = held.get(signal, 0) + count
        except Exception as error:
            self.dropped += 1
            self._say(str(getattr(error, "strerror", None) or error))
            return False
        return True

    def _append(self, line: bytes) -> None:
        """Write a line, or nothing of it. The caller has the lock."""
        if len(line) > MAX_FILE_BYTES:
            raise OSError(f"an export is larger than {MAX_FILE_BYTES} bytes")
        file = self._file
        if file is None or self._pid != os.getpid() or self._size + len(line) > MAX_FILE_BYTES or is_gone(file):
            file = self._open()
        written = 0
        try:
            written = os.write(file, line)
        finally:
            if written < len(line):
                self._give_up(file)
        if written < len(line):
            raise OSError("the disk is full")
        self._size += written

    def _give_up(self, file: int) -> None:
        """Leave whole lines only: half of one would spoil the next. It goes on in a new file."""
        with suppress(OSError):
            os.ftruncate(file, self._size)
        self._close()

    def _open(self) -> int:
        """Open a new file for this process, after making room."""
        self._close()
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._written.clear()  # They are the parent's.
            self._counts.clear()
        make_folder(self._folder)
        _sweep(self._folder)
        while len(self._written) >= MAX_FILES:
            with suppress(OSError):
                self._written[0].unlink()
            for signal, gone in self._counts.pop(self._written.popleft(), {}).items():
                self.count_removed(signal, gone)
        path = self._folder / f"{self._service}-{self._pid}-{time.time_ns() // 1_000}.jsonl"
        self._file = file = os.open(path, FLAGS | os.O_WRONLY | os.O_EXCL | os.O_APPEND, 0o600)
        self._written.append(path)
        return file

    def _close(self) -> None:
        file, self._file, self._size = self._file, None, 0
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _say(self, why: str) -> None:
        self._problem(
            "lines",
            f"telemetry cannot be written to {self._folder}: {why}; set OTEL_PIPELINE_STATE_DIR to another folder",
        )


def _sweep(folder: Path) -> None:
    """Remove the oldest files of ours beyond the folder's bounds; one that is written to is opened anew."""
    found = own_files(folder, _OURS)
    total = sum(each.size_bytes for each in found)
    for modified_s, size_bytes, path in found:
        if total <= MAX_FOLDER_BYTES and time.time() - modified_s < MAX_AGE_S:
            break
        with suppress(OSError):
            path.unlink()
            total -= size_bytes


class SpanLines(SpanExporter):
    """Writes spans."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Write a batch."""
        written = self._lines.write(otlp_json.spans(spans), "traces", len(spans))
        return SpanExportResult.SUCCESS if written else SpanExportResult.FAILURE


class MetricLines(MetricExporter):
    """Writes metrics."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Write a collection."""
        del timeout_millis, kwargs
        written = self._lines.write(otlp_json.metrics(metrics_data), "metrics", count("metrics", metrics_data))
        return MetricExportResult.SUCCESS if written else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Do nothing: there is nothing to stop."""


class LogLines(LogExporter):
    """Writes log records."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def export(self, batch: Sequence[Any]) -> Any:
        """Write a batch."""
        written = self._lines.write(otlp_json.logs(batch), "logs", len(batch))
        return LOG_EXPORT_RESULT.SUCCESS if written else LOG_EXPORT_RESULT.FAILURE

    def shutdown(self) -> None:
        """Do nothing: there is nothing to stop."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True
