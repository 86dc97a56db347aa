"""Reads the metrics that the demo's services export, while they export them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, PointRecord, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_WANTED = (b'{"resourceMetrics"', b'{"resourceLogs"')
_ERROR = 17
"""The severity number of ERROR."""


class Metrics:
    """The last exported point of every series, over all services.

    Args:
        path: OTLP JSON lines that somebody else writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._series: dict[tuple[str, str, frozenset[tuple[str, str]]], PointRecord] = {}
        self.error_logs = 0
        """Log records of severity ERROR and above."""

    def read(self) -> None:
        """Read the lines that have come since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                if line.startswith(_WANTED):
                    self.take(line)

    def take(self, line: bytes) -> None:
        """Take in one line."""
        for record in parse(json.loads(line)):
            if isinstance(record, MetricRecord):
                sender = str(record.resource.get(semconv.SERVICE_NAME))
                for point in record.points:
                    attributes = frozenset((name, str(value)) for name, value in point.attributes.items())
                    self._series[sender, record.name, attributes] = point
            elif isinstance(record, LogRecord) and record.severity_number >= _ERROR:
                self.error_logs += 1

    def points(self, name: str, attributes: Mapping[str, str]) -> Iterator[PointRecord]:
        """Yield the series of a metric that have these attributes; `a|b` is either."""
        for (_, metric, known), point in self._series.items():
            if metric == name and all(
                any((key, one) in known for one in wanted.split("|")) for key, wanted in attributes.items()
            ):
                yield point

    def total(self, name: str, attributes: Mapping[str, str]) -> int:
        """Return the sum of a counter's series."""
        return sum(int(point.value or 0) for point in self.points(name, attributes))

    def highest(self, name: str, attributes: Mapping[str, str]) -> float:
        """Return the highest value of a gauge's series; 0 without one."""
        return max((float(point.value or 0) for point in self.points(name, attributes)), default=0.0)

    def failed(self) -> tuple[int, int]:
        """Count the operations of messaging clients and handlers that failed, and all of them."""
        failed = whole = 0
        for (_, name, attributes), point in self._series.items():
            if name.startswith("messaging.") and name.endswith(".duration"):
                whole += point.count
                failed += point.count if any(key == "error.type" for key, _ in attributes) else 0
        return failed, whole

    def below(self, name: str, share: float) -> float | None:
        """Return the bound of the bucket in which a histogram reaches that share of its values; None without values."""
        points = [point for point in self.points(name, {}) if point.count]
        if not points:
            return None
        wanted, found = share * sum(point.count for point in points), 0
        bounds = points[0].bounds
        for at, bound in enumerate(bounds):
            found += sum(point.bucket_counts[at] for point in points)
            if found >= wanted:
                return bound
        return float("inf")
