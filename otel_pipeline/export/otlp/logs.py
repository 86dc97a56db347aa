"""Log records of the SDK as OTLP's bytes."""

from __future__ import annotations

from struct import Struct
from typing import Any

from otel_pipeline.export.otlp.wire import any_value, attributes, length_delimited, varint

_times = Struct("<sQsQ").pack
_flags = Struct("<sI").pack


def encode(data: Any) -> bytes:
    """Return what a log exporter is given as a field of ScopeLogs, equal to what the SDK's encoder makes of it.

    Raises what `wire.any_value` raises, and whatever else comes of what is no log record.
    """
    record = data.log_record
    held, severity, flags = record.attributes, record.severity_number, record.trace_flags
    parts = [
        _times(b"\x09", record.timestamp or 0, b"\x59", record.observed_timestamp or 0),
        length_delimited(5, any_value(record.body)),
        attributes(held, 6),
    ]
    if severity is not None:
        parts.append(b"\x10" + varint(severity.value))
    if record.severity_text:
        parts.append(length_delimited(3, record.severity_text.encode()))
    if record.trace_id:
        parts.append(b"\x4a\x10" + record.trace_id.to_bytes(16, "big"))
    if record.span_id:
        parts.append(b"\x52\x08" + record.span_id.to_bytes(8, "big"))
    if flags:
        parts.append(_flags(b"\x45", flags))
    if name := getattr(record, "event_name", None):  # There since SDK 1.35.
        parts.append(length_delimited(12, name.encode()))
    if dropped := getattr(held, "dropped", 0):
        parts.append(b"\x38" + varint(dropped))
    body = b"".join(parts)
    return b"\x12" + varint(len(body)) + body


def resource_of(data: Any) -> Any:
    """Return the resource of what a log exporter is given; up to SDK 1.38 the record has it."""
    return getattr(data, "resource", None) or data.log_record.resource
