"""A Collector in this process that fails in every way that networks and servers do."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
import threading
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

CERTIFICATE = Path(__file__).parent / "certificate.pem"
"""Of 127.0.0.1 and localhost, signed by nobody, with its key; for tests alone."""


class FaultCollector:
    """Takes OTLP over HTTP on `port`. `mode` says what it does with each request:

    ok, hang, reset, close, status:503, status:429:30 (Retry-After), partial:2, redirect, big, larger:3 (413 for more
    than 3 spans).
    """

    def __init__(self, *, tls=False):
        self.mode = "ok"
        self.spans = []
        """Names of those that were taken."""
        self.bodies = []
        """Texts of log records that were taken."""
        self.points = 0
        self.raw = []
        """Headers and bytes of each request."""
        self.requests = []
        """Paths."""
        self.connections = 0
        self.answer = b""
        """The body of its answers."""
        self.released = threading.Event()
        self._context = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(CERTIFICATE)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def end(self):
        self.released.set()
        self._listening.close()

    def _accept(self):
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connected,), daemon=True).start()

    def _serve(self, connected):
        try:
            if self._context is not None:
                connected = self._context.wrap_socket(connected, server_side=True)
            with connected, connected.makefile("rb") as stream:
                while self._one(connected, stream):
                    pass
        except OSError:
            connected.close()

    def _one(self, connected, stream):
        """Answer a request; false when the connection ends."""
        if stream.peek(1)[:1] == b"\x16":  # TLS
            connected.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        request = stream.readline().decode("latin-1").split()
        if len(request) != 3:
            return False
        headers = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.requests.append(request[1])
        self.raw.append((headers, body))
        mode, _, detail = self.mode.partition(":")
        if mode == "hang":
            self.released.wait(60)
            return False
        if mode == "reset":
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if mode == "close":
            return False
        connected.sendall(self._answer(mode, detail, request[1], body))
        return mode != "big"

    def _answer(self, mode, detail, path, body):
        if mode == "status":
            status, _, after = detail.partition(":")
            return _response(status, b"", f"Retry-After: {after}\r\n" if after else "")
        if mode == "redirect":
            return _response("302", b"", "Location: http://127.0.0.1:9/elsewhere\r\n")
        if mode == "big":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n" + b"x" * 200_000
        if mode == "larger" and len(_spans(body)) > int(detail):
            return _response("413", b"")
        self._take(path, body)
        answer = self.answer
        if mode == "partial":
            response = ExportTraceServiceResponse()
            response.partial_success.rejected_spans = int(detail)
            response.partial_success.error_message = "no such tenant\x1b[2J"
            answer = response.SerializeToString()
        return _response("200", answer)

    def _take(self, path, body):
        if path.endswith("/v1/traces"):
            self.spans += _spans(body)
        elif path.endswith("/v1/logs"):
            found = ExportLogsServiceRequest.FromString(body)
            self.bodies += [
                record.body.string_value
                for resource in found.resource_logs
                for scope in resource.scope_logs
                for record in scope.log_records
            ]
        else:
            found = ExportMetricsServiceRequest.FromString(body)
            self.points += sum(
                len(getattr(metric, metric.WhichOneof("data")).data_points)
                for resource in found.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            )


def _spans(body):
    found = ExportTraceServiceRequest.FromString(body)
    return [span.name for resource in found.resource_spans for scope in resource.scope_spans for span in scope.spans]


def _response(status, body, headers=""):
    head = f"HTTP/1.1 {status} Reason\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def grpc_server(answer=None):
    """A gRPC server that has the trace service where there is an `answer`: a function of (request, context)."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    if answer is not None:
        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=ExportTraceServiceRequest.FromString,
            response_serializer=ExportTraceServiceResponse.SerializeToString,
        )
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait(5)


def refused_port():
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
