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
        known = {name: value for name, value in document.items() if name not in ("alive", "age_s", "trouble")}
        path.write_text(json.dumps({**known, "ok": False, "flows": [flow]}))
        return health(capsys)

    (kept, _), (lost, out) = lose(0), lose(3)
    assert (kept, lost) == (0, 1)
    assert "with 3 messages in hand whose offsets were committed: they are lost" in " ".join(out.split())


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
    document = {"schema": SCHEMA, "ok": False, "interval_s": 1, "process": process, "reason": "", "flows": [flow]}
    (state_folder / "health").mkdir(parents=True)
    (state_folder / "health" / "scorer-7-abcdefgh.json").write_text(json.dumps(document))
    monkeypatch.setenv("COLUMNS", width)
    lines = health(capsys)[1].splitlines()
    text = " ".join(" ".join(lines).split())

    assert (text.count(reason), "…" in text, max(map(len, lines)) <= max(int(width), 54)) == (2, False, True)
