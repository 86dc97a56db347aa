"""The one receiver of OTLP over HTTP that we have: a tiny stand-in for a Collector on loopback.

What becomes of a request is another's: `otlp_receiver` keeps it as OTLP JSON lines, `otel_pipeline.testing.Collector`
keeps it for a test, and lets it fail.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from otel_pipeline.dev.requests_as_json import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MAX_BODY_BYTES = 64_000_000
"""Of a request, as it comes and unpacked: ten times what the largest batch of an exporter takes."""
_PROTOBUF = "application/x-protobuf"
_DIGITS = 8
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CHUNK_LINE = 256
_TRAILERS = 32
_TIMEOUT_SECONDS = 30
_LONGEST_ANSWER = 1000
_GZIP_OR_ZLIB = 47
_TLS_HELLO = b"\x16"
"""What a client begins with that speaks TLS: it would wait for an answer to it, and we for the end of the line."""


class Request(NamedTuple):
    """An export request."""

    path: str
    """`/v1/traces`, `/v1/metrics` or `/v1/logs`, as far as the sender keeps to OTLP."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Unpacked."""


class Answer(NamedTuple):
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Receiver:
    """Takes OTLP over HTTP on a port of 127.0.0.1, between `open` and `close`. Safe in any thread.

    Args:
        take: called for each request with it and the connection that it came on, in a thread of that connection's;
            returns the answer, or None where it has answered itself and the connection is to end. OSError is answered
            by 503, all else that it raises by 400.
        port: of the machine; 0 for a free one, which stays the same from then on.
        certificate: a file with a certificate and its key: it speaks TLS then.
    """

    def __init__(
        self, take: Callable[[Request, socket.socket], Answer | None], port: int = 0, certificate: Path | None = None
    ) -> None:
        self.take = take
        self.port = port
        self.connections = 0
        """How many there have been."""
        self.tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
        self._server: _Server | None = None
        self._serving = threading.Thread()

    @property
    def endpoint(self) -> str:
        """What an exporter takes as OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http{'s' if self.tls is not None else ''}://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen. Raises OSError where somebody else has the port."""
        self._server = _Server(self)
        self.port = self._server.server_port
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._serving.start()

    def close(self) -> None:
        """Listen no more, and end all connections."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.end_connections()
            self._serving.join()


@contextmanager
def otlp_receiver(folder: Path) -> Iterator[str]:
    """Keep what arrives in `folder/telemetry.jsonl` while the `with` lasts, and yield the endpoint for exporters."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "telemetry.jsonl").open("a", encoding="utf-8") as lines:
        receiver = Receiver(Lines(lines).take)
        receiver.open()
        try:
            yield receiver.endpoint
        finally:
            receiver.close()


class Lines:
    """Writes requests as OTLP JSON lines. Safe in any thread."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._lock = threading.Lock()

    def take(self, request: Request, _connection: socket.socket) -> Answer:
        """Write a request; raises OSError where that cannot be done, and whatever for what is no telemetry."""
        line = json.dumps(as_json(request.path, request.body), separators=(",", ":")) + "\n"
        with self._lock:
            self._lines.write(line)
            self._lines.flush()  # Who reads along, or after a crash, finds whole lines.
        return Answer()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", receiver.port), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.receiver.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """End what is open, whatever its thread does."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a service that ends breaks its connection."""


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # Exporters keep their connection.
    timeout = _TIMEOUT_SECONDS

    def setup(self) -> None:
        tls = self.server.receiver.tls
        if tls is not None:  # Here, not where connections are accepted: a peer that is silent holds up nobody else.
            self.request.settimeout(self.timeout)
            self.request = tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        if self.server.receiver.tls is not None:
            self.request.close()

    def handle_one_request(self) -> None:
        if self.rfile.peek(1)[:1] == _TLS_HELLO:  # type: ignore[attr-defined] # it is buffered
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        super().handle_one_request()

    def do_POST(self) -> None:
        try:
            body = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = self.server.receiver.take(Request(self.path, headers, body), self.connection)
        except RefusedError as error:
            self.close_connection = True  # What is left of the body would be taken for the next request.
            self._answer(Answer(error.status, _text(str(error))))
        except OSError as error:
            self.close_connection = True
            self._answer(Answer(503, _text(f"it cannot be kept: {error.strerror or error}")))
        except Exception as error:  # Whatever the bytes, the exporter gets an answer.
            self._answer(Answer(400, _text(str(error))))
        else:
            self.close_connection = self.close_connection or answer is None
            if answer is not None:
                self._answer(answer)

    def _body(self) -> bytes:
        """Read what was sent. Raises RefusedError for what no exporter of this machine sends."""
        if self.headers.get("Origin") is not None:
            raise RefusedError(403, "pages of browsers do not write here")
        packed = self._chunks() if self.headers.get("Transfer-Encoding") is not None else self._at_once()
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding in {"gzip", "deflate"}:
            return _unpacked(packed)
        if encoding != "identity":
            raise RefusedError(415, "its Content-Encoding is neither gzip nor deflate")
        return packed

    def _at_once(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RefusedError(411, "Content-Length is missing")
        if len(length) > _DIGITS or int(length) > MAX_BODY_BYTES:
            raise RefusedError(413, f"it is larger than {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RefusedError(400, "it is cut short")
        return body

    def _chunks(self) -> bytes:
        """Read a body that comes in chunks. Raises RefusedError for what is none, or too large."""
        if self.headers["Transfer-Encoding"].strip().lower() != "chunked" or self.headers.get("Content-Length"):
            raise RefusedError(400, "a body is either chunked, or has a Content-Length")
        body = bytearray()
        while size := self._chunk_size():
            if len(body) + size > MAX_BODY_BYTES:
                raise RefusedError(413, f"it is larger than {MAX_BODY_BYTES} bytes")
            body += self.rfile.read(size)
            if self.rfile.readline(_CHUNK_LINE) != b"\r\n":
                raise RefusedError(400, "a chunk is cut short")
        for _ in range(_TRAILERS):
            if self.rfile.readline(_CHUNK_LINE) in (b"\r\n", b""):
                return bytes(body)
        raise RefusedError(400, "it has too many trailers")

    def _chunk_size(self) -> int:
        digits = self.rfile.readline(_CHUNK_LINE).partition(b";")[0].strip()
        if not 0 < len(digits) <= _DIGITS or not set(digits) <= _HEX:
            raise RefusedError(400, "a chunk has no size")
        return int(digits, 16)

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", _PROTOBUF)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing."""


def _text(said: str) -> bytes:
    return said.encode(errors="replace")[:_LONGEST_ANSWER]


def _unpacked(body: bytes) -> bytes:
    """Unpack gzip or deflate, up to the size that is allowed unpacked."""
    unpacking = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    unpacked = unpacking.decompress(body, MAX_BODY_BYTES)
    if unpacking.unconsumed_tail:
        raise RefusedError(413, f"it is larger than {MAX_BODY_BYTES} bytes")
    if not unpacking.eof:
        raise ValueError("its compression is cut short")
    return unpacked


class RefusedError(Exception):
    """What is not taken.

    Args:
        status: of the answer.
        message: its text.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
