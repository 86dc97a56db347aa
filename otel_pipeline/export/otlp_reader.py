"""Reads OTLP JSON lines: what this package writes in `local`, and what a Collector's file exporter writes.

Standard library only. One export request per line, camelCase, ids in hex, integers as strings or numbers.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_pipeline.own_files import open_plain

if TYPE_CHECKING:
    from pathlib import Path

Attributes = Mapping[str, Any]
MAX_TIME_NS = 2**64
_HEX = re.compile(r"[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A span that another span points at."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened during a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span; `parent_span_id` is empty for a root."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    links: tuple[LinkRecord, ...]
    events: tuple[EventRecord, ...]
    status: str
    status_message: str
    resource: Attributes
    scope: str
    trace_state: str
    flags: int


@dataclass(frozen=True, slots=True)
class PointRecord:
    """One value of a metric: `value` of a sum or gauge, the rest of a histogram."""

    attributes: Attributes
    start_ns: int
    time_ns: int
    value: int | float | None = None
    count: int = 0
    sum: float | None = None
    bounds: tuple[float, ...] = ()
    bucket_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """One metric of one export; `kind` is sum, gauge or histogram. Other kinds are not read."""

    name: str
    unit: str
    description: str
    kind: str
    points: tuple[PointRecord, ...]
    monotonic: bool
    temporality: str
    resource: Attributes
    scope: str


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record; `trace_id` and `span_id` are empty outside any span."""

    time_ns: int
    severity: str
    severity_number: int
    body: Any
    attributes: Attributes
    trace_id: str
    span_id: str
    flags: int
    resource: Attributes
    scope: str


Record = SpanRecord | MetricRecord | LogRecord

