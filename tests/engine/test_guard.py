"""What fails is counted and said once; a place that keeps failing is switched off."""

from __future__ import annotations

import ast
import contextlib
import functools
import re
import signal
import sys
from pathlib import Path

import pytest

import otel_pipeline
from otel_pipeline.engine import guard as guards
from otel_pipeline.engine.guard import OFF_AFTER, OFF_WITHIN_S, Guard

ROOT = Path(otel_pipeline.__file__).parent
MESSAGES_PASS = {"brokers", "contracts", "detectors", "engine", "flow.py", "models"}
SWALLOWS = {
    "brokers/faust_streams.py": 1,  # in `__del__`, where Python drops it
    "detectors/measures.py": 2,  # at the start
    "engine/async_loop.py": 1,  # in `__del__`, where Python drops it
    "engine/consumer_loop.py": 1,  # as above
    "engine/forks.py": 1,  # in a child that has just begun
    "engine/guard.py": 6,  # the guard itself
    "engine/immutable_types.py": 1,  # when a class is patched
    "engine/scope.py": 1,  # where there is no guard
    "engine/totals.py": 2,  # where metrics are read
}
ONCE = {"engine/patching.py", "export/official.py", "libraries.py", "pipeline.py"}
"""They act when the application starts or stops, not again and again."""


def out_of_time(_number, _frame, *, at=0):
    raise TimeoutError(at)


class Limit:
    def out_of_time(self, _number, _frame):
        raise TimeoutError

    __call__ = out_of_time


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
        and ast.unparse(node.func.value).endswith("guard")
        and path.name != "guard.py"
        and path.relative_to(ROOT).parts[0] not in {"demo", "testing"}
    }

    assert found == ONCE


def handlers(path):
    """Each `except` of ours that takes any exception, as text."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or getattr(kind, "id", "") in {"Exception", "BaseException"} for kind in kinds):
                yield ast.unparse(node)


def test_no_handler_swallows_what_is_the_applications():
    """What a signal handler of the application raises while ours is running goes on, wherever messages pass."""
    found = {}
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name.split("/")[0] in MESSAGES_PASS:
            swallowed = [
                text
                for text in handlers(path)
                if not re.search(r"failed\(|raise_theirs\(|raise|step_aside\(|_lose\(", text)
            ]
            if swallowed:
                found[name] = len(swallowed)

    assert found == SWALLOWS


@pytest.mark.parametrize(
    "handler",
    [out_of_time, Limit().out_of_time, Limit(), functools.partial(out_of_time, at=1)],
    ids=["function", "method", "object", "partial"],
)
def test_what_a_signal_handler_raises_is_not_ours(handler):
    """A time limit comes through the place; it is not counted, and what had to be told is told."""
    guard, told, before = Guard(), [], signal.signal(signal.SIGUSR1, handler)

    def interrupted():
        try:
            signal.raise_signal(signal.SIGUSR1)
        except Exception:
            guard.place("send").failed(told.append, "interrupted")

    try:
        with pytest.raises(TimeoutError):
            interrupted()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert (guard.errors, told) == ({}, ["interrupted"])


def test_the_same_exception_is_ours_where_no_handler_has_raised_it():
    """A failure of ours, in a program that has a handler."""
    guard, before = Guard(), signal.signal(signal.SIGUSR1, out_of_time)
    try:
        fail(guard.place("send"), 1)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert guard.errors == {"send": 1}


def test_it_is_counted_where_no_stack_is_left():
    """And said when there is room for it."""
    guard, deep = Guard(), sys.getrecursionlimit()

    def fail_at_the_end_of_the_stack():
        try:
            fail_at_the_end_of_the_stack()
        except RecursionError:
            with contextlib.suppress(RecursionError):
                guard.place("send").failed()
            raise

    with pytest.raises(RecursionError):
        fail_at_the_end_of_the_stack()

    assert 0 < guard.errors["send"] <= deep
