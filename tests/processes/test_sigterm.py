"""SIGTERM: children of multiprocessing hand over, others on request; its exit status and its promptness stay."""

from __future__ import annotations

import os
import signal
import socket

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

POOL = """
import multiprocessing, os, time
import otel_pipeline
pipe = otel_pipeline.instrument("app", environment="production")

def work(number):
    with otel_pipeline.inference(f"model-{{number}}"):
        pass

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(3) as pool:
        pool.map(work, range(20))
        time.sleep(0.1)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_that_is_left_has_all_its_spans(programs, collector, method):
    """`Pool.__exit__` ends its workers by SIGTERM."""
    ran = programs.run(POOL.format(method=method), OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, timeout=90)

    assert (ran.code, ran.err) == (0, "")
    assert collector.spans() == {f"predict model-{number}": 1 for number in range(20)}


ENDED = """
import multiprocessing, os, signal, sys, threading, time
import otel_pipeline

def child(begin, ready):
    pipe = otel_pipeline.instrument("app", environment="production")
    with otel_pipeline.inference("model"):
        pass
    ready.set()
    begin()

def sleep():
    time.sleep(60)

def compute():
    import hashlib  # In C, without the interpreter's lock, and without a look at signals.
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)

def ignore():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    time.sleep(60)

def grandchild():
    "The child of a child ends by a signal of its own, and of its parent nothing is ended."
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
    time.sleep(0.2)
    os.kill(pid, signal.SIGTERM)
    ended = os.waitpid(pid, 0)[1]
    time.sleep(1.5)
    os._exit(100 + ended)

context = multiprocessing.get_context("fork")
ready = context.Event()
process = context.Process(target=child, args=({begin}, ready))
process.start()
ready.wait(30)
time.sleep(0.3)
began = time.monotonic()
if {begin} is not grandchild:
    process.terminate()
process.join(50)
print(process.exitcode, time.monotonic() - began < 5)
"""


@pytest.fixture
def silent():
    """An address that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("begin", "ended"),
    [
        ("sleep", "-15 True"),
        ("compute", "-15 True"),
        ("ignore", "7 True"),
        ("grandchild", "115 True"),
    ],
)
def test_a_child_ends_by_the_signal_whatever_it_does(programs, silent, begin, ended):
    """Within a moment, and with a Collector that hangs: also where its main thread cannot be interrupted."""
    ran = programs.run(ENDED.format(begin=begin), OTEL_EXPORTER_OTLP_ENDPOINT=silent, timeout=90)

    assert (ran.code, ran.out) == (0, f"{ended}\n"), ran.err


ASKED = """
import os, signal, sys, time
{before}
import otel_pipeline
pipe = otel_pipeline.instrument("app", environment="production")
with otel_pipeline.inference("model"):
    pass
{after}
print(sorted(problem for problem in pipe.status().problems if "sigterm" in problem))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""
OWN = "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"
NO_EFFECT = (
    "export.on_sigterm: flush has no effect: SIGTERM is the application's already, or instrument() was not called in the "
    "main thread"
)


@pytest.mark.parametrize(
    ("variables", "before", "after", "code", "spans", "said"),
    [
        ({}, "", "", -signal.SIGTERM, {}, []),
        ({"OTEL_PIPELINE_EXPORT_ON_SIGTERM": "flush"}, "", "", -signal.SIGTERM, {"predict model": 1}, []),
        ({"OTEL_PIPELINE_EXPORT_ON_SIGTERM": "flush"}, OWN, "", 7, {}, [NO_EFFECT]),
        ({"OTEL_PIPELINE_EXPORT_ON_SIGTERM": "flush"}, "", OWN, 7, {}, []),
        ({"OTEL_PIPELINE_EXPORT_ON_SIGTERM": "flush"}, "", "pipe.shutdown()", -15, {"predict model": 1}, []),
    ],
    ids=["default", "flush", "the application was first", "the application comes later", "shut down"],
)
def test_other_processes_hand_over_on_request(programs, collector, variables, before, after, code, spans, said):
    """Where the application leaves the signal at its default; the status is the signal's."""
    ran = programs.run(
        ASKED.format(before=before, after=after),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_BSP_SCHEDULE_DELAY=60_000,
        **variables,
    )

    assert (ran.code, collector.spans(), ran.out) == (code, spans, f"{said}\n"), ran.err


HOLDS = """
import os, signal, threading, time
import otel_pipeline
pipe = otel_pipeline.instrument("app", environment="production")
lock = threading.Lock()

def read():
    with lock:
        return []

pipe._engine.producers.append(read)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_lock_of_the_clients_that_the_interrupted_thread_holds(programs, collector):
    """The last verdict asks clients for what is open: it must not be waited for by the thread that has the lock."""
    ran = programs.run(
        HOLDS,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_PIPELINE_EXPORT_ON_SIGTERM="flush",
        timeout=30,
    )

    assert (ran.code, "Traceback" in ran.err) == (-signal.SIGTERM, False), ran.err
