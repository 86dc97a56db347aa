"""The files of lines: for their user alone, bounded, one per process, and never in the way."""

from __future__ import annotations

import os
import shutil
import stat
import time

import pytest

from otel_pipeline.export import otlp_lines
from otel_pipeline.export.otlp_lines import Lines
from tests.limits import below_at_above

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions, links and forks")


@pytest.fixture
def problems():
    return []


@pytest.fixture
def lines(tmp_path, problems):
    return Lines(tmp_path / "state" / "telemetry", "scorer/7", lambda key, message: problems.append((key, message)))


def contents(lines):
    return [path.read_text() for path in sorted(lines.folder.glob("*.jsonl"))]


@posix
def test_folder_and_file_are_the_users_alone(lines):
    """0700 and 0600; the service's name cannot leave the folder."""
    assert lines.write({"a": 1})

    (path,) = lines.folder.iterdir()
    modes = [stat.S_IMODE(found.stat().st_mode) for found in (lines.folder, path)]
    assert (modes, path.name.startswith(f"scorer_7-{os.getpid()}-"), path.read_text()) == (
        [0o700, 0o600],
        True,
        '{"a":1}\n',
    )


def test_the_oldest_lines_of_a_process_make_room(lines, problems, monkeypatch):
    """It goes on for as long as it likes, in so many files of so many bytes."""
    monkeypatch.setattr(otlp_lines, "MAX_FILE_BYTES", 20)
    written = [lines.write({"a": number}) for number in range(10, 30)]

    assert (written, lines.dropped, problems) == ([True] * 20, 0, [])
    assert contents(lines) == [f'{{"a":{number}}}\n{{"a":{number + 1}}}\n' for number in (22, 24, 26, 28)]


def test_an_export_that_fits_in_no_file_is_dropped(lines, problems, monkeypatch):
    """At the limit it has a file for itself; above, it is counted and said."""
    monkeypatch.setattr(otlp_lines, "MAX_FILE_BYTES", 20)
    written = [lines.write({"a": "x" * size}) for size in (10, 11, 12, 10)]

    assert (written, lines.dropped, [len(content) for content in contents(lines)]) == (
        [True, True, False, True],
        1,
        [19, 20, 19],
    )
    assert f"cannot be written to {lines.folder}: an export is larger than 20 bytes; set OTEL_" in problems[0][1]


@posix
def test_a_folder_that_vanished_comes_back(lines, problems):
    """With the next line, whoever deleted it."""
    lines.write({"a": 1})
    shutil.rmtree(lines.folder.parent)

    assert (lines.write({"a": 2}), contents(lines), problems) == (True, ['{"a":2}\n'], [])


@posix
def test_a_full_disk_leaves_no_half_line(lines, problems, monkeypatch):
    """What was there stays whole; when there is room again, it goes on."""
    write = os.write
    lines.write({"a": 1})
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:3]))
    full = lines.write({"a": 2})
    monkeypatch.undo()

    assert (full, lines.write({"a": 3}), contents(lines)) == (False, True, ['{"a":1}\n', '{"a":3}\n'])
    assert "the disk is full" in problems[0][1]


@posix
def test_housekeeping_leaves_what_is_not_ours(lines, monkeypatch):
    """By name, by kind, and by owner, however old and large."""
    lines.folder.mkdir(parents=True)
    for name in ("collector-export.jsonl", "orders-2024-01.jsonl", "scorer-1-1700000000000.jsonl.gz", "a.lock"):
        (lines.folder / name).write_text("x" * 100)
        os.utime(lines.folder / name, (1, 1))
    (lines.folder / "scorer-1-1700000000000.jsonl").symlink_to(lines.folder / "a.lock")
    before = sorted(path.name for path in lines.folder.iterdir())
    monkeypatch.setattr(otlp_lines, "MAX_FOLDER_BYTES", 10)
    lines.write({})

    assert sorted(path.name for path in lines.folder.iterdir() if not path.name.startswith("scorer_7")) == before


def test_the_oldest_files_make_room(lines, monkeypatch):
    """Beyond the folder's size, and beyond a week."""
    lines.folder.mkdir(parents=True)
    for age, name in ((10 * 86_400, "week"), (200, "older"), (100, "newer")):
        path = lines.folder / f"{name}-1-1700000000000.jsonl"
        path.write_text("x" * 100)
        os.utime(path, (time.time() - age,) * 2)
    monkeypatch.setattr(otlp_lines, "MAX_FOLDER_BYTES", 150)
    lines.write({})

    assert sorted(path.name.split("-")[0] for path in lines.folder.iterdir()) == ["newer", "scorer_7"]


@posix
def test_no_link_is_followed(tmp_path, problems):
    """A folder that is a link is refused: it could lead into somebody else's files."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "telemetry").symlink_to(tmp_path / "elsewhere")
    lines = Lines(tmp_path / "telemetry", "scorer", lambda key, message: problems.append((key, message)))

    assert (lines.write({"a": 1}), list((tmp_path / "elsewhere").iterdir()), lines.dropped) == (False, [], 1)
    assert "set OTEL_PIPELINE_STATE_DIR to another folder" in problems[0][1]


@posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_writes_its_own_file(lines):
    """And the parent's goes on."""
    lines.write({"parent": 1})
    child = os.fork()
    if child == 0:
        os._exit(0 if lines.write({"child": 1}) else 1)
    _, status = os.waitpid(child, 0)
    lines.write({"parent": 2})

    assert (status, sorted(contents(lines))) == (0, ['{"child":1}\n', '{"parent":1}\n{"parent":2}\n'])


def test_what_cannot_be_encoded_is_dropped_alone(lines):
    """The next one is written."""
    assert [lines.write({"a": {1, 2}}), lines.write({"a": 1})] == [False, True]


@below_at_above("what lines of a process take in all, of 1 MB each", 64, (63, 0), (64, 0), (49, 16))
def test_a_process_keeps_64_mb_and_counts_what_goes(lines, size, outcome):
    """In four files, of which the oldest makes room."""
    removed = []
    lines.count_removed = lambda signal, count: removed.append((signal, count))
    line = {"a": "x" * (1024 * 1024 - 9)}
    assert all(lines.write(line, "traces", 1) for _ in range(size))

    kept = sum(path.stat().st_size for path in lines.folder.glob("*.jsonl"))
    assert (kept // 1024**2, kept % 1024**2, sum(count for _, count in removed)) == (outcome[0], 0, outcome[1])


@posix
def test_a_folder_of_another_user_is_refused(lines, problems, monkeypatch):
    """Also where everybody may write: who owns it reads and changes what is there."""
    lines.folder.mkdir(parents=True, mode=0o777)
    monkeypatch.setattr(os, "geteuid", lambda: -1)

    assert (lines.write({"a": 1}), list(lines.folder.iterdir())) == (False, [])
    assert "belongs to another user" in problems[0][1]
