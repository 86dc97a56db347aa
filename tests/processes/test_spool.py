"""The spool, from without: whatever ends a process while the Collector is away, the next start sends what it has left."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter

import pytest

from otel_pipeline.testing import Collector
from tests.collected import fail, names, refused_port

pytestmark = [pytest.mark.once, pytest.mark.skipif(os.name == "nt", reason="POSIX signals")]

KILLS = 200 if os.environ.get("EVERY_LINE") else 4
BEGIN = """
import os, sys, threading, time
import otel_pipeline
from opentelemetry import trace
pipe = otel_pipeline.instrument("app")
tracer = trace.get_tracer("app")

def spans(name, count=100):
    for number in range(count):
        tracer.start_span(f"{name} {number}").end()
"""
NEXT = (
    BEGIN
    + """
tracer.start_span("next").end()
print(pipe.flush(30))
folder, until_s = os.environ["OTEL_PIPELINE_STATE_DIR"] + "/spool", time.monotonic() + 30
while len(os.listdir(folder)) > 2 and time.monotonic() < until_s:
    time.sleep(0.01)
"""
)
SIGNALS_OFF = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.fixture
def run(programs, collector):
    """Run a program that spools; all have one state folder, and one endpoint."""

    def run(source, **environ):
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_PIPELINE_ENVIRONMENT": "staging",
            "OTEL_PIPELINE_STATE_DIR": programs.folder / "state",
            **SIGNALS_OFF,
            **environ,
        }
        return programs.run(source, **variables)

    return run


def made_by(name, count=100):
    """Those that `spans` makes, each once."""
    return Counter(f"{name} {number}" for number in range(count))


LEFT = {
    "return": "spans('main')",
    "sys.exit": "spans('main'); sys.exit(3)",
    "raise": "spans('main'); raise RuntimeError",
    "a daemon thread": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); spans('main')",
    "atexit": "import atexit; atexit.register(spans, 'main')",
    "a thread": "threading.Thread(target=lambda: (time.sleep(0.3), spans('main'))).start()",
    "SIGTERM, handled": (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); spans('main'); "
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    ),
    "os._exit after a flush": "spans('main'); pipe.flush(5); os._exit(0)",
    "exec after a flush": "spans('main'); pipe.flush(5); os.execv(sys.executable, [sys.executable, '-c', ''])",
}


@pytest.mark.parametrize("way", LEFT)
@pytest.mark.parametrize("fault", ["503", "hang"])
def test_however_a_program_is_left_nothing_is_lost(run, collector, way, fault):
    """The next start sends it, each once; afterwards no file is left."""
    fail(collector, fault)
    first = run(BEGIN + LEFT[way])
    before = names(collector)
    collector.recover()
    then = run(NEXT)

    assert before == [], first.err
    assert Counter(names(collector)) == made_by("main") + Counter({"next": 1}), first.err + then.err
    assert list((first.lines.parent.parent / "state" / "spool").iterdir()) == []


CHILDREN = {
    "os.fork": """
child = os.fork()
if child == 0:
    spans("child")
    pipe.flush(5)
    os._exit(0)
os.waitpid(child, 0)
""",
    "multiprocessing": """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=spans, args=("child",))
child.start()
child.join()
""",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", CHILDREN)
def test_children_have_segments_of_their_own(run, collector, kind):
    """While there is nobody to send to, in parent and child."""
    collector.fault("reset")
    first = run(BEGIN + "spans('before')\npipe.flush(5)\n" + CHILDREN[kind] + "spans('after')")
    collector.recover()
    then = run(NEXT)

    expected = made_by("before") + made_by("child") + made_by("after") + Counter({"next": 1})
    assert Counter(names(collector)) == expected, first.err + then.err


def test_what_goes_to_another_place_stays(run, collector):
    """What was to be sent to one Collector is not sent to another one."""
    run(BEGIN + "spans('main')", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{refused_port()}")
    run(NEXT.replace("+ 30", "+ 1"))

    assert names(collector) == ["next"]


def test_without_a_spool_nothing_is_kept(run, collector, programs):
    """`export.spool: off`: what is not taken is lost, and counted."""
    collector.fault(503)
    ran = run(
        BEGIN + "spans('main')\npipe.shutdown(20)\nprint(pipe.status().exports[0].dropped)",
        OTEL_PIPELINE_EXPORT_SPOOL="off",
        OTEL_EXPORTER_OTLP_TIMEOUT=3,
    )

    assert ran.out == "{'503': 100}\n", ran.err
    assert not (programs.folder / "state" / "spool").exists()


WRITES = (
    BEGIN
    + """
import struct
log, number = open("ended", "ab", buffering=0), 0
while True:
    tracer.start_span(str(number)).end()
    log.write(struct.pack("<Qd", number, time.monotonic()))
    number += 1
    time.sleep(0.0005)
"""
)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_a_random_moment(run, collector, programs, seed):
    """All but the newest is there, each once: what was in memory alone."""
    rng = random.Random(seed)
    fail(collector, rng.choice(["503", "reset", "hang", "ok"]))
    (programs.folder / "writes.py").write_text(WRITES)
    ended = programs.folder / "ended"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_PIPELINE_ENVIRONMENT": "staging",
        "OTEL_PIPELINE_STATE_DIR": str(programs.folder / "state"),
        **SIGNALS_OFF,
    }
    with subprocess.Popen([sys.executable, "writes.py"], env=environ, cwd=programs.folder) as killed:
        while not ended.exists() or ended.stat().st_size < 16:
            assert killed.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0.2, 1.0))
        at_s = time.monotonic()
        killed.send_signal(signal.SIGKILL)
    collector.recover()
    then = run(NEXT)

    whole = ended.read_bytes()
    found = struct.iter_unpack("<Qd", whole[: len(whole) // 16 * 16])
    arrived = sorted(int(name) for name in names(collector) if name != "next")
    assert arrived == list(range(len(arrived))), then.err
    missing = [at_s - ended_s for number, ended_s in found if number >= len(arrived)]
    assert max(missing, default=0.0) < 2.0  # 0.1 where the machine has time; the bound is that of a busy one.
