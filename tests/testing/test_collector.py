"""The Collector that fails on request: what arrives is kept, each fault is what its name says, over HTTP and gRPC."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_pipeline.testing import Collector, CollectorError
from otel_pipeline.testing.collector_faults import KINDS
from tests.collected import CERTIFICATE, names

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8").partition("## A Collector that fails")[2]
TIMEOUT_S = 20


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


def spans(*names):
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add().scope_spans.add()
    for number, name in enumerate(names):
        group.spans.add(name=name, trace_id=b"1" * 16, span_id=bytes([number]) * 8)
    return made.SerializeToString()


def post(collector, body=None, path="/v1/traces", timeout=TIMEOUT_S):
    """The answer's status, body and headers; or the name of what a client finds."""
    connection = http.client.HTTPConnection(urlsplit(collector.endpoint).netloc, timeout=timeout)
    try:
        connection.request("POST", path, spans("a") if body is None else body)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def came(collector, **more):
    found = post(collector, **more)
    return found if isinstance(found, str) else found[0]


def test_what_arrives_is_kept(collector):
    """Of each signal, as plain records, and as it came."""
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "hello"
    metrics = ExportMetricsServiceRequest()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="sent")
    metric.sum.data_points.add(as_int=3)
    post(collector, spans("a", "b"))
    post(collector, logs.SerializeToString(), "/v1/logs")
    post(collector, metrics.SerializeToString(), "/v1/metrics")

    assert (names(collector), [each.body for each in collector.logs()]) == (["a", "b"], ["hello"])
    assert [(each.name, each.points[0].value) for each in collector.metrics()] == [("sent", 3)]
    assert [each.path for each in collector.requests] == ["/v1/traces", "/v1/logs", "/v1/metrics"]
    assert collector.arrived == collector.requests


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_what_is_packed_is_unpacked(collector, packed):
    connection = http.client.HTTPConnection(urlsplit(collector.endpoint).netloc, timeout=TIMEOUT_S)
    encoding = "gzip" if packed is gzip.compress else "deflate"
    connection.request("POST", "/v1/traces", packed(spans("a")), {"Content-Encoding": encoding})
    assert connection.getresponse().status == 200
    connection.close()

    assert collector.arrived[0].body == spans("a")


@pytest.mark.parametrize(("body", "path"), [(b"\xff\xff", "/v1/traces"), (b"", "/v1/profiles")])
def test_what_is_no_telemetry_is_refused(collector, body, path):
    assert (came(collector, body=body, path=path), collector.arrived) == (400, [])


ENDS = {"hang": "TimeoutError", "reset": "ConnectionResetError", "close": "RemoteDisconnected"}
"""What a client finds that waits for a moment."""


@pytest.mark.parametrize(("kind", "found"), ENDS.items())
def test_a_connection_that_ends(collector, kind, found):
    """Nothing has arrived; afterwards all is well."""
    with collector.fault(kind) as fault:
        assert came(collector, timeout=0.3) == found
        assert (fault.met, names(collector)) == (1, [])

    assert (came(collector), names(collector)) == (200, ["a"])


def test_nobody_listens(collector):
    """Who is connected is thrown out; it comes back at the same address."""
    kept = http.client.HTTPConnection(urlsplit(collector.endpoint).netloc, timeout=TIMEOUT_S)
    kept.request("POST", "/v1/traces", spans("kept"))
    assert kept.getresponse().read() == b""
    endpoint = collector.endpoint
    with collector.fault("refuse"):
        assert came(collector) == "ConnectionRefusedError"
        assert kept.sock.recv(1) == b""
    kept.close()

    assert (collector.endpoint, came(collector), names(collector)) == (endpoint, 200, ["kept", "a"])


@pytest.mark.parametrize("status", [200, 202, 302, 400, 401, 404, 413, 429, 500, 503, 599])
def test_any_status(collector, status):
    """What is 2xx has arrived."""
    collector.fault(status, retry_after=7, body=b"said")
    found, body, headers = post(collector)

    assert (found, body, headers["Retry-After"]) == (status, b"said", "7")
    assert names(collector) == (["a"] if status < 300 else [])


