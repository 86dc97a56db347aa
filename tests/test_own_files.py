"""Files of ours are told from everybody else's, and their folders are for one user alone."""

from __future__ import annotations

import os
import re
import stat

import pytest

from otel_pipeline import own_files
from otel_pipeline.own_files import FLAGS, is_gone, lock, make_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")


def test_a_folder_is_made_for_its_user_alone(tmp_path):
    """With those above it; a second time changes nothing."""
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")

    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["file", "link", "somebody else's"])
def test_a_folder_that_is_not_ours_is_refused(tmp_path, monkeypatch, kind):
    """What is written there would be somebody else's to read, or to lead elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        (tmp_path / "a").write_text("")
    elif kind == "link":
        (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: -1)

    with pytest.raises(OSError, match=r"a\b"):
        make_folder(tmp_path / "a")


def test_only_plain_files_of_that_name_are_ours(tmp_path, monkeypatch):
    """Oldest first; no folder, no link, no pipe, nothing of another user, and nothing where there is no folder."""
    for age, name in ((10, "1.own"), (30, "2.own"), (20, "1.own.theirs"), (5, "other")):
        (tmp_path / name).write_text("x" * age)
        os.utime(tmp_path / name, (1_000 - age,) * 2)
    (tmp_path / "3.own").mkdir()
    (tmp_path / "4.own").symlink_to(tmp_path / "1.own")
    os.mkfifo(tmp_path / "5.own")
    own = [tuple(each) for each in own_files.own_files(tmp_path, re.compile(r"[0-9]\.own"))]
    monkeypatch.setattr(os, "geteuid", lambda: -1)

    assert own == [(970.0, 30, tmp_path / "2.own"), (990.0, 10, tmp_path / "1.own")]
    assert own_files.own_files(tmp_path, re.compile(r"[0-9]\.own")) == []
    assert own_files.own_files(tmp_path / "nowhere", re.compile(r".*")) == []


def test_an_open_file_that_was_deleted_is_gone(tmp_path):
    """So is one that is not open any more."""
    descriptor = os.open(tmp_path / "a", FLAGS | os.O_WRONLY, 0o600)
    seen = [is_gone(descriptor)]
    (tmp_path / "a").unlink()
    seen.append(is_gone(descriptor))
    os.close(descriptor)

    assert [*seen, is_gone(descriptor)] == [False, True, True]


def test_a_lock_is_had_by_one(tmp_path):
    """Where a file system has none, nobody knows."""
    first, second = (os.open(tmp_path / "a", FLAGS | os.O_RDWR, 0o600) for _ in range(2))
    try:
        held = [lock(first, exclusive=True), lock(second, exclusive=True), lock(second, exclusive=False)]
    finally:
        os.close(first)
        os.close(second)

    assert held == [True, False, False]
    assert lock(second, exclusive=True) is None
