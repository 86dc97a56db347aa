"""Servers that end their workers past `atexit`; the real ones are in tests/real/test_hosts.py."""

from __future__ import annotations

import asyncio
import sys
import threading
from types import ModuleType

import pytest

from otel_pipeline.engine.guard import Guard
from otel_pipeline.engine.patching import Patches
from otel_pipeline.export import ending, worker_ends


@pytest.fixture
def handed_over(monkeypatch):
    """What was called, and whether that was beside the main thread."""
    said = []
    for name in ("before_signal", "leave"):
        monkeypatch.setattr(
            ending, name, lambda name=name: said.append((name, threading.current_thread() is threading.main_thread()))
        )
    return said


def uvicorn(monkeypatch, *, captured, takes=("self", "sockets")):
    """A module with a server of these captured signals; its `shutdown` says what it was given."""
    module, given = ModuleType("uvicorn.server"), []

    class Server:
        async def shutdown(self, sockets=None):
            given.append(sockets)

    async def other(self):
        given.append("other")

    if takes != ("self", "sockets"):
        Server.shutdown = other
    module.Server, server = Server, Server()
    if captured is not None:
        server._captured_signals = captured
    monkeypatch.setitem(sys.modules, "uvicorn.server", module)
    return server, given


@pytest.mark.parametrize(
    ("captured", "expected"), [([15], [("before_signal", False)]), ([], []), (None, [])], ids=["signal", "none", "old"]
)
def test_uvicorn_hands_over_before_it_raises_its_signal_again(monkeypatch, handed_over, captured, expected):
    """Beside its event loop; nothing is done where it will raise none, as those before 0.29."""
    server, given = uvicorn(monkeypatch, captured=captured)
    patches = Patches(Guard())
    worker_ends.follow(patches)
    asyncio.run(server.shutdown(sockets=["socket"]))
    patches.restore()
    asyncio.run(server.shutdown())

    assert (given, handed_over) == ([["socket"], None], expected)


def test_another_uvicorn_is_left_as_it_is(monkeypatch, handed_over):
    """It is counted."""
    server, given = uvicorn(monkeypatch, captured=[15], takes=("self",))
    guard = Guard()
    worker_ends.follow(Patches(guard))
    asyncio.run(server.shutdown())

    assert (given, handed_over, guard.errors) == (["other"], [], {"import.uvicorn.server": 1})


def test_what_fails_there_reaches_nobody(monkeypatch, handed_over):
    """The server shuts down."""
    server, given = uvicorn(monkeypatch, captured=[15])
    monkeypatch.setattr(ending, "before_signal", lambda: 1 / 0)
    worker_ends.follow(Patches(Guard()))
    asyncio.run(server.shutdown())

    assert given == [None]


def test_a_child_of_celery_leaves(monkeypatch, handed_over):
    """By its own signal, connected once."""
    connected = {}

    class Signal:
        def connect(self, receiver, *, weak, dispatch_uid):
            connected[dispatch_uid] = (receiver, weak)

    module = ModuleType("celery.signals")
    module.worker_process_shutdown = Signal()
    monkeypatch.setitem(sys.modules, "celery.signals", module)
    for _ in range(2):
        worker_ends.follow(Patches(Guard()))
    ((receiver, weak),) = connected.values()
    receiver(sender=None, pid=1, exitcode=0, signal=None)

    assert (weak, handed_over) == (False, [("leave", True)])
