"""gevent that patches after `instrument()` is told of, once; it is not installed here, and its modules are stood in for."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import otel_pipeline  # noqa: F401 - before gevent, as an application does
from otel_pipeline.engine import green_threads


class GeventDidPatchModuleEvent:
    def __init__(self, name):
        self.module_name = name


@pytest.fixture
def gevent(monkeypatch):
    """What it has of these modules, from version 1.3 on."""
    monkey, events = ModuleType("gevent.monkey"), ModuleType("gevent.events")
    monkey.patched, events.subscribers = set(), []
    monkey.is_module_patched = monkey.patched.__contains__

    def patch_all():
        for name in ("os", "threading", "socket"):
            monkey.patched.add(name)
            for subscriber in events.subscribers:
                subscriber(GeventDidPatchModuleEvent(name))

    monkey.patch_all = patch_all
    for module in (monkey, events):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return monkey


@pytest.mark.parametrize(("before", "said"), [(True, ()), (False, (green_threads._SAID,))], ids=["before", "after"])
def test_the_order_is_said_where_it_matters(telemetry, gevent, before, said):
    """One line, with what to do, where threads run already."""
    if before:
        gevent.patch_all()
    pipe = telemetry.instrument()
    gevent.patch_all()
    gevent.patch_all()

    assert pipe.status().problems == said
