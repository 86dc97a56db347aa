"""What fails is counted and said once; a place that keeps failing is switched off."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import otel_pipeline
from otel_pipeline.engine import guard as guards
from otel_pipeline.engine.guard import OFF_AFTER, OFF_WITHIN_S, Guard

ROOT = Path(otel_pipeline.__file__).parent
ONCE = {"engine/patching.py", "export/official.py", "libraries.py", "pipeline.py"}
"""They act when the application starts or stops, not again and again."""


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [1_000.0]
    monkeypatch.setattr(guards, "monotonic", lambda: now[0])
    return now


def fail(place, times, text="secret"):
    for _ in range(times):
        try:
            int(text)
        except ValueError:
            place.failed()


@pytest.mark.parametrize(("failures", "off"), [(OFF_AFTER - 1, False), (OFF_AFTER, True), (OFF_AFTER + 1, True)])
def test_a_place_that_keeps_failing_is_switched_off(clock, failures, off):
    """The hundredth failure within a minute is the last one that is tried."""
    place = Guard().place("send")
    fail(place, failures)

    assert place.off is off


@pytest.mark.parametrize(("apart_s", "off"), [(OFF_WITHIN_S, True), (OFF_WITHIN_S + 0.001, False)])
def test_failures_long_ago_do_not_count(clock, apart_s, off):
    """What fails now and then goes on."""
    place = Guard().place("send")
    fail(place, OFF_AFTER - 1)
    clock[0] += apart_s
    fail(place, 1)

    assert place.off is off


def test_it_takes_along_what_is_nothing_without_it(clock):
    """A span that cannot be finished is not begun."""
    guard = Guard()
    begun, other = guard.place("process"), guard.place("receive")
    fail(guard.place("process.finish", begun), OFF_AFTER)

    assert (begun.off, other.off) == (True, False)


def test_all_who_ask_have_the_same_place():
    """Two clients of one kind fail at one place."""
    guard = Guard()

    assert guard.place("send") is guard.place("send")


def test_it_is_said_once_and_nothing_of_the_data(clock, caplog):
    """The first failure with its frames, and that the place is off; each failure is counted."""
    guard = Guard()
    fail(guard.place("send"), OFF_AFTER + 5)

    assert guard.errors == {"send": OFF_AFTER + 5}
    assert [record.getMessage().split("\n")[0] for record in caplog.records] == [
        "otel_pipeline: send failed with ValueError; the application is not affected",
        (
            "otel_pipeline: send failed 100 times within a minute and is switched off until the next start; "
            "the first traceback is in the log"
        ),
    ]
    assert "secret" not in caplog.text


def test_no_place_can_fail_for_ever():
    """Whoever counts a failure again and again asks a place that can be off; nobody counts without one."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "failed"
        and node.args
        and path.name != "guard.py"
        and path.relative_to(ROOT).parts[0] not in {"demo", "testing"}
    }

    assert found == ONCE
