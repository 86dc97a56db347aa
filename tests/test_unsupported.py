"""Clients that are installed and not instrumented: said once, when the application imports them, with what to do."""

from __future__ import annotations

import importlib
import logging
import sys

import pytest

from otel_pipeline import unsupported
from otel_pipeline.registry import ADAPTERS, Adapter
from otel_pipeline.unsupported import BY_HAND, UNSUPPORTED

SAID = f"otel_pipeline: pika 9.1: it is not instrumented; {BY_HAND}"
ROW = f"  unsupported  pika 9.1: {BY_HAND}"


@pytest.fixture
def package(tmp_path, monkeypatch, caplog):
    """A package `pika` and modules that import it, of which no process has spoken yet."""
    (tmp_path / "pika.py").write_text("")
    (tmp_path / "their_service.py").write_text("import pika\n")
    (tmp_path / "plugin.py").write_text("import importlib\nimportlib.import_module('pika')\n")
    (tmp_path / "pika-9.1.dist-info").mkdir()
    (tmp_path / "pika-9.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pika\nVersion: 9.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(unsupported, "_told", set())
    caplog.set_level(logging.INFO, "otel_pipeline")
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("pika", "their_service", "plugin"):
        sys.modules.pop(name, None)


def said(caplog):
    return [record.getMessage() for record in caplog.records if "pika" in record.getMessage()]


def rows(pipe):
    return [line for line in str(pipe.status()).splitlines() if line.startswith("  unsupported  pika")]


@pytest.mark.parametrize("module", ["their_service", "plugin"])
def test_when_the_application_imports_it(telemetry, package, caplog, module):
    """At that moment, once in a process; the row is there all the time."""
    pipe = telemetry.instrument()
    assert said(caplog) == []
    importlib.import_module(module)
    first = rows(pipe)
    pipe.uninstrument()
    sys.modules.pop("pika")
    importlib.import_module("pika")
    again = telemetry.instrument()
    sys.modules.pop("pika")
    importlib.import_module("pika")

    assert said(caplog) == [SAID]
    assert (first, rows(pipe), rows(again)) == ([ROW], [], [ROW])
    assert [record.levelname for record in caplog.records if "pika" in record.getMessage()] == ["INFO"]
    assert pipe.status().problems == ()


def test_when_it_was_imported_before(telemetry, package, caplog):
    """By `instrument()` then."""
    importlib.import_module("their_service")
    telemetry.instrument()

    assert said(caplog) == [SAID]


@pytest.mark.parametrize("module", ["otel_pipeline.testing.of_ours", "opentelemetry.instrumentation.of_others"])
def test_what_is_not_the_applications_import(telemetry, package, caplog, module):
    """Ours, and another instrumentation's."""
    telemetry.instrument()
    exec("import pika", {"__name__": module})  # noqa: S102 - a module of that name

    assert "pika" in sys.modules
    assert said(caplog) == []


@pytest.mark.parametrize("arguments", [{"disable": ["pika"]}, {"disable": ["*"]}, {"libraries": ["kafka"]}])
def test_what_is_switched_off_is_not_spoken_of(telemetry, package, caplog, arguments):
    """Nor is what a list of libraries leaves out."""
    pipe = telemetry.instrument(**arguments)
    importlib.import_module("their_service")

    assert said(caplog) == []
    assert rows(pipe) == []


def test_where_the_configuration_asks_for_it(telemetry, package):
    """It is a problem then: something that was asked for is not in place."""
    pipe = telemetry.instrument(libraries=["pika"])

    assert pipe.status().problems == (f"`libraries` names pika: it is not instrumented; {BY_HAND}",)


def test_where_another_distribution_instruments_it(telemetry, package, caplog, monkeypatch):
    """Then it is no longer of those."""
    theirs = Adapter(name="pika", module="their_adapter", package="pika", versions=">=1")
    monkeypatch.setattr("otel_pipeline.pipeline.adapters", lambda _problem: (*ADAPTERS, theirs))
    pipe = telemetry.instrument()

    assert rows(pipe) == []
    assert [adapter.state for adapter in pipe.status().adapters if adapter.name == "pika"] == ["waiting"]


def test_a_version_that_is_not_supported(telemetry, package, caplog, monkeypatch):
    """Of a client that has an adapter: the reason is said, and what to do."""
    theirs = Adapter(name="pika", module="their_adapter", package="pika", versions=">=10")
    monkeypatch.setattr("otel_pipeline.pipeline.adapters", lambda _problem: (*ADAPTERS, theirs))
    telemetry.instrument()
    importlib.import_module("their_service")

    assert said(caplog) == [
        f"otel_pipeline: pika 9.1: it is not instrumented; version 9.1 is not supported (>=10); else {BY_HAND}"
    ]


def test_names_are_those_of_one_library_each():
    """No name is in two rows, or a row's and an adapter's."""
    names = [name for row in (*UNSUPPORTED, *ADAPTERS) for name in row.names]

    assert len(names) == len(set(names))
