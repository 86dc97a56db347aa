"""Log records of the SDK as OTLP's bytes."""

from __future__ import annotations

from struct import Struct
from typing import Any

from otel_pipeline.export.otlp.wire import any_value, attributes, length_delimited, varint

_times = Struct("<sQsQ").pack
_flags = Struct("<sI").pack
MAX_SEVERITIES = 64
"""That are kept as bytes."""
_severities: dict[str | None, tuple[Any, bytes]] = {}


def encode(data: Any) -> bytes:
    """Return what a log exporter is given as a field of ScopeLogs, equal to what the SDK's encoder makes of it.

    Raises what `wire.any_value` raises, and whatever else comes of what is no log record.
    """
    record = data.log_record
    held, flags, value = record.attributes, record.trace_flags, any_value(record.body)
    number, text = record.severity_number, record.severity_text
    # By the text: an enumeration's hash is a call of Python's.
    severity = _severities.get(text)
    if severity is None or severity[0] is not number:
        severity = _new_severity(number, text)
    parts = [
        _times(b"\x09", record.timestamp or 0, b"\x59", record.observed_timestamp or 0),
        b"\x2a",
        varint(len(value)),
        value,
        attributes(held, 6),
        severity[1],
    ]
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


def _new_severity(number: Any, text: str | None) -> tuple[Any, bytes]:
    """Return what is kept of a severity's text: its number, and both as fields."""
    found = b"" if number is None else b"\x10" + varint(number.value)
    if text:
        found += length_delimited(3, text.encode())
    if len(_severities) >= MAX_SEVERITIES:
        _severities.clear()
    known = _severities[text] = number, found
    return known


def resource_of(data: Any) -> Any:
    """Return the resource of what a log exporter is given; up to SDK 1.38 the record has it."""
    return getattr(data, "resource", None) or data.log_record.resource
