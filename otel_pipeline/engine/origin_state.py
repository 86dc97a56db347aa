"""Where data began, as a member of `tracestate`: what is left of `otelp` behind a service that does not hand it on.

Every service that speaks W3C Trace Context hands `tracestate` on. The member `otelp` has origin and environment alone.
It has 40 bytes at most, its name included: version (1 byte), origin (6, ms since the epoch), environment (1, and up to
16 more for a name that has no code), as URL-safe base64.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.guard import raise_theirs
from otel_pipeline.engine.w3c import MAX_TRACESTATE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

KEY = pipeline_header.NAME
_VERSION = 1
_FIXED_BYTES = 8
_MAX_CHARACTERS = 32


def member(origin_ms: int, environment: str | None) -> str:
    """Return the value of the member."""
    header = pipeline_header.encode(**_said(origin_ms, environment))
    raw = a2b_base64(header.translate(pipeline_header.STANDARD) + b"=" * (-len(header) % 4))
    name = raw[32:] if raw[3] == pipeline_header.OTHER_ENVIRONMENT else b""
    made = bytes((_VERSION,)) + raw[4:10] + raw[3:4] + name
    return b2a_base64(made, newline=False).translate(pipeline_header.URL_SAFE, b"=").decode("ascii")


def read(value: str) -> bytes | None:
    """Return what the member says as a data-flow header, without a number; None for what it cannot say."""
    try:
        if len(value) > _MAX_CHARACTERS:
            return None
        raw = a2b_base64(value.encode("ascii").translate(pipeline_header.STANDARD) + b"=" * (-len(value) % 4))
        if len(raw) < _FIXED_BYTES or raw[0] != _VERSION:
            return None
        code = raw[7]
        other = code == pipeline_header.OTHER_ENVIRONMENT
        environment = raw[8:].decode("utf-8") if other else pipeline_header.ENVIRONMENTS.get(code)
        return pipeline_header.encode(**_said(int.from_bytes(raw[1:7], "big"), environment))
    except Exception:
        raise_theirs()
        return None


def _said(origin_ms: int, environment: str | None) -> dict[str, Any]:
    """Return what the header of a first hop has, without a path and a number."""
    numbers = {"flags": 0, "hops": 1, "path": 0, "producer_id": 0, "sequence": 0, "tag": 0}
    return {**numbers, "origin_ms": origin_ms, "newest_ms": origin_ms, "environment": environment}


def in_headers(states: Iterable[Any]) -> bytes | None:
    """Return what the `tracestate` headers of a message say, as a data-flow header; None without the member."""
    for value in states:
        if not isinstance(value, bytes | str) or len(value) > MAX_TRACESTATE_BYTES:
            continue
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        for part in text.split(","):
            name, _, said = part.strip(" \t").partition("=")
            if name == KEY:
                return read(said)
    return None
