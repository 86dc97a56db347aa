"""The state file: replaced whole, for its user alone, with a lock that tells whether its process lives."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time

import pytest

from otel_pipeline.verdict.state_file import StateFile
from otel_pipeline.verdict.state_reader import read, read_all
from tests.limits import below_at_above

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and forks of POSIX")


@pytest.fixture
def problems():
    return {}


@pytest.fixture
def document():
    process = {"pid": 1, "service": "scorer", "environment": None}
    return {
        "schema": 2,
        "ok": True,
        "written_at": "2026-11-23T11:40:01.200Z",
        "ended_at": None,
        "interval_s": 1,
        "process": process,
        "reason": "",
        "flows": [],
        "producers": [],
    }


def make(folder, problems, **arguments):
    return StateFile(folder, "my service/1", "abcdefgh-1234", problems.__setitem__, **arguments)


def test_what_is_written_is_read(tmp_path, problems, document):
    """By a reader that sees it is alive."""
    file = make(tmp_path / "health", problems)
    file.write(document)
    (found,) = read_all(tmp_path / "health")

    assert (found.document, found.alive, found.silent, problems) == (document, True, False, {})
    assert found.path.name == f"my_service_1-{os.getpid()}-abcdefgh.json"
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "health").stat().st_mode) == 0o700
    file.close()


def test_a_process_that_leaves_in_order_leaves_nothing(tmp_path, problems, document):
    """No file, no lock; and it does not come back."""
    file = make(tmp_path, problems)
    file.write(document)
    file.close()
    file.write(document)

    assert list(tmp_path.iterdir()) == []


def test_a_process_that_leaves_in_order_leaves_its_last_document(tmp_path, problems, document):
    """With the time of its end; no lock, and nothing is written any more."""
    file = make(tmp_path, problems)
    file.write(document)
    file.close(json.dumps({**document, "ended_at": "2026-11-23T11:40:02.000Z"}))
    file.write(document)
    (found,) = read_all(tmp_path)

    assert (found.alive, found.ended, found.silent, len(list(tmp_path.iterdir()))) == (False, True, False, 1)


def test_what_is_said_at_the_end_alone_is_kept(tmp_path, problems, document):
    """Of a process that has sent its first message within its last second."""
    make(tmp_path, problems).close(json.dumps({**document, "ended_at": "2026-11-23T11:40:02.000Z"}))

    assert [each.ended for each in read_all(tmp_path)] == [True]


def test_a_lock_that_is_free_means_that_the_process_died(tmp_path, problems, document):
    """The file stays for a day, so that somebody sees it."""
    file = make(tmp_path, problems)
    file.write(document)
    file.forget_lock()
    (found,) = read_all(tmp_path)

    assert (found.alive, found.silent) == (False, False)


def test_a_living_process_whose_file_is_old_does_not_answer(tmp_path, problems, document):
    """Its interpreter hangs."""
    file = make(tmp_path, problems)
    file.write(document)
    (found,) = read_all(tmp_path)
    old = found.path.stat().st_mtime - 20
    os.utime(found.path, (old, old))
    (found,) = read_all(tmp_path)

    assert (found.alive, found.silent) == (True, True)
    file.close()


@below_at_above("verdict.state_file.KEPT_S", 86_400, 2, 1, 1, step=60)
def test_files_of_the_dead_are_removed_after_a_day(tmp_path, problems, document, size, outcome):
    """By the next process that starts."""
    dead = make(tmp_path, problems)
    dead.write(document)
    dead.forget_lock()
    (found,) = read_all(tmp_path)
    old = time.time() - size
    os.utime(found.path, (old, old))
    other = StateFile(tmp_path, "other", "1", problems.__setitem__)
    other.write(document)

    assert len(read_all(tmp_path)) == outcome
    assert (tmp_path / f"other-{os.getpid()}-1.json").exists()
    other.close()


@below_at_above("verdict.state_file.MAX_KEPT", 200, 199, 200, 200)
def test_so_many_files_of_the_dead_are_kept(tmp_path, problems, document, size, outcome):
    """The newest; a running process is none of them, however long it has not written."""
    running = make(tmp_path, problems)
    running.write(document)
    (found,) = read_all(tmp_path)
    os.utime(found.path, (time.time() - 5_000, time.time() - 5_000))
    text = json.dumps({**document, "ended_at": document["written_at"]}, separators=(",", ":"))
    for at in range(size):
        path = tmp_path / f"job-{at}-abcdefgh.json"
        path.write_text(text)
        os.utime(path, (time.time() - 4_000 + at, time.time() - 4_000 + at))
    other = StateFile(tmp_path, "other", "1", problems.__setitem__)
    other.write(document)
    left = {each.path.name for each in read_all(tmp_path)} - {found.path.name, f"other-{os.getpid()}-1.json"}

    assert (len(left), found.path.exists()) == (outcome, True)
    assert left == {f"job-{at}-abcdefgh.json" for at in range(size - outcome, size)}
    other.close()
    running.close()


def test_a_forked_child_has_a_file_of_its_own_and_gives_the_parents_lock_back(tmp_path, problems, document):
    """Else a killed parent would look alive for as long as its child does."""
    file = make(tmp_path, problems)
    file.write(document)
    go_read, go_write = os.pipe()
    told_read, told_write = os.pipe()
    child = os.fork()
    if child == 0:
        file.write(document)
        os.write(told_write, b"x")
        os.read(go_read, 1)
        os._exit(0)
    os.read(told_read, 1)
    names = {each.path.name.split("-")[1]: each.alive for each in read_all(tmp_path)}
    file.forget_lock()
    after = {each.path.name.split("-")[1]: each.alive for each in read_all(tmp_path)}
    os.write(go_write, b"x")
    os.waitpid(child, 0)

    assert names == {str(os.getpid()): True, str(child): True}
    assert after == {str(os.getpid()): False, str(child): True}


def test_links_are_not_followed(tmp_path, problems, document):
    """Neither to write nor to read."""
    (tmp_path / "health").mkdir()
    target = tmp_path / "precious"
    target.write_text(json.dumps(document))
    (tmp_path / "health" / f"my_service_1-{os.getpid()}-abcdefgh.json.lock").symlink_to(target)
    (tmp_path / "health" / "other.json").symlink_to(target)
    make(tmp_path / "health", problems).write(document)

    assert read(tmp_path / "health" / "other.json") is None
    assert target.read_text() == json.dumps(document)
    assert list(problems) == ["state_file"]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, problems, document):
    """And hurts nobody."""
    (tmp_path / "health").write_text("in the way")
    file = make(tmp_path / "health", problems)
    file.write(document)
    file.write(document)

    assert list(problems) == ["state_file"]
    assert "health cannot be written to" in problems["state_file"]


def test_the_configuration_may_name_a_file(tmp_path, problems, document):
    """Its folder is made."""
    file = make(tmp_path, problems, path=tmp_path / "own" / "health.json")
    file.write(document)

    assert read(tmp_path / "own" / "health.json").alive
    file.close()


def test_a_folder_that_vanished_comes_back(tmp_path, problems, document):
    """With the next look at everything, and alive."""
    file = make(tmp_path / "health", problems)
    file.write(document)
    shutil.rmtree(tmp_path / "health")
    file.write(document)

    assert ([each.alive for each in read_all(tmp_path / "health")], problems) == ([True], {})
    file.close()


def test_a_folder_that_can_be_written_to_again_is_used(tmp_path, problems, document):
    """What went wrong is tried again from the beginning."""
    (tmp_path / "health").write_text("in the way")
    file = make(tmp_path / "health", problems)
    file.write(document)
    (tmp_path / "health").unlink()
    file.write(document)

    assert [each.alive for each in read_all(tmp_path / "health")] == [True]
    file.close()


@pytest.mark.parametrize("taken", ["poetry.json", "poetry.json.lock"])
def test_a_named_file_that_is_somebody_elses_is_left_alone(tmp_path, problems, document, taken):
    """Said once; and nothing of it is gone when the process leaves."""
    (tmp_path / taken).write_text("precious")
    (tmp_path / "poetry.lock").write_text("precious")
    file = make(tmp_path, problems, path=tmp_path / "poetry.json")
    for _ in range(2):
        file.write(document)
    file.close()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        taken: "precious",
        "poetry.lock": "precious",
    }
    assert list(problems) == ["state_file"]


def test_housekeeping_leaves_what_is_not_ours(tmp_path, problems, document):
    """Files of other programs, however old; of our name, what has another's content."""
    theirs = {
        "users-own.json": '{"mine": true}',
        "orders-2024-01.json": '{"mine": true}',
        "users-own.lock": "poetry",
        "orders-2024-01.json.lock": "poetry",
        "orders.json.7.part": "poetry",
    }
    ours = {
        "scorer-7-abcdefgh.json": json.dumps(document, separators=(",", ":")),
        "scorer-7-abcdefgh.json.lock": "",
        "scorer-7-abcdefgh.json.7.part": "",
        "features-8-abcdefgh.json.lock": "",
    }
    for name, content in {**theirs, **ours}.items():
        (tmp_path / name).write_text(content)
        os.utime(tmp_path / name, (1, 1))
    file = make(tmp_path, problems)
    file.write(document)
    file.close()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == theirs


