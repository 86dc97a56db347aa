"""What is installed is read once, and again where something was installed; and nothing looks for garbage meanwhile."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from importlib import metadata

import pytest

from otel_pipeline import installed
from otel_pipeline.garbage import not_looked_for


def test_versions_are_what_importlib_says():
    """Of everything that is installed here."""
    names = {found.metadata["Name"] for found in metadata.distributions()}

    assert {name: installed.version(name) for name in names} == {name: metadata.version(name) for name in names}
    assert installed.version("no-such-distribution") is None
    assert installed.version("no-such-distribution", "pytest") == metadata.version("pytest")


def test_names_are_what_importlib_says():
    found = list(metadata.distributions())

    assert [installed.name_of(each) for each in found] == [each.name for each in found]
    assert installed.name_of(None) == ""


def test_what_is_installed_later_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed.entry_points("otel_pipeline_of_a_test")
    folder = tmp_path / "late-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[otel_pipeline_of_a_test]\nlate = os:getpid\n")
    os.utime(tmp_path, ns=(1, 1))

    assert [point.load() for point in installed.entry_points("otel_pipeline_of_a_test")] == [os.getpid]


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_as_it_was(was_on):
    """Also after an exception, and one within another."""
    before = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        with suppress(ZeroDivisionError), not_looked_for(), not_looked_for():
            paused = not gc.isenabled()
            raise ZeroDivisionError
        assert (paused, gc.isenabled()) == (True, was_on)
    finally:
        (gc.enable if before else gc.disable)()


def test_what_the_application_has_frozen_stays_frozen():
    gc.freeze()
    try:
        with not_looked_for():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_child_that_is_forked_meanwhile_looks_for_garbage():
    with not_looked_for():
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
