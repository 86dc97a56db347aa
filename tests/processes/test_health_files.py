"""`otel-pipeline health` beside running processes: they live, hang, die, fork and leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from otel_pipeline.cli.main import main
from otel_pipeline.config.state_folder import health_folder
from otel_pipeline.verdict.report import SCHEMA
from tests.limits import below_at_above

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

APP = """
import os, sys, time
import otel_pipeline
otel_pipeline.instrument("scorer", endpoint="http://127.0.0.1:1")
{then}
sys.stdin.read(1)
"""


@pytest.fixture
def start(tmp_path, state_folder):
    """A function that starts a program, which ends when its input is closed."""
    started = []

    def begin(then=""):
        script = tmp_path / "app.py"
        script.write_text(APP.format(then=textwrap.dedent(then)))
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CI", "PYTEST"))}
        environ |= {"OTEL_PIPELINE_STATE_DIR": str(state_folder), "OTEL_PIPELINE_ENVIRONMENT": "local"}
        started.append(
            subprocess.Popen(
                [sys.executable, str(script)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.stdin.close()
        process.kill()
        process.wait()


def wait_for(condition, seconds=20):
    """Look again and again; the state is told when it does not come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


def health(capsys, *words):
    """Exit code and what is printed."""
    code = main(["health", *words])
    return code, capsys.readouterr().out


def documents(capsys):
    """What the processes keep."""
    return json.loads(health(capsys, "--json")[1])


def keep(state_folder, name, *, age_s=0.0, **parts):
    """Keep a document as a process leaves it that is no longer there."""
    process = {"pid": 1, "service": "scorer", "environment": "local"}
    written = {"written_at": "2026-11-23T11:40:01.200Z", "ended_at": None, "interval_s": 1}
    document = {"schema": SCHEMA, "ok": True, **written, "process": process, "reason": "", "flows": [], "producers": []}
    (state_folder / "health").mkdir(parents=True, exist_ok=True)
    path = state_folder / "health" / f"{name}.json"
    path.write_text(json.dumps({**document, **parts}))
    os.utime(path, (time.time() - age_s, time.time() - age_s))


def test_what_has_ended_is_counted_and_shown_on_demand(state_folder, capsys):
    """The newest of each service and environment; a running process, where there is one."""
    ended = {"ended_at": "2026-11-23T11:40:02.000Z"}
    other = {"pid": 9, "service": "scorer", "environment": "production"}
    keep(state_folder, "scorer-1-a", age_s=70, ok=False, **ended)
    keep(state_folder, "scorer-2-a", age_s=60, **ended)
    keep(state_folder, "scorer-3-a", age_s=90, process=other, **ended)
    plain, newest = health(capsys), health(capsys, "--last")
    keep(state_folder, "scorer-4-a", age_s=50, ok=False, **ended)
    red = health(capsys, "--last")

    assert plain == (3, "no process keeps its health here\n  3 ended within 24 h: otel-pipeline health --last\n")
    assert newest == (
        0,
        (
            "scorer in production (pid 9)\n  ended 1 min 30 s ago; this is its last verdict\n  no messages yet\n\n"
            "scorer in local (pid 1)\n  ended 1 min ago; this is its last verdict\n  no messages yet\n"
        ),
    )
    assert red[0] == 1


@below_at_above("an hour", 3_600, 0, 3, 3, step=60)
def test_who_went_without_a_goodbye_is_shown_for_an_hour(state_folder, capsys, size, outcome):
    """Beside those that run; then it is one of those that have ended."""
    keep(state_folder, "scorer-1-a", age_s=size)

    assert (health(capsys)[0], health(capsys, "--last")[0]) == (outcome, 0)


