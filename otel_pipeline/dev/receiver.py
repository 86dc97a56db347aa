"""A tiny stand-in for a Collector: takes OTLP over HTTP on loopback and keeps it as OTLP JSON lines."""

from __future__ import annotations

import gzip
import json
import threading
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PATHS = ("/v1/traces", "/v1/metrics", "/v1/logs")
_PROTOBUF = "application/x-protobuf"


@contextmanager
def otlp_receiver(folder: Path) -> Iterator[str]:
    """Keep what arrives in `folder/telemetry.jsonl` while the `with` lasts, and yield the endpoint for exporters."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = (folder / "telemetry.jsonl").open("a", encoding="utf-8")
    lock = threading.Lock()

    class Keep(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # Exporters keep their connection.

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                line = json.dumps(request(self.path, body), separators=(",", ":"))
            except Exception as error:  # Whatever the bytes, the exporter gets an answer.
                self._answer(400, str(error).encode(errors="replace"))
                return
            with lock:
                lines.write(line + "\n")
                lines.flush()  # Who reads along, or after a crash, finds whole lines.
            self._answer(200, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", _PROTOBUF)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Say nothing."""

    with lines, _Server(("127.0.0.1", 0), Keep) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a service that ends breaks its connection."""


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
    if kind == "int_value":
        return {"intValue": str(content)}
    if kind == "array_value":
        return {"arrayValue": {"values": [_value(item) for item in content.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": _attributes(content.values)}}
    if kind == "bytes_value":
        return {"bytesValue": b64encode(content).decode()}
    return {_PLAIN[kind]: content}


_PLAIN = {"string_value": "stringValue", "double_value": "doubleValue", "bool_value": "boolValue"}