def test_a_redirect(collector):
    collector.fault("redirect", to="http://elsewhere.invalid/")

    assert (post(collector)[0], post(collector)[2]["Location"]) == (302, "http://elsewhere.invalid/")


def test_slow_and_let_go(collector):
    """It has arrived before it is answered; the end of the fault answers what waits."""
    fault, found = collector.fault("slow", seconds=3600), []
    asking = threading.Thread(target=lambda: found.append(came(collector)))
    asking.start()
    while not collector.arrived:
        assert asking.is_alive()
    assert found == []
    fault.end()
    asking.join()

    assert (found, names(collector)) == ([200], ["a"])


def test_a_drip(collector):
    """Byte by byte, to the end."""
    collector.fault("drip", bytes_per_second=2000)
    with socket.create_connection(("127.0.0.1", urlsplit(collector.endpoint).port), TIMEOUT_S) as connection:
        body = spans("a")
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        parts = []
        while part := connection.recv(1000):
            parts.append(part)

    assert b"".join(parts) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert len(parts) > 5


def test_a_huge_answer(collector):
    """As long as somebody reads it."""
    collector.fault("huge", size=10_000_000)
    connection = http.client.HTTPConnection(urlsplit(collector.endpoint).netloc, timeout=TIMEOUT_S)
    connection.request("POST", "/v1/traces", spans("a"))
    answer = connection.getresponse()

    assert (answer.status, answer.headers["Content-Length"], len(answer.read())) == (200, "10000000", 10_000_000)
    connection.close()


@pytest.mark.parametrize(("rejected", "left"), [(0, ["a", "b", "c"]), (2, ["a"]), (5, [])])
def test_a_partial_success(collector, rejected, left):
    """What it has rejected has not arrived."""
    collector.fault("partial", rejected=rejected, message="no such tenant")
    answer = ExportTraceServiceResponse.FromString(post(collector, spans("a", "b", "c"))[1])

    assert answer.partial_success.rejected_spans == min(rejected, 3)
    assert (answer.partial_success.error_message, names(collector)) == ("no such tenant", left)


def test_too_large(collector):
    collector.fault("too_large", items=2)

    assert [came(collector, body=spans(*"abc"[:count])) for count in (1, 2, 3)] == [200, 200, 413]


def test_which_requests_it_meets(collector):
    """Of one signal, that something is in, so many."""
    collector.fault(503, signal="logs")
    collector.fault(400, when=lambda request: b"poison" in request.body, times=2)

    assert [came(collector, body=spans(name)) for name in ("a", "poison", "b", "poison", "poison")] == [
        *(200, 400, 200),
        *(400, 200),
    ]
    assert came(collector, body=b"", path="/v1/logs") == 503


def test_which_of_several_acts(collector):
    """Those that are for so many requests in their order; then the last one."""
    collector.fault(500)
    collector.fault(503)
    collector.fault(429, times=2)
    collector.fault(413, times=1)
    assert [came(collector) for _ in range(5)] == [429, 429, 413, 503, 503]

    collector.recover()
    assert came(collector) == 200


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("explode", {}, "'explode': it is one of refuse, hang, reset, close, slow, drip, redirect, huge, partial, "),
        (199, {}, "199: a status that a server ends a request with is 200 to 599"),
        (600, {}, "600: a status"),
        (True, {}, "True: it is one of"),
        (503, {"seconds": 1}, "seconds: status takes retry_after and body"),
        ("hang", {"seconds": 1}, "seconds: hang takes nothing beside its name"),
        (503, {"retry_after": 1.5}, "retry_after=1.5: it is int or str"),
        ("slow", {"seconds": -1}, "seconds=-1: it is at least 0"),
        ("drip", {"bytes_per_second": 0}, "bytes_per_second=0: it is more than 0"),
        ("hang", {"signal": "spans"}, "signal='spans': it is one of traces, metrics, logs"),
        ("hang", {"times": 0}, "times=0: it is a number from 1, or None"),
        ("refuse", {"times": 1}, "refuse: who is not let in cannot be told apart by signal, when or times"),
    ],
)
def test_what_is_no_fault_is_said(collector, kind, options, said):
    """And nothing has changed."""
    with pytest.raises(CollectorError) as raised:
        collector.fault(kind, **options)

    assert str(raised.value).startswith(said)
    assert came(collector) == 200


