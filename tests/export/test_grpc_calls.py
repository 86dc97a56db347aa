"""Calls over gRPC and forks keep out of each other's way; whole processes are in tests/processes/test_forks_under_load.py."""

from __future__ import annotations

import threading

import pytest

from otel_pipeline.engine.forks import Forks
from otel_pipeline.export import attempt, causes, grpc_calls, transports
from otel_pipeline.export.causes import ForkedError
from otel_pipeline.export.grpc_calls import Calls


@pytest.fixture
def process(monkeypatch):
    """The registry of a process of its own, and its calls."""
    forks = Forks()
    monkeypatch.setattr(grpc_calls, "forks", forks)
    forks.calls = Calls()
    return forks


@pytest.fixture
def patient(monkeypatch):
    """Nobody gives up."""
    monkeypatch.setattr(grpc_calls, "QUIET_S", 20)


def test_a_fork_waits_for_the_call_under_way(process, patient):
    """And its child can make calls."""
    began, go_on, done = threading.Event(), threading.Event(), []

    def call():
        with process.calls:
            began.set()
            go_on.wait(20)
            done.append("call")

    calling = threading.Thread(target=call)
    calling.start()
    began.wait(20)
    forking = threading.Thread(target=lambda: (process.before(), done.append("fork")))
    forking.start()
    go_on.set()
    forking.join()
    calling.join()
    process.in_child()
    with process.calls:
        done.append("child")

    assert done == ["call", "fork", "child"]


def test_a_call_waits_for_the_fork(process, patient):
    """Until the parent goes on."""
    done = []
    process.before()

    def call():
        with process.calls:
            done.append("call")

    calling = threading.Thread(target=call)
    calling.start()
    done.append("fork")
    process.in_parent()
    calling.join()

    assert done == ["fork", "call"]


def test_a_child_of_a_call_that_takes_longer_makes_none(process, monkeypatch):
    """Nor do its children; the parent goes on. The fork does not wait for long."""
    monkeypatch.setattr(grpc_calls, "QUIET_S", 0)
    with process.calls:
        process.before()
        process.in_parent()
        with process.calls:
            pass
        process.in_child()
    for _ in range(2):
        with pytest.raises(ForkedError), process.calls:
            raise AssertionError
        process.before()
        process.in_child()

    assert process.calls.unusable


def test_what_is_lost_by_that_has_a_cause(process, monkeypatch):
    """The exporter's client is not called."""
    monkeypatch.setattr(transports, "calls", process.calls)
    process.calls.unusable = True

    class Exporter:
        class _client:  # noqa: N801 - as the exporter has it
            Export = None

        def _stub(self, _channel):
            raise AssertionError

    exporter = Exporter()
    watched = transports.watch_calls(exporter)
    with attempt.attempting() as trying, pytest.raises(ForkedError):
        exporter._client.Export(request=None)

    assert (watched, trying.requests, causes.cause_of(trying, "traces", "")) == (True, 1, causes.FORKED)