JOB = """
import os, otel_pipeline
otel_pipeline.instrument("job", endpoint="http://127.0.0.1:1", libraries=["kafka-python", "aiokafka"])
{then}
"""
SENT = """
from kafka import KafkaProducer
producer = KafkaProducer(bootstrap_servers=os.environ["BROKER"], api_version=(2, 3))
for number in range(5):
    producer.send("orders", b"%d" % number)
producer.flush()
"""
FAILED = """
from kafka import KafkaProducer
for number in range(5):
    try:
        KafkaProducer(bootstrap_servers="127.0.0.1:1", api_version=(2, 3), max_block_ms=10).send("orders", b"")
    except Exception:
        pass
"""
LEFT = """
import asyncio
from aiokafka import AIOKafkaProducer
async def main():
    global producer
    producer = AIOKafkaProducer(bootstrap_servers=os.environ["BROKER"], linger_ms=60_000)
    await producer.start()
    for number in range(2):
        await producer.send("orders", b"%d" % number)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("then", "code", "line", "said"),
    [
        (SENT, 0, "    delivered          green  5 messages acknowledged, none failed", 0),
        (FAILED, 1, "    delivered          red    5 of 5 messages could not be delivered: 5 x", 0),
        (LEFT, 1, "    delivered          red    2 messages were not answered when the process ended: whether", 1),
    ],
    ids=["sent", "failed", "left"],
)
def test_a_job_has_a_verdict(programs, broker, capsys, monkeypatch, then, code, line, said):
    """After its end: whether what it sent was delivered. What is left on its way is also said in its log."""
    ran = programs.run(JOB.format(then=then), BROKER=broker)
    monkeypatch.setenv("OTEL_PIPELINE_STATE_DIR", str(ran.lines.parent))
    monkeypatch.setenv("COLUMNS", "200")
    found, out = health(capsys, "--last")

    assert (ran.code, health(capsys)[0], found, line in out) == (0, 3, code, True), out
    assert ran.err.count("flush() or close() of the producer") == said


def test_a_last_verdict_that_fails_leaves_no_file(programs):
    """It would tell of a process that does not answer, for as long as the program goes on after `shutdown()`."""
    fails = """
    import time
    pipe = otel_pipeline.pipeline._pipeline
    time.sleep(1.5)
    pipe._monitoring.judge = None
    pipe.shutdown()
    print(os.listdir(os.path.join(os.environ["OTEL_PIPELINE_STATE_DIR"], "health")))
    """
    ran = programs.run(JOB.format(then=textwrap.dedent(fails)))

    assert (ran.code, ran.out) == (0, "[]\n"), ran.err


def test_nobody_is_said_to_be_nobody(capsys):
    """Not green."""
    code, out = health(capsys)

    assert (code, out.splitlines()[0]) == (3, "no process keeps its health here")


def test_a_process_is_found_and_goes_without_a_trace(start, capsys):
    """It says that it has seen nothing; when it has left in order, nobody is there."""
    process = start()
    wait_for(lambda: documents(capsys))
    code, out = health(capsys)

    assert (code, out) == (0, f"scorer in local (pid {process.pid})\n  no messages yet\n")
    process.stdin.close()
    process.wait()
    assert health(capsys)[0] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_process_that_is_stopped_is_gone_and_has_not_crashed(start, capsys, number):
    """As Kubernetes and process managers stop it: grey, and no reason for anybody to look."""
    process = start()
    wait_for(lambda: documents(capsys))
    process.send_signal(number)
    process.wait()
    code, out = health(capsys)

    assert (process.returncode, code, "grey  gone without a goodbye " in out) == (-number, 0, True)


def test_a_process_that_is_gone_with_committed_messages_in_hand(start, capsys):
    """Red: nobody will ever process them. What else was red is no longer true of anybody."""
    process = start()
    (document,) = wait_for(lambda: documents(capsys))
    process.kill()
    process.wait()
    (path,) = [path for path in health_folder().iterdir() if path.suffix == ".json"]
    light = {"state": "red", "why": "", "look": None, "figures": {}, "since_s": 1.0}

    def lose(count):
        lights = {"order": {**light, "figures": {"at_risk": count}}, "fresh": light}
        flow = {"destination": "orders", "group": "g", "cluster": None, "state": "red", "lights": lights}
        known = {name: value for name, value in document.items() if name not in ("alive", "ended", "age_s", "trouble")}
        path.write_text(json.dumps({**known, "ok": False, "flows": [flow]}))
        return health(capsys)

    (kept, _), (lost, out) = lose(0), lose(3)
    assert (kept, lost) == (0, 1)
    assert "3 messages committed and not begun, or not finished: they are lost" in " ".join(out.split())


def test_a_process_that_hangs_does_not_answer(start, capsys):
    """It is there, and writes nothing."""
    process = start()
    wait_for(lambda: documents(capsys))
    process.send_signal(signal.SIGSTOP)
    (document,) = wait_for(lambda: [each for each in documents(capsys) if each["trouble"]])

    assert document["trouble"].startswith("the process does not answer: it wrote last ")
    assert health(capsys)[0] == 1
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: health(capsys)[0] == 0)


def test_a_forked_child_answers_for_itself(start, capsys):
    """Two processes, both alive; a parent that is killed is dead although its child lives."""
    process = start(
        """
        if os.fork() == 0:
            time.sleep(60)
        """
    )
    found = wait_for(lambda: len(known := documents(capsys)) == 2 and known)
    child = next(each["process"]["pid"] for each in found if each["process"]["pid"] != process.pid)
    try:
        process.kill()
        process.wait()
        alive = {each["process"]["pid"]: each["alive"] for each in documents(capsys)}
    finally:
        os.kill(child, signal.SIGKILL)

    assert alive == {process.pid: False, child: True}


def test_a_file_that_is_none_is_refused_with_a_remedy(tmp_path, capsys):
    """The option is named."""
    (tmp_path / "x.json").write_text("{}")
    code = main(["health", "--file", str(tmp_path / "x.json")])
    err = capsys.readouterr().err

    assert (code, "is no state file" in err, "leave --file out" in err) == (2, True, True)


@pytest.mark.parametrize(("name", "code"), [("scorer-7-abcdefgh.json", 2), ("users-own.json", 3)])
def test_what_cannot_be_read_is_not_good(state_folder, capsys, name, code):
    """A file that is called like ours and is none; those of others are nobody's business."""
    (state_folder / "health").mkdir(parents=True)
    (state_folder / "health" / name).write_text("{}")

    assert main(["health"]) == code
    assert (f"{name} cannot be read as a state file" in capsys.readouterr().err) is (code == 2)


def test_only_the_services_that_were_asked_for(start, capsys):
    """Another service is nobody."""
    start()
    wait_for(lambda: documents(capsys))

    assert health(capsys, "scorer")[0] == 0
    assert health(capsys, "features")[0] == 3


@pytest.mark.parametrize("width", ["40", "80", "120"])
def test_no_reason_or_remedy_is_cut(state_folder, capsys, monkeypatch, width):
    """They go on below, at whatever width."""
    reason = "53.3 % of 1,797 decisions used data younger than 5 s; 99 % is the objective, and it is what counts here"
    light = {"state": "red", "why": reason, "look": f"look {reason}", "figures": {}}
    flow = {"destination": "orders", "group": "g", "cluster": None, "state": "red", "lights": {"fresh": light}}
    process = {"pid": 1, "service": "scorer", "environment": None}
    keep(state_folder, "scorer-7-abcdefgh", ok=False, process=process, flows=[flow])
    monkeypatch.setenv("COLUMNS", width)
    lines = health(capsys)[1].splitlines()
    text = " ".join(" ".join(lines).split())

    assert (text.count(reason), "…" in text, max(map(len, lines)) <= max(int(width), 54)) == (2, False, True)
