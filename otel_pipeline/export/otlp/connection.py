"""A connection to a server that speaks HTTP/1.1: each step of a request ends at one deadline, on a monotonic clock."""

from __future__ import annotations

# `getaddrinfo` imports it with the first name: a child that is forked meanwhile would wait for the import for ever.
import encodings.idna  # noqa: F401
import io
import os
import socket
import time
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from otel_pipeline.export.causes import ProxyError
from otel_pipeline.export.otlp import tls
from otel_pipeline.export.otlp.variables import PORTS, basic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.export.otlp.variables import HttpSettings

MAX_ANSWER_BYTES = 64 * 1024
MAX_ANSWER_S = 5.0
"""For the body of an answer; its beginning has the time of the request."""
_OK = range(200, 300)


class Answer(NamedTuple):
    """What a server has answered."""

    status: int
    body: bytes
    """Its first 64 kB."""
    date: str | None
    retry_after: str | None


class Connection:
    """A connection, open from the start. For one thread at a time.

    Args:
        settings: of the exporter.
        deadline_s: until when it has to be open, as `time.monotonic()` has it.

    Raises:
        OSError: for all that networks do; TLS's are `ssl.SSLError`.
    """

    def __init__(self, settings: HttpSettings, deadline_s: float) -> None:
        self.pid = os.getpid()
        """Of whose connection it is: what two processes write on one is torn."""
        self.is_used = False
        """Whether a request has been answered on it."""
        self._settings = settings
        parts = settings.parts
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        proxy = urlsplit(settings.proxy) if settings.proxy is not None else None
        if proxy is None:
            self._socket: Any = _connected(host, port, deadline_s)
        else:
            try:
                self._socket = _connected(proxy.hostname or "", proxy.port or PORTS[proxy.scheme], deadline_s)
            except OSError:
                raise ProxyError("nobody is there") from None
        try:
            if parts.scheme == "https":
                if proxy is not None:
                    self._ask_for_tunnel(f"{_bracketed(host)}:{port}", basic(proxy), deadline_s)
                self._socket.settimeout(_left(deadline_s))
                self._socket = tls.context(settings).wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise
        self._head = self._request_head(host, port)

    def close(self) -> None:
        """End it, here; in a forked child it stays the parent's."""
        self._socket.close()

    def ask(self, body: bytes, deadline_s: float) -> tuple[Answer, bool]:
        """Send a request; return the answer, and whether the connection can be used again.

        Raises:
            OSError: for what networks do.
            HTTPException: for what is no answer over HTTP.
        """
        self._send(self._head + b"content-length: %d\r\n\r\n" % len(body) + body, deadline_s)
        raw = _Reading(self._socket, deadline_s)
        answer = HTTPResponse(_File(raw), method="POST")  # type: ignore[arg-type] # all that it asks for is `makefile`
        with _closing(answer):
            answer.begin()
            raw.deadline_s = min(deadline_s, time.monotonic() + MAX_ANSWER_S)
            read, is_whole = _body(answer)
            self.is_used = True
            found = Answer(answer.status, read, answer.headers.get("Date"), answer.headers.get("Retry-After"))
            return found, is_whole and not answer.will_close

    def _send(self, data: bytes, deadline_s: float) -> None:
        left = memoryview(data)
        while left:
            self._socket.settimeout(_left(deadline_s))
            left = left[self._socket.send(left) :]

    def _request_head(self, host: str, port: int) -> bytes:
        settings, parts = self._settings, self._settings.parts
        named = _bracketed(host) if port == PORTS[parts.scheme] else f"{_bracketed(host)}:{port}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"host": named, **settings.headers}
        if settings.compression != "none":
            headers["content-encoding"] = settings.compression
        if settings.proxy is not None and parts.scheme == "http":
            target = f"http://{named}{target}"
            credentials = basic(urlsplit(settings.proxy))
            if credentials is not None:
                headers["proxy-authorization"] = credentials
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), ""]
        return "\r\n".join(lines).encode("latin-1", "replace")

    def _ask_for_tunnel(self, to: str, credentials: str | None, deadline_s: float) -> None:
        lines = [f"CONNECT {to} HTTP/1.1", f"host: {to}"]
        if credentials is not None:
            lines.append(f"proxy-authorization: {credentials}")
        self._send("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"), deadline_s)
        answer = HTTPResponse(_File(_Reading(self._socket, deadline_s)), method="CONNECT")  # type: ignore[arg-type]
        with _closing(answer):
            answer.begin()
            if answer.status not in _OK:
                raise ProxyError(f"it answers {answer.status}")


class _Reading(io.RawIOBase):
    """Reads from a socket until a deadline: however slowly bytes come, each wait is for what is left of it."""

    def __init__(self, of: Any, deadline_s: float) -> None:
        self._socket = of
        self.deadline_s = deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self.deadline_s))
        return int(self._socket.recv_into(buffer))


class _File:
    """The side of a socket that an HTTPResponse sees: closing it leaves the socket open."""

    def __init__(self, raw: _Reading) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._raw)


@contextmanager
def _closing(answer: HTTPResponse) -> Iterator[None]:
    """Close it in the end, but not its socket: else Python 3.13 tells stderr that its file was collected before it."""
    try:
        yield
    finally:
        with suppress(Exception):
            answer.close()


def _body(answer: HTTPResponse) -> tuple[bytes, bool]:
    """Read the body, or its beginning; return it, and whether that is all."""
    read = bytearray()
    try:
        while len(read) < MAX_ANSWER_BYTES:
            part = answer.read1(MAX_ANSWER_BYTES - len(read))
            if not part:
                return bytes(read), True
            read += part
        return bytes(read), answer.isclosed()
    except Exception:
        return bytes(read), False  # Cut off: the status is here, and that decides.


def _left(deadline_s: float) -> float:
    left = deadline_s - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time is left")
    return left


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _connected(host: str, port: int, deadline_s: float) -> socket.socket:
    """Connect to the first address of a name that answers; each has its share of the time."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    last: OSError = TimeoutError("no time is left")
    for number, (family, kind, protocol, _, where) in enumerate(found):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(_left(deadline_s) / (len(found) - number))
            made.connect(where)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            made.close()
            last = error
        else:
            return made
    raise last
