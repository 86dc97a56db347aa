"""Why an export did not arrive, in words with a remedy, from what was seen of it."""

from __future__ import annotations

import errno
import socket
import ssl
from http.client import BadStatusLine, RemoteDisconnected
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.export.attempt import Attempt
    from otel_pipeline.export.destination import Signal

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_PROBE_S = 0.5
_HTTP2 = "\x00\x00"
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""With an empty frame of settings, which the other side answers with its own."""
_SETTINGS = b"\x04"
_TLS_ALERT = "\x15\x03"


class ForkedError(ConnectionError):
    """No call can be made in this process: it was forked in the middle of one."""


class ProxyError(ConnectionError):
    """A proxy is not there, or lets nothing pass."""


class CertificateFileError(OSError):
    """A certificate or key that was named cannot be read."""


class Cause(NamedTuple):
    """Why something was lost."""

    reason: str
    """As `error.type` has it: one of few."""
    words: str
    """What happened, as the end of "... does not arrive: "."""
    remedy: str = ""
    """What to do."""

    def __str__(self) -> str:
        return f"{self.words}; {self.remedy}" if self.remedy else self.words


REFUSED = Cause("refused", "nobody listens there", f"start a Collector, or set {ENDPOINT} to one")
SLOW = Cause(
    "queue_full",
    "it takes less than is recorded, and the queue is full",
    "give the Collector more capacity, record less (sample_rate), or set OTEL_BSP_MAX_QUEUE_SIZE higher",
)
TIMEOUT = Cause(
    "timeout",
    "it gives no answer in time",
    "is it overloaded, is a firewall between? OTEL_EXPORTER_OTLP_TIMEOUT says how long is waited",
)
ENDED = Cause("already_shutdown", "it came after the end", "call shutdown() last")
NOT_ENCODED = Cause("not_encoded", "it cannot be encoded", "look for texts and numbers of unusual kinds in it")
TOO_LARGE = Cause("too_large", "one alone is larger than is taken", "cut what is so large")
FORKED = Cause(
    "forked",
    "this process was forked in the middle of a call, after which gRPC fails",
    f"set {PROTOCOL}=http/protobuf, or start processes by spawn",
)
NOT_WRITTEN = Cause("not_written", "the file takes no more")
_GRPC_PORT = Cause("wrong_protocol", "this port speaks gRPC", f"use port 4318, or {PROTOCOL}=grpc")
_HTTP_PORT = Cause("wrong_protocol", "this port speaks HTTP, not gRPC", f"use port 4317, or {PROTOCOL}=http/protobuf")
_TLS_PORT = Cause("tls", "this port speaks TLS", f"begin {ENDPOINT} with https://")
_NO_TLS = Cause("tls", "this port speaks no TLS", f"begin {ENDPOINT} with http://")
_CERTIFICATE = Cause(
    "certificate", "its certificate is not trusted", "name the file of its authority in OTEL_EXPORTER_OTLP_CERTIFICATE"
)
_TLS = Cause("tls", "no TLS connection comes about", "compare versions, names and OTEL_EXPORTER_OTLP_*CERTIFICATE")
_NAME = Cause("name_not_found", "its name cannot be resolved", f"look at the host in {ENDPOINT}")
_UNREACHABLE = Cause("unreachable", "no way leads there", "look at network, VPN and firewall")
_RESET = Cause("reset", "it closes the connection without an answer", "look at its log: is it an OTLP endpoint?")
_PROXY = Cause("proxy", "the proxy does not let it pass", "look at HTTPS_PROXY and NO_PROXY")
_CERTIFICATE_FILE = Cause(
    "certificate_file",
    "a file of a certificate or key cannot be read",
    "look at OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY",
)
_LOG = "look at its log"
_KEYS = ("the credentials are not accepted", "look at OTEL_EXPORTER_OTLP_HEADERS")
_BUSY = ("it gets too much", "give it more capacity, or record less (sample_rate)")
_AWAY = ("it is not available", "is it starting, overloaded, or behind a proxy?")
_REFUSES = ("it refuses the request", "is it an OTLP endpoint? look at its log")
_NO_SUCH_PATH = (404, 405)
_STATUSES = {
    401: _KEYS,
    403: _KEYS,
    407: (_PROXY.words, _PROXY.remedy),
    413: ("the request is too large for it", "set OTEL_BSP_MAX_EXPORT_BATCH_SIZE lower"),
    429: _BUSY,
    502: _AWAY,
    503: _AWAY,
    504: _AWAY,
}
"""Of answers over HTTP, words and remedy by status."""
_FAMILIES = {3: ("it redirects, which is not followed", f"set {ENDPOINT} to where it leads"), 5: ("it fails", _LOG)}
_DETAILS = {
    "larger than max": TOO_LARGE,
    "http1": _HTTP_PORT,
    "Failed parsing HTTP/2": _HTTP_PORT,
    "CERTIFICATE_VERIFY_FAILED": _CERTIFICATE,
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "andshake failed": _TLS,
    "Connection refused": REFUSED,
    "esol": _NAME,
    "reset": _RESET,
    "Socket closed": _RESET,
}
"""Of answers over gRPC, by parts of their details: the library says more there than with its codes."""
_CODES = {
    "DEADLINE_EXCEEDED": (TIMEOUT.words, TIMEOUT.remedy),
    "PERMISSION_DENIED": _KEYS,
    "RESOURCE_EXHAUSTED": _BUSY,
    "UNAUTHENTICATED": _KEYS,
    "UNAVAILABLE": _AWAY,
}
_MAX_CHAIN = 20


def cause_of(trying: Attempt, signal: Signal, endpoint: str, *, probes: bool = True) -> Cause:
    """Return the cause of a failed attempt; `endpoint` is what was connected to, and may be probed for 1 s."""
    if trying.rpc is not None:
        return _of_rpc(*trying.rpc, signal)
    if trying.status is not None:
        return _of_status(trying.status, trying.body, signal, endpoint)
    if trying.error is not None:
        return _of_error(trying.error, endpoint if probes else "")
    return Cause("unknown", "the exporter says no more than that", "does it log more by itself?")


def _of_status(status: int, body: bytes, signal: Signal, endpoint: str) -> Cause:
    if b"HTTP request to an HTTPS server" in body:
        return _TLS_PORT
    if status in _NO_SUCH_PATH:
        words = f"nothing takes {signal} at this path (HTTP {status})"
        return Cause(str(status), words, _path_remedy(signal, endpoint))
    words, remedy = _STATUSES.get(status) or _FAMILIES.get(status // 100) or _REFUSES
    return Cause(str(status), f"{words} (HTTP {status})", remedy)


def _path_remedy(signal: Signal, endpoint: str) -> str:
    path = f"/v1/{signal}"
    if urlsplit(endpoint).path.count("/v1/") > 1:
        return f"leave /v1/... out of {ENDPOINT}: {path} is added to it"
    if not urlsplit(endpoint).path.rstrip("/").endswith(path):
        return f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT is the whole address: end it with {path}"
    return _pipeline_remedy(signal)


def _pipeline_remedy(signal: Signal) -> str:
    return f"is it an OTLP endpoint, with a pipeline for {signal}? OTEL_{signal.upper()}_EXPORTER=none sends none"


def _of_rpc(code: str, details: str, signal: Signal) -> Cause:
    for part, cause in _DETAILS.items():
        if part in details:
            return cause
    if code == "UNIMPLEMENTED":
        return Cause(code, f"it takes no {signal} ({code})", _pipeline_remedy(signal))
    words, remedy = _CODES.get(code, ("it answers with an error", "look at its log"))
    return Cause("timeout" if code == "DEADLINE_EXCEEDED" else code, f"{words} ({code})", remedy)


def _of_error(error: BaseException, endpoint: str) -> Cause:
    chain = list(_chain(error))
    names = {type(each).__name__ for each in chain}
    for each in chain:
        found = _of_one(each)
        if found is not None:
            return found
    if "ProxyError" in names:
        return _PROXY
    if any(isinstance(each, (RemoteDisconnected, ConnectionResetError, ConnectionAbortedError)) for each in chain):
        return _silent(endpoint)
    if names & {"ReadTimeout", "ConnectTimeout", "TimeoutError", "timeout", "ReadTimeoutError", "ConnectTimeoutError"}:
        return TIMEOUT
    return Cause(type(error).__name__, f"the attempt fails with {type(error).__name__}", "look at network and address")


def _of_one(error: BaseException) -> Cause | None:  # noqa: PLR0911 - one return a cause
    text = str(error)
    if isinstance(error, ForkedError):
        return FORKED
    if isinstance(error, CertificateFileError):
        return _CERTIFICATE_FILE
    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        line = getattr(error, "line", "")
        return _GRPC_PORT if line.startswith(_HTTP2) else _TLS_PORT if line.startswith(_TLS_ALERT) else _RESET
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE
    if isinstance(error, ssl.SSLError):
        if "NO_APPLICATION_PROTOCOL" in text:
            return _GRPC_PORT
        return _NO_TLS if "WRONG_VERSION" in text or "record layer failure" in text else _TLS
    if isinstance(error, socket.gaierror) or type(error).__name__ == "NameResolutionError":
        return _NAME
    number = getattr(error, "errno", None)
    if number == errno.ECONNREFUSED or isinstance(error, ConnectionRefusedError) or "Connection refused" in text:
        return REFUSED
    return _UNREACHABLE if number in (errno.EHOSTUNREACH, errno.ENETUNREACH) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Find the exceptions within, the innermost first: `requests` and urllib3 keep them as reasons and arguments."""
    seen: dict[int, BaseException] = {}
    waiting: list[object] = [error]
    while waiting and len(seen) < _MAX_CHAIN:
        each = waiting.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen[id(each)] = each
            waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
    return iter(list(seen.values())[::-1])


def _silent(endpoint: str) -> Cause:
    """Look at what a port speaks that met plain HTTP with silence. Takes 1 s at most."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http":
        return _RESET
    for probe, cause in ((_speaks_http2, _GRPC_PORT), (_speaks_tls, _TLS_PORT)):
        try:
            with socket.create_connection((parts.hostname or "localhost", parts.port or 80), _PROBE_S) as connected:
                if probe(connected):
                    return cause
        except (OSError, ValueError):
            continue
    return _RESET


def _speaks_http2(connected: socket.socket) -> bool:
    connected.sendall(_HTTP2_PREFACE)
    return connected.recv(9)[3:4] == _SETTINGS


def _speaks_tls(connected: socket.socket) -> bool:
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    anything.wrap_socket(connected).close()
    return True
