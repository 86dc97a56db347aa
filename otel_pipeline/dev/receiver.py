"""A tiny stand-in for a Collector: takes OTLP over HTTP on loopback and keeps it as OTLP JSON lines."""

from __future__ import annotations

import json
import threading
import zlib
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from otel_pipeline.export.otlp_json import double

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PATHS = ("/v1/traces", "/v1/metrics", "/v1/logs")
_PROTOBUF = "application/x-protobuf"
MAX_BODY_BYTES = 64_000_000
"""Of a request, as it comes and unpacked: ten times what the largest batch of an exporter takes."""
_DIGITS = 8
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CHUNK_LINE = 256
_TRAILERS = 32
_TIMEOUT_SECONDS = 30
_LONGEST_ANSWER = 1000


@contextmanager
def otlp_receiver(folder: Path) -> Iterator[str]:
    """Keep what arrives in `folder/telemetry.jsonl` while the `with` lasts, and yield the endpoint for exporters."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "telemetry.jsonl").open("a", encoding="utf-8") as lines, _Server(lines) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, lines: TextIO) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self._lines = lines
        self._lock = threading.Lock()

    def keep(self, line: str) -> None:
        """Append a line; safe in any thread. Raises OSError where that cannot be done."""
        with self._lock:
            self._lines.write(line + "\n")
            self._lines.flush()  # Who reads along, or after a crash, finds whole lines.

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a service that ends breaks its connection."""


class _Request(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # Exporters keep their connection.
    timeout = _TIMEOUT_SECONDS

    def do_POST(self) -> None:
        try:
            self.server.keep(json.dumps(request(self.path, self._body()), separators=(",", ":")))
        except _RefusedError as error:
            self.close_connection = True  # What is left of the body would be taken for the next request.
            self._answer(error.status, str(error))
        except OSError as error:
            self.close_connection = True
            self._answer(503, f"it cannot be kept: {error.strerror or error}")
        except Exception as error:  # Whatever the bytes, the exporter gets an answer.
            self._answer(400, str(error))
        else:
            self._answer(200, "")

    def _body(self) -> bytes:
        """Read what was sent. Raises _RefusedError for what no exporter of this machine sends."""
        if self.headers.get("Origin") is not None:
            raise _RefusedError(403, "pages of browsers do not write here")
        if self.headers.get("Transfer-Encoding") is not None:
            body = self._chunks()
            return _unpacked(body) if self.headers.get("Content-Encoding") == "gzip" else body
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _RefusedError(411, "Content-Length is missing")
        if len(length) > _DIGITS or int(length) > MAX_BODY_BYTES:
            raise _RefusedError(413, f"it is larger than {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(int(length))
        return _unpacked(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _chunks(self) -> bytes:
        """Read a body that comes in chunks. Raises _RefusedError for what is none, or too large."""
        if self.headers["Transfer-Encoding"].strip().lower() != "chunked" or self.headers.get("Content-Length"):
            raise _RefusedError(400, "a body is either chunked, or has a Content-Length")
        body = bytearray()
        while size := self._chunk_size():
            if len(body) + size > MAX_BODY_BYTES:
                raise _RefusedError(413, f"it is larger than {MAX_BODY_BYTES} bytes")
            body += self.rfile.read(size)
            if self.rfile.readline(_CHUNK_LINE) != b"\r\n":
                raise _RefusedError(400, "a chunk is cut short")
        for _ in range(_TRAILERS):
            if self.rfile.readline(_CHUNK_LINE) in (b"\r\n", b""):
                return bytes(body)
        raise _RefusedError(400, "it has too many trailers")

    def _chunk_size(self) -> int:
        digits = self.rfile.readline(_CHUNK_LINE).partition(b";")[0].strip()
        if not 0 < len(digits) <= _DIGITS or not set(digits) <= _HEX:
            raise _RefusedError(400, "a chunk has no size")
        return int(digits, 16)

    def _answer(self, status: int, said: str) -> None:
        body = said.encode(errors="replace")[:_LONGEST_ANSWER]
        self.send_response(status)
        self.send_header("Content-Type", _PROTOBUF)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing."""


def _unpacked(body: bytes) -> bytes:
    """Unpack gzip, up to the size that is allowed unpacked."""
    unpacking = zlib.decompressobj(wbits=31)
    unpacked = unpacking.decompress(body, MAX_BODY_BYTES)
    if unpacking.unconsumed_tail:
        raise _RefusedError(413, f"it is larger than {MAX_BODY_BYTES} bytes")
    if not unpacking.eof:
        raise ValueError("its compression is cut short")
    return unpacked


class _RefusedError(Exception):
    """What is not taken.

    Args:
        status: of the answer.
        message: its text.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def request(path: str, body: bytes) -> dict[str, Any]:
    """Convert an export request to OTLP JSON: ids in hex, unlike protobuf's own JSON."""
    if path == "/v1/traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # 60 ms
            ExportTraceServiceRequest,
        )

        traces = ExportTraceServiceRequest.FromString(body)
        return {"resourceSpans": [_group(each, "scopeSpans", each.scope_spans) for each in traces.resource_spans]}
    if path == "/v1/logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
            ExportLogsServiceRequest,
        )

        logs = ExportLogsServiceRequest.FromString(body)
        return {"resourceLogs": [_group(each, "scopeLogs", each.scope_logs) for each in logs.resource_logs]}
    if path == "/v1/metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
            ExportMetricsServiceRequest,
        )

        # Its types are in no package of ours. Ids come out in base64, but only exemplars have any here.
        convert = import_module("google.protobuf.json_format").MessageToDict
        return dict(convert(ExportMetricsServiceRequest.FromString(body)))
    raise ValueError(f"no such path, only {', '.join(_PATHS)}")