KINDS = ("INTERNAL", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES = ("UNSET", "OK", "ERROR")
TEMPORALITIES = ("UNSPECIFIED", "DELTA", "CUMULATIVE")


class Reading(Iterator[Record]):
    """The records of a file, in its order; `skipped` counts the lines that could not be read so far."""

    def __init__(self, path: Path, containing: str = "") -> None:
        self.skipped = 0
        self._records = self._read(path, containing.lower().encode())

    def _read(self, path: Path, containing: bytes) -> Iterator[Record]:
        with open_plain(path) as file:
            for line in file:
                if (containing and containing not in line.lower()) or not line.strip():
                    continue
                try:
                    records = parse(json.loads(line))
                # A line torn by a crash, another format, or nesting without end: the rest of the file is still good.
                except (ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError):
                    self.skipped += 1
                    continue
                yield from records

    def __next__(self) -> Record:
        return next(self._records)


def read(path: Path, *, containing: str = "") -> Reading:
    """Read a file of OTLP JSON lines. A line that is torn or bad is skipped and counted, never raised.

    Args:
        path: the file; OSError where it cannot be opened.
        containing: only lines with this text in them, in upper or lower case, a trace id for example: far quicker
            than reading all.
    """
    return Reading(path, containing)


def parse(request: Mapping[str, Any]) -> list[Record]:
    """Return the records of one export request; for others raise ValueError, TypeError, AttributeError, LookupError."""
    records: list[Record] = []
    known = False
    for signal, scoped, leaf, make in _SIGNALS:
        for group in request.get(signal) or ():
            resource = _attributes(group.get("resource") or {})
            for scope_group in group.get(scoped) or ():
                scope = str((scope_group.get("scope") or {}).get("name", ""))
                made = (make(item, resource, scope) for item in scope_group.get(leaf) or ())
                records.extend(record for record in made if record is not None)
        known = known or signal in request
    if request and not known:
        raise ValueError("no OTLP export request")
    return records


def _span(span: Mapping[str, Any], resource: Attributes, scope: str) -> SpanRecord:
    status = span.get("status") or {}
    return SpanRecord(
        trace_id=_hex(span["traceId"], 32),
        span_id=_hex(span["spanId"], 16),
        parent_span_id=_parent(span.get("parentSpanId") or ""),
        name=str(span.get("name", "")),
        kind=_named(KINDS, span.get("kind", 0), "SPAN_KIND_"),
        start_ns=_time_ns(span.get("startTimeUnixNano", 0)),
        end_ns=_time_ns(span.get("endTimeUnixNano", 0)),
        attributes=_attributes(span),
        links=tuple(
            LinkRecord(_hex(link["traceId"], 32), _hex(link["spanId"], 16), _attributes(link))
            for link in span.get("links") or ()
        ),
        events=tuple(
            EventRecord(str(event.get("name", "")), _time_ns(event.get("timeUnixNano", 0)), _attributes(event))
            for event in span.get("events") or ()
        ),
        status=_named(STATUSES, status.get("code", 0), "STATUS_CODE_"),
        status_message=str(status.get("message", "")),
        resource=resource,
        scope=scope,
        trace_state=str(span.get("traceState", "")),
        flags=int(span.get("flags", 0)),
    )


def _metric(metric: Mapping[str, Any], resource: Attributes, scope: str) -> MetricRecord | None:
    for kind in ("sum", "gauge", "histogram"):
        if kind in metric:
            data = metric[kind]
            return MetricRecord(
                name=str(metric.get("name", "")),
                unit=str(metric.get("unit", "")),
                description=str(metric.get("description", "")),
                kind=kind,
                points=tuple(_point(point) for point in data.get("dataPoints") or ()),
                monotonic=bool(data.get("isMonotonic", False)),
                temporality=_named(TEMPORALITIES, data.get("aggregationTemporality", 0), "AGGREGATION_TEMPORALITY_"),
                resource=resource,
                scope=scope,
            )
    return None


def _point(point: Mapping[str, Any]) -> PointRecord:
    value: int | float | None = None
    if "asInt" in point:
        value = int(point["asInt"])
    elif "asDouble" in point:
        value = float(point["asDouble"])
    return PointRecord(
        attributes=_attributes(point),
        start_ns=_time_ns(point.get("startTimeUnixNano", 0)),
        time_ns=_time_ns(point.get("timeUnixNano", 0)),
        value=value,
        count=int(point.get("count", 0)),
        sum=float(point["sum"]) if "sum" in point else None,
        bounds=tuple(float(bound) for bound in point.get("explicitBounds") or ()),
        bucket_counts=tuple(int(count) for count in point.get("bucketCounts") or ()),
    )


def _log(log: Mapping[str, Any], resource: Attributes, scope: str) -> LogRecord:
    return LogRecord(
        time_ns=_time_ns(log.get("timeUnixNano") or log.get("observedTimeUnixNano") or 0),
        severity=str(log.get("severityText", "")),
        severity_number=_number(log.get("severityNumber", 0)),
        body=_value(log.get("body") or {}),
        attributes=_attributes(log),
        trace_id=str(log.get("traceId") or "").lower(),
        span_id=str(log.get("spanId") or "").lower(),
        flags=int(log.get("flags", 0)),
        resource=resource,
        scope=scope,
    )


_SIGNALS: tuple[tuple[str, str, str, Any], ...] = (
    ("resourceSpans", "scopeSpans", "spans", _span),
    ("resourceMetrics", "scopeMetrics", "metrics", _metric),
    ("resourceLogs", "scopeLogs", "logRecords", _log),
)


def _hex(text: str, length: int) -> str:
    if len(text) != length or _HEX.fullmatch(text) is None:
        raise ValueError("no id of this length")
    return text.lower()


def _time_ns(value: str | float) -> int:
    """Return ns since the epoch. Raises ValueError for what fits into no time stamp of OTLP's."""
    time_ns = int(value)
    if not 0 <= time_ns < MAX_TIME_NS:
        raise ValueError("no time")
    return time_ns


def _parent(text: str) -> str:
    # Some exporters write a missing parent as zeros.
    return _hex(text, 16) if text.strip("0") else ""


def _named(names: tuple[str, ...], value: str | int, prefix: str) -> str:
    """Return an enumeration's word for its number or protobuf name. A number from the future gives the first word."""
    if isinstance(value, str) and not value.isdigit():
        word = value.removeprefix(prefix)
        return word if word in names else names[0]
    number = int(value)
    return names[number] if 0 <= number < len(names) else names[0]


def _number(value: str | int) -> int:
    return int(value) if isinstance(value, int) or value.isdigit() else 0


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value") or {}) for pair in holder.get("attributes") or ()}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, convert in _VALUES.items():
        if kind in value:
            return convert(value[kind])
    return None


_VALUES: dict[str, Any] = {
    "stringValue": str,
    "intValue": int,
    "doubleValue": float,
    "boolValue": bool,
    "arrayValue": lambda array: tuple(_value(item) for item in array.get("values") or ()),
    "kvlistValue": lambda pairs: {pair["key"]: _value(pair.get("value") or {}) for pair in pairs.get("values") or ()},
    "bytesValue": b64decode,
}
