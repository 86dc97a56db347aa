"""The files of lines: for their user alone, bounded, one per process, and never in the way."""

from __future__ import annotations

import os
import stat
import time

import pytest

from otel_pipeline.export import otlp_lines
from otel_pipeline.export.otlp_lines import Lines

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


def test_a_full_file_takes_no_more(lines, problems, monkeypatch):
    """Counted, and said."""
    monkeypatch.setattr(otlp_lines, "MAX_FILE_BYTES", 20)
    written = [lines.write({"a": "x" * 5}) for _ in range(3)]

    assert (written, lines.dropped, contents(lines)) == ([True, False, False], 2, ['{"a":"xxxxx"}\n'])
    assert {key for key, _ in problems} == {"lines"}


def test_the_oldest_files_make_room(lines, monkeypatch):
    """Beyond the folder's size, and beyond a week."""
    lines.folder.mkdir(parents=True)
    for age, name in ((10 * 86_400, "week"), (200, "older"), (100, "newer")):
        path = lines.folder / f"{name}.jsonl"
        path.write_text("x" * 100)
        os.utime(path, (time.time() - age,) * 2)
    monkeypatch.setattr(otlp_lines, "MAX_FOLDER_BYTES", 150)
    lines.write({})

    assert sorted(path.name.split("-")[0] for path in lines.folder.iterdir()) == ["newer.jsonl", "scorer_7"]


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


def test_each_dropped_line_is_counted_by_its_signal(lines, monkeypatch):
    """When the file is full, and when a line cannot be made; what is written is not counted."""
    dropped = []
    lines.count_dropped = dropped.append
    monkeypatch.setattr(otlp_lines, "MAX_FILE_BYTES", 30)
    for request in (
        {"resourceSpans": []},
        {"resourceSpans": ["x" * 50]},
        {"resourceMetrics": {1, 2}},
        {"resourceLogs": ["x" * 50]},
    ):
        lines.write(request)

    assert (dropped, lines.dropped) == (["traces", "metrics", "logs"], 3)