def test_a_name_that_it_does_not_have_is_said(collector):
    with pytest.raises(CollectorError, match=r"Collector\(grpc=True\)"):
        _ = collector.grpc_endpoint


def test_what_something_else_keeps():
    """Nothing stays here."""
    kept = []
    with Collector(keep=kept.append) as collector:
        post(collector)
        assert (collector.requests, collector.spans()) == ([], [])

    assert [each.body for each in kept] == [spans("a")]


def test_over_tls():
    with Collector(certificate=CERTIFICATE) as collector:
        context = ssl.create_default_context(cafile=str(CERTIFICATE))
        connection = http.client.HTTPSConnection(
            urlsplit(collector.endpoint).netloc, timeout=TIMEOUT_S, context=context
        )
        connection.request("POST", "/v1/traces", spans("a"))
        assert (collector.endpoint.partition(":")[0], connection.getresponse().status) == ("https", 200)
        connection.close()

    assert names(collector) == ["a"]


@pytest.fixture
def both():
    with Collector(grpc=True) as made:
        yield made


def call(collector, body=None, timeout=TIMEOUT_S):
    """OK, or the code of gRPC."""
    with grpc.insecure_channel(collector.grpc_endpoint.removeprefix("http://")) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        try:
            return export(spans("a") if body is None else body, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name


def test_over_grpc(both):
    """To the same Collector."""
    assert (call(both), came(both), names(both)) == (b"", 200, ["a", "a"])
    assert call(both, b"\xff") == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("kind", "code"),
    [(400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")]
    + [(each, "UNAVAILABLE") for each in ("reset", "close", "refuse")]
    + [("hang", "DEADLINE_EXCEEDED"), (418, "UNKNOWN"), ("slow", b""), ("drip", b"")],
)
def test_faults_over_grpc(both, kind, code):
    """The status that OTLP has in its place."""
    with both.fault(kind, **({"seconds": 0} if kind == "slow" else {})):
        assert call(both, timeout=1) == code

    assert call(both) == b""


def test_what_is_asked_to_wait_over_grpc(both):
    """It stands in the details of the status, as OTLP has it."""
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    both.fault(429, retry_after=7)
    with grpc.insecure_channel(both.grpc_endpoint.removeprefix("http://")) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.RpcError) as raised:
            export(spans("a"), timeout=TIMEOUT_S)
    status = Status.FromString(dict(raised.value.trailing_metadata())["grpc-status-details-bin"])
    info = RetryInfo()

    assert (status.code, status.details[0].Unpack(info), info.retry_delay.seconds) == (8, True, 7)


def test_it_ends_with_all_that_hangs():
    """No thread stays."""
    before = threading.active_count()
    with Collector() as collector:
        collector.fault("hang")
        asking = threading.Thread(target=came, args=(collector,))
        asking.start()
        while not collector.requests:
            assert asking.is_alive()
    asking.join(TIMEOUT_S)

    assert (asking.is_alive(), threading.active_count() <= before + 1) == (False, True)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux")
def test_no_descriptor_stays():
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for kind in ("reset", "close", 503, "refuse"):
        with Collector() as collector, collector.fault(kind):
            came(collector)

    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before + 1


def test_the_code_on_the_page(tmp_path):
    """Word for word."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.partition("\n## ")[0], re.DOTALL)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ran = subprocess.run(
        [sys.executable, "-c", source],
        env={**clean, "OTEL_PIPELINE_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr


def test_the_page_has_all_kinds():
    assert [kind for kind in KINDS if f'"{kind}"' not in PAGE] == []