def test_text_that_cannot_be_encoded_is_replaced(tmp_path, problems, document):
    """A lone surrogate in a name keeps nothing from being written."""
    file = make(tmp_path, problems)
    file.write({**document, "reason": "\udcff"})
    (found,) = read_all(tmp_path)

    assert (found.document["reason"], problems) == ("\udcff", {})
    file.close()


@below_at_above("verdict.state_file.MISSED", 3, 0, 1, 1)
def test_a_named_file_tells_of_one_process(tmp_path, problems, document, size, outcome):
    """As of gunicorn's workers: the first that has it; said to the others, who take over when it is gone."""
    first, second = (make(tmp_path, problems, path=tmp_path / "health.json") for _ in range(2))
    first.write({**document, "reason": "first"})
    for _ in range(size):
        second.write({**document, "reason": "second"})
    told = [read(tmp_path / "health.json").document["reason"], len(problems)]
    first.close()
    left = [path.name for path in tmp_path.iterdir()]
    second.write({**document, "reason": "second"})

    assert (told, left) == (["first", outcome], [])
    assert read(tmp_path / "health.json").document["reason"] == "second"
    second.close()


def test_who_was_not_in_a_named_file_leaves_it_as_it_is(tmp_path, problems, document):
    """It is the other one's."""
    first, second = (make(tmp_path, problems, path=tmp_path / "health.json") for _ in range(2))
    first.write(document)
    second.write(document)
    second.close()

    assert read(tmp_path / "health.json").alive
    first.close()
