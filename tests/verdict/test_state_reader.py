"""Whatever lies among the state files is read, or left out: nothing raises, and nothing is waited for."""

from __future__ import annotations

import json
import os

import pytest

from otel_pipeline import own_files
from otel_pipeline.verdict import state_file, state_reader
from otel_pipeline.verdict.state_reader import read, read_all
from tests.limits import below_at_above

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and locks of POSIX")

LIGHT = {"state": "green", "why": "", "look": None, "figures": {"n": 1, "none": None, "word": "x"}}
FLOW = {"destination": "orders", "group": None, "cluster": None, "state": "green", "lights": {"order": LIGHT}}
PROCESS = {"pid": 1, "service": "scorer", "environment": None}
SENT = {name: value for name, value in FLOW.items() if name != "group"}
DOCUMENT = {
    "schema": 2,
    "ok": True,
    "written_at": "2026-11-23T11:40:01.200Z",
    "ended_at": None,
    "interval_s": 1,
    "process": PROCESS,
    "reason": "",
    "flows": [FLOW],
    "producers": [SENT],
}
WRONG = {
    "schema": [1, None],
    "ok": [None, "yes"],
    "interval_s": [None, "1", [], 1e16, float("nan"), float("inf")],
    "clock_bound_s": ["1", 1e16],
    "reason": [None, 1],
    "written_at": [None, 1],
    "ended_at": [1, []],
    "producers": [None, 3, [5], [{}], [{**SENT, "destination": None}], [{**SENT, "lights": {"delivered": 5}}]],
    "process": [None, [], {}, {**PROCESS, "pid": "1"}, {**PROCESS, "service": 5}, {**PROCESS, "environment": []}],
    "flows": [
        None,
        3,
        [5],
        [{}],
        [{**FLOW, "destination": None}],
        [{**FLOW, "lights": []}],
        [{**FLOW, "lights": {"order": 5}}],
        [{**FLOW, "lights": {"order": {**LIGHT, "figures": 5}}}],
        [{**FLOW, "lights": {"order": {**LIGHT, "why": 5}}}],
    ],
}


def test_a_whole_document_is_read(tmp_path):
    """And what it has besides."""
    (tmp_path / "x.json").write_text(json.dumps({**DOCUMENT, "later": {"a": 1}}))

    assert [each.document for each in read_all(tmp_path)] == [{**DOCUMENT, "later": {"a": 1}}]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "5", "null", "[" * 200_000, '{"schema":2}'])
def test_what_is_no_document_is_left_out(tmp_path, content):
    """Cut, empty, of somebody else, nested without end."""
    (tmp_path / "x.json").write_text(content)

    assert read_all(tmp_path) == []


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_is_of_another_kind_is_left_out(tmp_path, name, value):
    """Each part that is read of it."""
    (tmp_path / "x.json").write_text(json.dumps({**DOCUMENT, name: value}))

    assert read_all(tmp_path) == []


@pytest.mark.parametrize("name", sorted(DOCUMENT))
def test_what_lacks_a_part_is_left_out(tmp_path, name):
    """Each part that is read of it."""
    (tmp_path / "x.json").write_text(json.dumps({part: DOCUMENT[part] for part in DOCUMENT if part != name}))

    assert read_all(tmp_path) == []


@pytest.mark.parametrize("name", [*PROCESS, *FLOW, *LIGHT])
def test_what_lacks_a_part_of_a_part_is_left_out(tmp_path, name):
    """Also what may be nothing has to be there."""

    def without(part):
        return {each: part[each] for each in part if each != name}

    flow = without({**FLOW, "lights": {"order": without(LIGHT)}})
    (tmp_path / "x.json").write_text(json.dumps({**DOCUMENT, "process": without(PROCESS), "flows": [flow]}))

    assert read_all(tmp_path) == []


@pytest.mark.parametrize("name", ["x.json", "x.json.lock"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    """In the place of the file, or of its lock."""
    (tmp_path / "x.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)

    assert [each.alive for each in read_all(tmp_path)] == ([] if name == "x.json" else [False])


@pytest.mark.parametrize("folder", ["nowhere", "file"])
def test_where_no_folder_is_nobody_is(tmp_path, folder):
    """Not an error."""
    (tmp_path / "file").write_text("")

    assert read_all(tmp_path / folder) == []


@pytest.mark.parametrize(("age_s", "alive"), [(4.0, True), (60.0, False)])
def test_without_locks_a_process_lives_while_it_writes(tmp_path, monkeypatch, age_s, alive):
    """As on some network file systems."""

    def no_lock(*_arguments):
        raise OSError(95, "not supported")

    monkeypatch.setattr(own_files.fcntl, "flock", no_lock)
    problems = {}
    file = state_file.StateFile(tmp_path, "scorer", "1", problems.__setitem__)
    file.write(DOCUMENT)
    (path,) = tmp_path.glob("*.json")
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)

    assert (read(path).alive, problems) == (alive, {})
    file.close()
    assert list(tmp_path.iterdir()) == []


@below_at_above("verdict.state_reader.MAX_BYTES", 4_000_000, True, True, False)
def test_the_size_of_a_file(tmp_path, size, outcome):
    """What is larger is nobody's state."""
    text = json.dumps({**DOCUMENT, "x": ""})
    (tmp_path / "x.json").write_text(json.dumps({**DOCUMENT, "x": "a" * (size - len(text))}))

    assert bool(read_all(tmp_path)) is outcome


@below_at_above("verdict.state_reader.MAX_DEPTH", 12, True, True, False)
def test_the_depth_of_a_document(tmp_path, size, outcome):
    """Containers one in another, the document itself counted."""
    nested = 1
    for _ in range(size - 1):
        nested = [nested]
    (tmp_path / "x.json").write_text(json.dumps({**DOCUMENT, "x": nested}))

    assert bool(read_all(tmp_path)) is outcome


@below_at_above("verdict.state_reader.MAX_NUMBER", 1e15, True, True, False)
def test_the_largest_time(tmp_path, size, outcome):
    """It is shown, and reckoned with."""
    (tmp_path / "x.json").write_text(json.dumps({**DOCUMENT, "interval_s": size, "clock_bound_s": size}))

    assert bool(read_all(tmp_path)) is outcome


def test_a_state_file_of_the_most_flows_is_read():
    """With the longest names: the limit leaves room."""
    text = "x" * 249
    light = {"state": "green", "why": text, "look": text, "since": text[:24], "n": 1, "window_s": 1.0}
    flow = {**FLOW, "destination": text, "group": text, "cluster": text[:22]}
    flow["lights"] = {name: {**light, "figures": {str(number): 1.0 for number in range(20)}} for name in "12345"}

    assert len(json.dumps({**DOCUMENT, "flows": [flow] * 220})) < state_reader.MAX_BYTES / 2
