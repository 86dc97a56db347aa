"""Where files of ours lie: found without raising, whatever a process has been left of its user."""

from __future__ import annotations

import os

import pytest

from otel_pipeline.config import state_folder
from otel_pipeline.config.state_folder import health_folder, health_folders, telemetry_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="homes and users of POSIX")


def test_a_named_folder_is_used(tmp_path):
    """Whatever else there is; a relative one begins where the process does."""
    environ = {"OTEL_PIPELINE_STATE_DIR": "named", "XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}

    assert telemetry_folder(environ) == state_folder.Path.cwd() / "named" / "telemetry"
    assert health_folders(environ) == [state_folder.Path.cwd() / "named" / "health"]


def test_health_lies_where_the_users_session_keeps_its_files(tmp_path):
    """And is looked for where a service of the same user keeps it, which has no session."""
    (tmp_path / "run").mkdir()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path)}
    folders = [tmp_path / "run" / "otel-pipeline" / "health", tmp_path / "otel-pipeline" / "health"]

    assert (health_folder(environ), health_folders(environ)) == (folders[0], folders)


@pytest.mark.parametrize("runtime", ["nowhere", "not a folder"])
def test_a_session_that_is_not_there_is_not_used(tmp_path, runtime):
    """`sudo` and containers hand on a variable without its folder."""
    (tmp_path / "not a folder").write_text("")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / runtime), "XDG_STATE_HOME": str(tmp_path)}

    assert health_folders(environ) == [tmp_path / "otel-pipeline" / "health"]


def test_the_home_is_used(tmp_path, monkeypatch):
    """Its state folder, by the XDG base directories."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert telemetry_folder({}) == tmp_path / ".local" / "state" / "otel-pipeline" / "telemetry"


@pytest.mark.parametrize("home", ["", "relative", "/dev/null", "/proc/1/nothing"])
def test_without_a_home_it_lies_among_temporary_files(tmp_path, monkeypatch, home):
    """In a folder of one level, which nobody else can swap; the user's number is in its name."""
    monkeypatch.setenv("HOME", home)
    if not home:
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # What it returns without a user's entry.

    assert telemetry_folder({"TMPDIR": str(tmp_path)}) == tmp_path / f"otel-pipeline-{os.geteuid()}-telemetry"


def test_a_home_that_cannot_be_written_to_is_not_used(tmp_path, monkeypatch):
    """As containers have it, where the file system is read-only."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    assert telemetry_folder({"TMPDIR": "/t"}) == state_folder.Path(f"/t/otel-pipeline-{os.geteuid()}-telemetry")


def test_a_working_folder_that_was_deleted_raises_nothing(tmp_path, monkeypatch):
    """A relative path stays one."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert telemetry_folder({"OTEL_PIPELINE_STATE_DIR": "named"}) == state_folder.Path("named/telemetry")