def _group(group: Any, name: str, scopes: Any) -> dict[str, Any]:
    """Convert what one resource sent, by hand: protobuf's own conversion takes five times as long, 1 s for the demo."""
    make, leaf = (_span, "spans") if name == "scopeSpans" else (_log, "logRecords")
    return {
        "resource": {"attributes": _attributes(group.resource.attributes)},
        name: [
            {
                "scope": {"name": scope.scope.name, "version": scope.scope.version},
                leaf: [make(item) for item in (scope.spans if leaf == "spans" else scope.log_records)],
            }
            for scope in scopes
        ],
    }


def _span(span: Any) -> dict[str, Any]:
    return {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "traceState": span.trace_state,
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_time_unix_nano),
        "endTimeUnixNano": str(span.end_time_unix_nano),
        "attributes": _attributes(span.attributes),
        "events": [
            {
                "name": event.name,
                "timeUnixNano": str(event.time_unix_nano),
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ],
        "links": [
            {
                "traceId": link.trace_id.hex(),
                "spanId": link.span_id.hex(),
                "attributes": _attributes(link.attributes),
            }
            for link in span.links
        ],
        "status": {"code": span.status.code, "message": span.status.message},
    }


def _log(log: Any) -> dict[str, Any]:
    return {
        "timeUnixNano": str(log.time_unix_nano),
        "observedTimeUnixNano": str(log.observed_time_unix_nano),
        "severityNumber": log.severity_number,
        "severityText": log.severity_text,
        "body": _value(log.body),
        "attributes": _attributes(log.attributes),
        "traceId": log.trace_id.hex(),
        "spanId": log.span_id.hex(),
        "flags": log.flags,
    }


def _attributes(pairs: Any) -> list[dict[str, Any]]:
    return [{"key": pair.key, "value": _value(pair.value)} for pair in pairs]


def _value(value: Any) -> dict[str, Any]:
    kind = value.WhichOneof("value")
    if kind is None:
        return {}
    content = getattr(value, kind)
    if kind == "array_value":
        return {"arrayValue": {"values": [_value(item) for item in content.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": _attributes(content.values)}}
    if kind == "bytes_value":
        return {"bytesValue": b64encode(content).decode()}
    name, made = _MADE[kind]
    return {name: made(content)}


_MADE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "string_value": ("stringValue", str),
    "bool_value": ("boolValue", bool),
    "int_value": ("intValue", str),
    "double_value": ("doubleValue", double),
}
