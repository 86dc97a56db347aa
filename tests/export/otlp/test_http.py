"""What is sent over HTTP, and what comes of each answer that a server gives, or does not."""

from __future__ import annotations

import gzip
import os
import random
import socket
import ssl
import struct
import threading
import time
import zlib
from email.utils import formatdate

import pytest

from otel_pipeline.export.collector_clock import Answers
from otel_pipeline.export.otlp import http
from otel_pipeline.export.otlp.http import Outcome, Transport, compressed
from otel_pipeline.export.otlp.variables import HttpSettings, read
from tests.collected import CERTIFICATE, refused_port
from tests.limits import below_at_above


class Scripted:
    """A server that answers each request with what is next in its script, then with 200: bytes, or a function of the
    connection that returns whether it goes on.
    """

    def __init__(self, *script, tls=None):
        self.script = list(script)
        self.requests = []
        """Head and body of each."""
        self.connections = 0
        self.released = threading.Event()
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1/traces"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
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
            if self._tls is not None:
                connected = self._tls.wrap_socket(connected, server_side=True)
            with connected, connected.makefile("rb") as stream:
                while (head := self._head(stream)) and self._answer(connected, head, stream):
                    pass
        except OSError:
            connected.close()

    def _head(self, stream):
        lines = []
        while line := stream.readline().rstrip(b"\r\n"):
            lines.append(line.decode("latin-1"))
        return lines

    def _answer(self, connected, head, stream):
        sizes = [int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:")]
        self.requests.append((head, stream.read(sizes[0] if sizes else 0)))
        answer = self.script.pop(0) if self.script else answered(200)
        if callable(answer):
            return answer(connected, self)
        connected.sendall(answer)
        return b"close" not in answer.lower()


def answered(status, body=b"", **headers):
    lines = [f"HTTP/1.1 {status} Reason", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def ends(_connected, _server):
    return False


def resets(connected, _server):
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def hangs(_connected, server):
    server.released.wait(30)
    return False


def then_ends(data):
    def answer(connected, _server):
        connected.sendall(data)
        return False

    return answer


def drips(beginning):
    """Then a byte each 20 ms, for ever."""

    def answer(connected, server):
        connected.sendall(beginning)
        while not server.released.wait(0.02):
            connected.sendall(b"x")
        return False

    return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.01)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


PARTIAL = b"\x0a\x0a\x08\x02\x12\x06no\x1bway"
NEXT_YEAR = formatdate(time.time() + 31_536_000, usegmt=True)
LAST_YEAR = formatdate(time.time() - 31_536_000, usegmt=True)
OVER = {
    # name: what comes, and then: the last status or error, how many requests it took.
    "200": ([answered(200)], 200, 1),
    "202": ([answered(202)], 202, 1),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, 1),
    "200 with a body of its own kind": ([answered(200, b"<html>", Content_Type="text/html")], 200, 1),
    "200 in chunks": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"], 200, 1),
    "200 in torn chunks": ([then_ends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab")], 200, 1),
    "200 shorter than it says": ([then_ends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nab")], 200, 1),
    "200 of HTTP/1.0": ([then_ends(b"HTTP/1.0 200 OK\r\n\r\nab")], 200, 1),
    "200 after 100": ([b"HTTP/1.1 100 Continue\r\n\r\n" + answered(200)], 200, 1),
    "200 that is closed": ([answered(200, Connection="close")], 200, 1),
    "200 and 500 MB": ([then_ends(b"HTTP/1.1 200 OK\r\nContent-Length: 500000000\r\n\r\n" + b"x" * 300_000)], 200, 1),
    "200 whose body drips": ([drips(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")], 200, 1),
    **{str(status): ([answered(status)], status, 1) for status in (400, 401, 403, 404, 405, 408, 413, 415, 500, 501)},
    **{
        str(status): ([answered(status, Location="http://127.0.0.1:9/")], status, 1)
        for status in (301, 302, 303, 307, 308)
    },
    **{f"{status}, then 200": ([answered(status)], 200, 2) for status in (429, 502, 503, 504)},
    "503 three times": ([answered(503)] * 3, 200, 4),
    "Retry-After: 0": ([answered(429, Retry_After="0")], 200, 2),
    "Retry-After: -5": ([answered(429, Retry_After="-5")], 200, 2),
    "Retry-After: 3600": ([answered(429, Retry_After="3600")], 429, 1),
    "Retry-After: a date that has been": ([answered(503, Retry_After=LAST_YEAR)], 200, 2),
    "Retry-After: a date far off": ([answered(503, Retry_After=NEXT_YEAR)], 503, 1),
    "Retry-After: no date": ([answered(503, Retry_After="soon")], 200, 2),
    "Retry-After: 5,000 digits": ([answered(503, Retry_After="9" * 5000)], 200, 2),
    "Retry-After on 500": ([answered(500, Retry_After="0")], 500, 1),
    "no answer": ([ends], 200, 2),
    "a reset": ([resets], 200, 2),
    "another protocol": ([then_ends(b"SSH-2.0-server\r\n")], "BadStatusLine", 1),
    "half a status line": ([then_ends(b"HTTP/1.1 2")], "BadStatusLine", 1),
    "HTTP/2": ([then_ends(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\r\n")], "BadStatusLine", 1),
    "200 headers": ([b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"], "HTTPException", 1),
    "a header of 100 kB": ([b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n"], "LineTooLong", 1),
}
LATE = {
    "hangs": hangs,
    "hangs after a part": lambda connected, server: (connected.sendall(b"HTTP/1.1 2"), hangs(connected, server))[1],
    "its status drips": drips(b"HTTP/1.1 200 "),
    "its headers drip": drips(b"HTTP/1.1 200 OK\r\na: "),
}


def came(outcome):
    return outcome.status if outcome.error is None else type(outcome.error).__name__


@pytest.mark.parametrize("name", OVER)
def test_what_comes_of_an_answer(name, monkeypatch):
    """It is taken or not, and tried again where OTLP asks for it."""
    monkeypatch.setattr("otel_pipeline.export.otlp.connection.MAX_ANSWER_S", 0.2)
    script, expected, requests = OVER[name]
    with Scripted(*script) as server:
        outcome = Transport(HttpSettings(server.url)).post(b"body", 20)

    assert (came(outcome), outcome.is_taken, len(server.requests)) == (expected, expected in range(200, 300), requests)
    assert len(outcome.body) <= 65_536


@pytest.mark.parametrize("name", LATE)
def test_what_never_comes_ends_at_the_deadline(name):
    """However a server spends the time."""
    with Scripted(LATE[name]) as server:
        outcome = Transport(HttpSettings(server.url)).post(b"body", 0.3)

    assert (came(outcome), len(server.requests)) == ("TimeoutError", 1)


def test_the_applications_random_numbers_are_its_own():
    """Whoever seeds the shared generator has the same numbers each time, whatever we wait for meanwhile."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    with Scripted(answered(503), answered(503)) as server:
        assert Transport(HttpSettings(server.url)).post(b"", 20).is_taken

    assert (len(server.requests), random.random()) == (3, expected)


def test_nobody_listens():
    """It is tried until there is no time for another wait."""
    tried = []
    outcome = Transport(HttpSettings(f"http://127.0.0.1:{refused_port()}"), tried=tried.append).post(b"", 0.3)

    assert came(outcome) == "ConnectionRefusedError"
    assert tried[-1] is outcome
    assert len(tried) > 2


def test_one_try_for_who_waits_himself():
    with Scripted(answered(503, Retry_After="7")) as server:
        outcome = Transport(HttpSettings(server.url)).once(b"body", 20)

    assert (outcome.status, outcome.retry_after_s, outcome.may_pass_later) == (503, 7.0, True)
    assert len(server.requests) == 1


def test_what_a_server_rejects():
    with Scripted(answered(200, PARTIAL)) as server:
        assert Transport(HttpSettings(server.url)).post(b"").rejected == (2, "no?way")
    assert Outcome(400, PARTIAL).rejected == (0, "")


def test_a_wait_ends_when_the_transport_is_closed():
    """The program is ending."""
    transport = None
    with Scripted(answered(503, Retry_After="3")) as server:
        transport = Transport(HttpSettings(server.url), tried=lambda _outcome: transport.close())
        before = time.monotonic()
        outcome = transport.post(b"", 60)

    assert (outcome.status, time.monotonic() - before < 3) == (503, True)


def test_connections_are_kept():
    """Until a server ends one, also while it waits: then there is another, and nothing is lost."""
    with Scripted(answered(200), answered(200, Connection="close"), answered(200), answered(200)) as server:
        transport = Transport(HttpSettings(server.url))
        found = [transport.post(b"").status for _ in range(4)]

    assert (found, server.connections, len(server.requests)) == ([200] * 4, 2, 4)


def test_a_kept_connection_that_a_server_has_ended():
    """Which only shows when it is used."""

    def answers_once(connected, _server):
        connected.sendall(answered(200))
        return False

    with Scripted(answers_once, answers_once) as server:
        tried = []
        transport = Transport(HttpSettings(server.url), tried=tried.append)
        assert [transport.post(b"").status for _ in range(2)] == [200, 200]

    assert (len(tried), server.connections) == (2, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("hooks", [True, False])
def test_a_forked_child_has_a_connection_of_its_own(hooks):
    """With hooks, and where a host runs none."""
    with Scripted() as server:
        transport = Transport(HttpSettings(server.url))
        transport.post(b"parent")
        kept = transport._kept
        child = os.fork()
        if child == 0:
            if not hooks:
                transport._kept = kept
            os._exit(0 if transport.post(b"child").status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert transport.post(b"parent").status == 200

    assert (server.connections, [gzip.decompress(body) for _, body in server.requests]) == (
        2,
        [b"parent", b"child", b"parent"],
    )


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_a_request(compression):
    """Headers, path and query; the body as it says."""
    settings = {"content-type": "application/x-protobuf", "tenant": "a"}
    with Scripted() as server:
        address = f"http://user:pass%20word@127.0.0.1:{server.port}/v1/traces?a=b"
        given = HttpSettings(address, settings, compression=compression)
        assert Transport(given).post(b"body" * 100).is_taken

    ((head, body),) = server.requests
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, "none": bytes}[compression]
    packed = [] if compression == "none" else [f"content-encoding: {compression}"]
    assert unpack(body) == b"body" * 100
    assert head == [
        "POST /v1/traces?a=b HTTP/1.1",
        f"host: 127.0.0.1:{server.port}",
        "content-type: application/x-protobuf",
        "tenant: a",
        *packed,
        f"content-length: {len(body)}",
    ]


def test_the_same_bytes_are_packed_alike():
    """No time stands in it."""
    assert compressed(b"a" * 1000, "gzip") == compressed(b"a" * 1000, "gzip")
    assert len(compressed(b"a" * 1000, "gzip")) < 50


def test_several_threads():
    """Each request has its answer."""
    with Scripted() as server:
        transport = Transport(HttpSettings(server.url))
        found = []
        threads = [
            threading.Thread(target=lambda: found.extend(transport.post(b"").status for _ in range(20)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (found, len(server.requests)) == ([200] * 80, 80)


@below_at_above("export.otlp.http._MAX_KEPT", 2, 1, 2, 2)
def test_so_many_connections_are_kept(size, outcome):
    """Of those that answered at the same time."""
    together = threading.Barrier(size)

    def waits(connected, _server):
        together.wait(20)
        connected.sendall(answered(200))
        return True

    with Scripted(*[waits] * size) as server:
        transport = Transport(HttpSettings(server.url))
        threads = [threading.Thread(target=transport.post, args=(b"",)) for _ in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(transport._kept) == outcome
        transport.close()


def test_the_clock_of_who_answers():
    heard = []
    answers = Answers()
    answers.listener = lambda *times: heard.append(times)
    with Scripted(answered(200, Date="Sun, 06 Nov 1994 08:49:37 GMT")) as server:
        Transport(HttpSettings(server.url), answers).post(b"")

    ((sent_s, received_s, date_s),) = heard
    assert (sent_s <= received_s, date_s) == (True, 784111777.0)


def server_context(*, asks=False):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    if asks:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(CERTIFICATE)
    return made


def test_tls_with_a_certificate_for_both_sides():
    """Without the client's, that server takes nothing."""
    trusted = str(CERTIFICATE)
    with Scripted(tls=server_context(asks=True)) as server:
        named = HttpSettings(server.url, certificate=trusted, client_certificate=trusted, client_key=trusted)
        transport = Transport(named)
        assert [transport.post(b"", 20).status for _ in range(2)] == [200, 200]
        assert server.connections == 1
        transport.close()
        assert not Transport(HttpSettings(server.url, certificate=trusted)).post(b"", 0.3).is_taken


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "SSLCertVerificationError"),
        ({"certificate": "/no/such/file"}, "CertificateFileError"),
        ({"certificate": __file__}, "CertificateFileError"),
        ({"certificate": str(CERTIFICATE), "client_certificate": __file__}, "CertificateFileError"),
    ],
)
def test_certificates_that_are_not_trusted_or_none(settings, error):
    """It is not tried again."""
    tried = []
    with Scripted(tls=server_context()) as server:
        outcome = Transport(HttpSettings(server.url, **settings), tried=tried.append).post(b"", 20)

    assert (came(outcome), len(tried)) == (error, 1)


def test_through_a_proxy():
    """The whole address is asked for, with the proxy's own credentials."""
    with Scripted() as proxy:
        given = HttpSettings(
            "http://collector.example:4318/v1/traces", proxy=f"http://user:word@127.0.0.1:{proxy.port}"
        )
        assert Transport(given).post(b"").is_taken

    assert proxy.requests[0][0][:3] == [
        "POST http://collector.example:4318/v1/traces HTTP/1.1",
        "host: collector.example:4318",
        "content-encoding: gzip",
    ]
    assert "proxy-authorization: Basic dXNlcjp3b3Jk" in proxy.requests[0][0]


def test_tls_through_a_proxys_tunnel():
    """The proxy sees the name alone."""
    with Scripted(tls=server_context()) as server:

        def tunnels(connected, _server):
            behind = socket.create_connection(("127.0.0.1", server.port))
            connected.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(behind, connected), daemon=True)
            back.start()
            pump(connected, behind)
            back.join(5)
            return False

        with Scripted(tunnels) as proxy:
            transport = Transport(
                HttpSettings(server.url, proxy=f"http://127.0.0.1:{proxy.port}", certificate=str(CERTIFICATE))
            )
            found = [transport.post(b"", 20).status for _ in range(2)]
            transport.close()

    assert (found, proxy.requests[0][0][0]) == ([200, 200], f"CONNECT 127.0.0.1:{server.port} HTTP/1.1")


def pump(of, to):
    try:
        while part := of.recv(65_536):
            to.sendall(part)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        to.close()


@pytest.mark.parametrize("answer", [answered(407), answered(503), then_ends(b"")])
def test_a_proxy_that_lets_nothing_pass(answer):
    with Scripted(answer) as proxy:
        given = HttpSettings("https://collector.example/v1/traces", proxy=f"http://127.0.0.1:{proxy.port}")
        outcome = Transport(given).once(b"", 20)

    assert came(outcome) in {"ProxyError", "RemoteDisconnected"}


def test_a_proxy_that_is_not_there():
    given = HttpSettings("https://collector.example/v1/traces", proxy=f"http://127.0.0.1:{refused_port()}")

    assert came(Transport(given).once(b"", 20)) == "ProxyError"


E_ = "OTEL_EXPORTER_OTLP_"


def test_the_variables():
    """A signal's own before those of all."""
    environ = {
        E_ + "HEADERS": "tenant=a,authorization=Bearer%20b",
        E_ + "TIMEOUT": "3",
        E_ + "COMPRESSION": "none",
        E_ + "TRACES_COMPRESSION": "deflate",
        E_ + "CERTIFICATE": "/ca",
        E_ + "TRACES_CLIENT_CERTIFICATE": "/client",
        E_ + "CLIENT_KEY": "/key",
        "HTTPS_PROXY": "proxy:1",
    }
    found = read("traces", "https://user:word@collector.example/v1/traces", loopback=False, environ=environ)

    assert found == HttpSettings(
        "https://user:word@collector.example/v1/traces",
        found.headers,
        3.0,
        "deflate",
        "/ca",
        "/client",
        "/key",
        "http://proxy:1",
    )
    assert {name: found.headers[name] for name in ("tenant", "authorization", "content-type")} == {
        "tenant": "a",
        "authorization": "Bearer b",
        "content-type": "application/x-protobuf",
    }
    assert "word" not in repr(found)
    assert "Bearer" not in repr(found)


def test_without_variables():
    found = read("traces", "http://u:p@collector.example/v1/traces", loopback=False, environ={})

    assert (found.timeout_s, found.compression, found.proxy, found.certificate) == (10.0, "gzip", None, None)
    assert found.headers["authorization"] == "Basic dTpw"
    assert found.headers["user-agent"].startswith("otel_pipeline/")


@pytest.mark.parametrize(("given", "expected"), [("", 10.0), ("x", 10.0), ("0", 10.0), ("-1", 10.0), ("2.5", 2.5)])
def test_a_timeout(given, expected):
    environ = {E_ + "TIMEOUT": given}

    assert read("logs", "http://c/v1/logs", loopback=False, environ=environ).timeout_s == expected


@pytest.mark.parametrize(("given", "expected"), [("GZIP", "gzip"), (" none ", "none"), ("zstd", "none"), ("", "gzip")])
def test_a_compression(given, expected):
    environ = {E_ + "COMPRESSION": given}

    assert read("logs", "http://c/v1/logs", loopback=False, environ=environ).compression == expected


def test_a_header_cannot_break_a_line():
    environ = {E_ + "HEADERS": "a=b%0d%0aInjected:%201,e%0d%0aInjected=1,c=d"}
    found = read("logs", "http://c/v1/logs", loopback=False, environ=environ).headers

    assert ("a" in found, any("\n" in name for name in found), found["c"]) == (False, False, "d")


@pytest.mark.parametrize(
    ("endpoint", "environ", "expected"),
    [
        ("http://c:1/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://c:1/", {"http_proxy": "http://q:1", "HTTP_PROXY": "http://p:1"}, "http://q:1"),
        ("https://c:1/", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://c:1/", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("http://c:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "c"}, None),
        ("http://a.c:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "x, .c"}, None),
        ("http://c:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "c:2"}, "http://p:1"),
        ("http://c:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://10.1.2.3:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, None),
        ("http://11.1.2.3:1/", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,x"}, "http://p:1"),
        ("http://c:1/", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
    ],
)
def test_which_proxy(endpoint, environ, expected):
    assert read("traces", endpoint, loopback=False, environ=environ).proxy == expected
    assert read("traces", endpoint, loopback=True, environ=environ).proxy is None


@pytest.mark.parametrize("endpoint", ["", "c:4318", "ftp://c", "http://", "http://c:99999/", "http://c:x/", "//c"])
def test_an_endpoint_that_is_none(endpoint):
    """It is said without quoting it: a password may be in it."""
    with pytest.raises(ValueError, match="its endpoint is no address"):
        HttpSettings(endpoint)


@pytest.mark.parametrize("proxy", ["https://p:1", "socks5://p:1", "http://p:x"])
def test_a_proxy_that_is_none(proxy):
    with pytest.raises(ValueError, match="its proxy is no address"):
        HttpSettings("http://c:1", proxy=proxy)
