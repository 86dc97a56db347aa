"""What acts when a module has been imported: as others find and load it, once, and without asyncio."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from importlib.util import find_spec

import pytest

from otel_pipeline.engine.import_hooks import when_imported


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of one that can be imported."""
    (tmp_path / "imported_later.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "imported_later"
    sys.modules.pop("imported_later", None)


def test_it_is_told_once_of_a_module_that_has_loaded(module):
    """With its own loader and spec."""
    told = []
    when_imported(module, lambda found: told.append((found.VALUE, type(found.__loader__).__name__)))
    loaded = importlib.import_module(module)
    importlib.reload(loaded)

    assert told == [(1, "SourceFileLoader")]
    assert loaded.__spec__.loader is loaded.__loader__


def test_it_is_told_at_once_of_one_that_is_there():
    told = []
    when_imported("json", told.append)

    assert told == [sys.modules["json"]]


def test_an_import_that_fails_is_tried_again(module, tmp_path):
    told = []
    (tmp_path / f"{module}.py").write_text("1 / 0\n")
    when_imported(module, told.append)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module(module)
    assert told == []

    (tmp_path / f"{module}.py").write_text("VALUE = 22\n")
    importlib.invalidate_caches()
    assert told == [importlib.import_module(module)]


def test_who_only_looks_for_it_gets_a_loader_that_can_what_the_modules_own_can(module):
    """As `python -m`, `pkgutil` and debuggers look."""
    told = []
    when_imported(module, told.append)
    spec = importlib.util.find_spec(module)

    assert "VALUE" in spec.loader.get_source(module)
    assert told == []
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert told == [made]


def test_nothing_there_is_said_as_without_it():
    when_imported("no_such_module_at_all", lambda _found: None)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        importlib.import_module("no_such_module_at_all")


LATER = """
import sys
from otel_pipeline.engine import event_loop
from otel_pipeline.engine.delivery import execution
assert "asyncio" not in sys.modules
assert execution()[1] == 0 and not event_loop.is_future(object())
import asyncio
async def main():
    assert execution()[1] == id(asyncio.current_task())
    assert event_loop.is_future(asyncio.get_running_loop().create_future())
asyncio.run(main())
assert execution()[1] == 0
print("done")
"""


@pytest.mark.skipif(
    find_spec("opentelemetry.sdk._shared_internal") is None, reason="the API of older OpenTelemetry imports asyncio"
)
def test_tasks_are_known_to_a_program_that_imports_asyncio_later():
    ran = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=False, timeout=60)

    assert (ran.stdout, ran.stderr) == ("done\n", "")
