"""What is done inside of uWSGI, played by a module of its name; the real one is in tests/real."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from otel_pipeline.engine import uwsgi
from otel_pipeline.engine.forks import Forks, Step
from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.patching import Patches

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
MASTER = 100


class Server:
    """A process of uWSGI's, which the test turns from a master into a worker."""

    def __init__(self, monkeypatch, **has):
        self.pid, self.worker, self.mule, self.said, self.threads = MASTER, 0, 0, {}, []
        self.module = SimpleNamespace(
            **{
                "worker_id": lambda: self.worker,
                "mule_id": lambda: self.mule,
                "masterpid": lambda: MASTER,
                "has_threads": 1,
                "opt": {},
                **has,
            }
        )
        monkeypatch.setitem(sys.modules, "uwsgi", self.module)
        monkeypatch.setattr(os, "getpid", lambda: self.pid)
        self.hooks = []
        monkeypatch.setattr(os, "register_at_fork", lambda **hooks: self.hooks.extend(hooks.values()))
        self.forks = Forks(os.getpid)
        monkeypatch.setattr(uwsgi, "forks", self.forks)

    def instrument(self):
        """As `instrument()` does: where threads start and what is counted is noted."""
        uwsgi.follow(Patches(Guard()), self.said.__setitem__)
        self.forks.begin(self.start)
        self.forks.add(lambda: self.threads.append("at zero"), Step.ZERO)
        uwsgi.followed()

    def start(self):
        if not self.forks.holds:
            self.threads.append(sorted(set(signal.valid_signals()) - signal.pthread_sigmask(signal.SIG_BLOCK, [])))

    def become(self, pid, *, worker=0, mule=0):
        """Be another process, and call the hook."""
        self.pid, self.worker, self.mule = pid, worker, mule
        self.module.post_fork_hook()
        started, self.threads = self.threads, []
        return started


UNBLOCKED = sorted({signal.SIGKILL, signal.SIGSTOP} & signal.valid_signals())


def test_no_thread_runs_in_the_master(monkeypatch):
    """The first worker goes on with what was recorded; others, and one that takes its place, begin at zero."""
    server = Server(monkeypatch)
    server.instrument()
    in_master = list(server.threads)

    assert (in_master, server.forks.holds, server.said) == ([], True, {})
    assert server.become(101, worker=1) == [UNBLOCKED]
    assert server.forks.goes_on
    assert server.become(102, worker=2) == ["at zero", UNBLOCKED]
    assert not server.forks.goes_on


@pytest.mark.parametrize(("first", "goes_on"), [({"worker": 1}, True), ({"mule": 1}, False), ({}, False)])
def test_who_goes_on(monkeypatch, first, goes_on):
    """A worker, but no mule and no spooler."""
    server = Server(monkeypatch)
    server.instrument()
    server.become(101, **first)

    assert (server.forks.goes_on, server.forks.holds) == (goes_on, False)


def test_a_worker_that_comes_in_place_of_the_first_begins_at_zero(monkeypatch):
    """What the master recorded is handed over once."""
    server = Server(monkeypatch)
    server.instrument()
    read = os.dup(server.forks._held.takes_over.__self__._read)
    first = os.read(read, 9)
    os.close(read)

    assert first == b"1"
    assert server.become(103, worker=1) == ["at zero", UNBLOCKED]


@pytest.mark.parametrize(
    ("has", "worker"),
    [
        ({}, 1),  # --lazy-apps: it is imported in a worker.
        ({"opt": {"py-call-uwsgi-fork-hooks": True}}, 0),  # Forks with the interpreter's hooks, all threads stopped.
    ],
)
def test_threads_run_where_nothing_is_forked_without_hooks(monkeypatch, has, worker):
    """They take no signals there either."""
    server = Server(monkeypatch, **has)
    server.pid, server.worker = MASTER + worker, worker
    server.instrument()

    assert (server.threads, server.forks.holds) == ([UNBLOCKED], False)


def test_a_process_without_a_master_becomes_a_worker_itself(monkeypatch):
    """Its pid stays the same; threads run once it is one, at the latest when it passes a door."""
    server = Server(monkeypatch, masterpid=lambda: 0)
    server.instrument()
    server.worker = 1
    server.forks.notice()

    assert (server.threads, server.forks.goes_on) == ([UNBLOCKED], True)


def test_where_hooks_are_run_threads_of_others_take_no_signals(monkeypatch):
    """--py-call-osafterfork: the SDK starts threads in hooks of its own, between two of ours."""
    server = Server(monkeypatch)
    server.instrument()
    before, after = server.hooks
    free = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    before()
    before()  # Instrumented twice.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    after()

    assert sorted(signal.valid_signals() - blocked) == UNBLOCKED
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == free


def test_a_worker_that_is_told_to_end_while_it_begins_ends(monkeypatch):
    """uWSGI's own handler is not there yet; it would print a KeyboardInterrupt, and the worker would live on."""
    server, whole = Server(monkeypatch), []
    server.instrument()
    server.forks.add(lambda: (signal.pthread_kill(threading.get_ident(), signal.SIGINT), whole.append(1)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored where a shell started it behind itself.

    try:
        with pytest.raises(SystemExit):
            server.become(101, worker=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert whole == [1]
    assert server.threads == [UNBLOCKED]


def test_the_applications_hook_is_called_after_ours(monkeypatch):
    """Whether it was set before, or by uWSGI's decorators."""
    said = []
    server = Server(monkeypatch, post_fork_hook=lambda: said.append(server.forks.holds))
    server.instrument()
    server.become(101, worker=1)
    decorators = ModuleType("uwsgidecorators")
    decorators.postfork_chain = [said.append]
    uwsgi._join(decorators)
    uwsgi._join(decorators)

    assert said == [False]
    assert decorators.postfork_chain == [uwsgi._noticed, said.append]


def test_without_threads_it_is_said_what_helps(monkeypatch):
    """Once."""
    server = Server(monkeypatch, has_threads=0)
    server.instrument()

    assert server.said == {
        "uwsgi": "uWSGI runs without threads: telemetry leaves only while requests are handled, so late; start it with "
        "--enable-threads"
    }


def test_elsewhere_nothing_is_done(monkeypatch):
    """There is no such module."""
    monkeypatch.setitem(sys.modules, "uwsgi", None)
    forks = Forks()
    monkeypatch.setattr(uwsgi, "forks", forks)
    uwsgi.follow(Patches(Guard()), {}.__setitem__)
    uwsgi.followed()

    assert not forks.holds
