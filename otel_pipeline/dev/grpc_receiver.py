"""OTLP over gRPC for the receiver of `receiver.py`, where grpcio is installed."""

from __future__ import annotations

from concurrent import futures
from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_pipeline.dev.receiver import MAX_BODY_BYTES, Answer, RefusedError, Request

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICES = {
    "/v1/traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "/v1/metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "/v1/logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Of gRPC, for what HTTP would answer: those that a proxy between the two makes."""
_OK = range(200, 300)
_DETAILS = "grpc-status-details-bin"
_THREADS = 8
_GRACE_S = 5.0


class GrpcReceiver:
    """Takes OTLP over gRPC on a port of 127.0.0.1, between `open` and `close`. Safe in any thread.

    Args:
        take: called for each request, named as over HTTP, in a thread of the server's; returns the answer, whose status
            becomes gRPC's, and `Retry-After` in s its RetryInfo.
        port: of the machine; 0 for a free one, which stays the same from then on.

    Raises:
        ModuleNotFoundError: without grpcio.
    """

    def __init__(self, take: Callable[[Request], Answer], port: int = 0) -> None:
        self._grpc: Any = import_module("grpc")  # It has no types.
        self._take = take
        self.port = port
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        """What an exporter takes as OTEL_EXPORTER_OTLP_ENDPOINT, with OTEL_EXPORTER_OTLP_PROTOCOL=grpc."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen. Raises RuntimeError where somebody else has the port."""
        grpc = self._grpc
        options = [("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.so_reuseport", 0)]
        server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=options)
        for path, service in SERVICES.items():
            handler = grpc.unary_unary_rpc_method_handler(self._export(path))
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self._server = server

    def close(self) -> None:
        """Listen no more, and end all calls."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait(_GRACE_S)

    def _export(self, path: str) -> Callable[[bytes, Any], bytes]:
        def export(body: bytes, context: Any) -> bytes:
            headers = {str(name): str(value) for name, value in context.invocation_metadata()}
            try:
                answer = self._take(Request(path, headers, body))
            except RefusedError as error:
                answer = Answer(error.status, str(error).encode())
            except Exception as error:  # Whatever the bytes, the exporter gets an answer.
                answer = Answer(400, str(error).encode())
            if answer.status in _OK:
                return answer.body
            code = getattr(self._grpc.StatusCode, _CODES.get(answer.status, "UNKNOWN"))
            said = answer.body.decode(errors="replace") or f"HTTP {answer.status}"
            retry_after = dict(answer.headers).get("Retry-After", "")
            if retry_after.isdigit():
                context.set_trailing_metadata([(_DETAILS, _retry_info(code.value[0], said, int(retry_after)))])
            context.abort(code, said)
            raise AssertionError  # `abort` raises.

        return export


def _retry_info(code: int, said: str, seconds: int) -> bytes:
    """Return the details of a status that ask to wait, as OTLP has it over gRPC."""
    status, details = import_module("google.rpc.status_pb2"), import_module("google.rpc.error_details_pb2")
    info = details.RetryInfo()
    info.retry_delay.seconds = seconds
    made = status.Status(code=code, message=said)
    made.details.add().Pack(info)
    return bytes(made.SerializeToString())
