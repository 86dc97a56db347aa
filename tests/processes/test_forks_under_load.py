"""A process forks while its threads export all the time: no request is torn, and no child hangs, dies or loses anything."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.testing import Collector

pytestmark = [pytest.mark.once, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")]

FORKS = 500 if os.environ.get("EVERY_LINE") else 60
SENDS = """
import os, threading, time
import otel_pipeline
from opentelemetry import trace
pipe = otel_pipeline.instrument("app", environment="production")
tracer, over, ended = trace.get_tracer("app"), threading.Event(), [0, 0, 0]

def spans(name, count):
    for _ in range(count):
        tracer.start_span(name, attributes={"text": name * 200}).end()

def load(number):
    while not over.wait(0.001):
        spans("parent", 5)
        ended[number] += 5
        pipe.flush(20)
"""
FORKING = """
from otel_pipeline.export import grpc_calls
grpc_calls.QUIET_S = 20  # On a busy machine a call takes longer than a fork waits elsewhere.
threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
children, bad = [], 0
for number in range(int(os.environ["FORKS"])):
    child = os.fork()
    if child == 0:
        spans("child", 5)
        os._exit(0 if pipe.flush(20) else 1)
    children.append(child)
    if len(children) == 8:
        bad += os.waitpid(children.pop(0), 0)[1] != 0
for child in children:
    bad += os.waitpid(child, 0)[1] != 0
over.set()
for thread in threads:
    thread.join()
print(os.getpid(), sum(ended), bad, pipe.flush(20))
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_every_request_is_whole(programs, protocol):
    """All spans of a resource are one process's, under its own name; all that was recorded arrives."""
    variables = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "FORKS": FORKS}
    with Collector(grpc=True) as collector:
        ran = programs.run(
            SENDS + FORKING,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.grpc_endpoint if protocol == "grpc" else collector.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            timeout=240,
            **variables,
        )
        found, mixed = Counter(), []
        for request in collector.requests:
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
                pid = next(each.value.int_value for each in resource.resource.attributes if each.key == "process.pid")
                names = {span.name for scope in resource.scope_spans for span in scope.spans}
                mixed += [names] * (len(names) > 1)
                found[pid, "".join(names)] += sum(len(scope.spans) for scope in resource.scope_spans)
    parent, sent, bad, flushed = ran.out.split()
    of_children = {key: count for key, count in found.items() if key[0] != int(parent)}

    assert (ran.code, bad, flushed, mixed) == (0, "0", "True", []), ran.err
    assert found[int(parent), "parent"] == int(sent)
    assert Counter((name, count) for (_, name), count in of_children.items()) == {("child", 5): FORKS}, ran.err


HANGING = """
import socket, sys
spans("parent", 600)
while pipe.status().exports[0].queued == 0:
    time.sleep(0.01)
taken, _ = listening.accept()
while not taken.recv(1):
    pass
child = os.fork()
if child == 0:
    spans("child", 5)
    flushed = pipe.flush(20)
    print(flushed, [str(each.last_error) for each in pipe.status().exports if each.signal == "traces"])
    sys.exit(3)
_, status = os.waitpid(child, 0)
os._exit(os.waitstatus_to_exitcode(status))
"""


def test_a_child_of_a_call_that_hangs_says_what_to_do(programs):
    """Its own end is not held up by it."""
    ran = programs.run(
        "import socket, os\nlistening = socket.create_server(('127.0.0.1', 0))\n"
        "os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = f'http://127.0.0.1:{listening.getsockname()[1]}'\n"
        + SENDS
        + HANGING,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )

    assert (ran.code, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or start processes by spawn" in ran.err) == (3, True)
    assert ran.err.count("forked in the middle of a call") == 1
