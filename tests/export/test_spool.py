"""The spool: bounded by bytes and age, with and without a disk, and what dead processes have left."""

from __future__ import annotations

import os
import random
import shutil
import time

import pytest

from otel_pipeline.export.spool import adoption, frames
from otel_pipeline.export.spool import spool as spools
from otel_pipeline.export.spool.folder import OTHERS_AGE_S
from tests.export.spools import Spooled
from tests.limits import below_at_above

NOISE = random.Random(7)


def noise(size):
    """A batch that takes so many bytes in a segment, whether compressed or not."""
    return NOISE.randbytes(size - frames.FRAME_BYTES)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def spooled(folder):
    return Spooled(folder)


def test_what_is_appended_is_on_the_disk_and_gone_when_it_was_taken(spooled):
    """Nothing is left in the end, not even the lock."""
    spooled.append(b"a", b"b", b"c")
    assert spooled.files() == ["00000001.spool"]
    assert spooled.take() == [b"a", b"b", b"c"]
    spooled.spool.close()

    assert (list(spooled.spool.own.path.iterdir()), spooled.told.lost) == ([], {})


def test_nothing_is_made_before_there_is_something(spooled, folder):
    """A process that exports nothing leaves nothing."""
    spooled.spool.close()

    assert not folder.exists()


def test_a_file_that_was_taken_is_used_anew(spooled):
    """It does not grow without end while all is taken at once."""
    for _ in range(100):
        spooled.append(noise(10_000))
        assert len(spooled.take()) == 1

    (file,) = spooled.spool.own.path.glob("*.spool")
    assert file.stat().st_size < 80_000


@below_at_above("the bytes of a spool", 8 * 10_000, [], [], ["spool_full"])
def test_the_oldest_goes_where_the_whole_is_larger(folder, size, outcome):
    """By bytes; a file of an eighth at a time."""
    spooled = Spooled(folder, max_bytes=80_000)
    eighth = 10_000 - frames.HEAD_BYTES
    batches = [noise(eighth) for _ in range(7)]
    batches.append(noise(eighth - 40_000 * 2 + size))
    spooled.append(*batches)

    assert sorted(spooled.told.lost) == outcome
    assert spooled.take() == batches[len(outcome) :]
    assert spooled.told.lost.total() == len(outcome)


@below_at_above("the age of a spool, s", 100, [b"a", b"b"], [b"a", b"b"], [b"b"])
def test_what_is_too_old_goes(spooled, size, outcome):
    """By the clock that nobody sets."""
    spooled.append(b"a")
    spooled.now_s += 50
    spooled.append(b"b")
    spooled.now_s += size - 50
    spooled.spool.drop_old()

    assert spooled.take() == outcome
    assert spooled.told.lost == ({} if len(outcome) == 2 else {"spool_age": 1})


def test_what_is_being_sent_of_a_file_that_goes_has_its_chance(folder):
    """It is counted once, whatever becomes of it."""
    spooled = Spooled(folder, max_bytes=80_000)
    spooled.append(noise(3_000), noise(3_000))
    taken = spooled.spool.take(spooled.lane, 0)
    spooled.append(*(noise(9_000) for _ in range(9)))
    assert (taken.removed, spooled.told.lost) == ("spool_full", {"spool_full": 2})  # The other one, and one more file.
    spooled.spool.done(spooled.lane, taken)

    assert len(spooled.take()) == 8
    assert spooled.lane.settled == spooled.lane.appended == 11


@below_at_above("export.spool.spool.MEMORY_BYTES", 16 * 1024 * 1024, {}, {}, {"spool_memory_full": 1})
def test_memory_is_bounded_too(folder, size, outcome, monkeypatch):
    """Where no file can be had."""
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("taken")
    monkeypatch.setattr(spools, "PARTS", 2)
    spooled = Spooled(folder, max_bytes=2**30)
    half = 8 * 1024 * 1024
    spooled.append(noise(half), noise(size - half))

    assert spooled.told.lost == outcome
    assert len(spooled.take()) == 2 - len(outcome)


def test_without_a_disk_memory_keeps_it_in_order(spooled, folder):
    """What was in a file that is gone is there as long as it is open; it is said once, and the disk is used again as soon as it is there."""
    spooled.append(b"a")
    shutil.rmtree(folder)
    folder.write_text("taken")
    spooled.append(b"b", b"c")
    in_memory = spooled.spool.in_memory(spooled.lane)
    folder.unlink()
    spooled.append(b"d")
    spooled.now_s += spools.DISK_AGAIN_S
    spooled.append(b"e")

    assert (in_memory, spooled.spool.in_memory(spooled.lane), len(spooled.problems)) == (3, 4, 1)
    assert spooled.take() == [b"a", b"b", b"c", b"d", b"e"]


def test_a_folder_that_vanishes_comes_back(spooled, folder):
    """What was open is still sent; files that were closed are lost, and counted."""
    spooled.append(*(noise(900_000) for _ in range(3)))
    assert len(spooled.files()) == 3
    shutil.rmtree(folder)
    spooled.append(b"new")

    assert len(spooled.files()) == 1
    taken = spooled.take()
    assert (len(taken), taken[-1]) == (2, b"new")
    assert spooled.told.lost == {"spool_unreadable": 2}


def test_what_was_changed_on_the_disk_is_counted(spooled):
    """To the last item."""
    spooled.append(b"a" * 50, b"b" * 50, b"c" * 50)
    (file,) = spooled.spool.own.path.glob("*.spool")
    data = bytearray(file.read_bytes())
    data[frames.HEAD_BYTES + frames.FRAME_BYTES + 50 + 3] ^= 1  # The head of the second: how many it had is not known.
    file.write_bytes(data)

    assert spooled.take() == [b"a" * 50, b"c" * 50]
    spooled.append(*(noise(900_000) for _ in range(2)))
    spooled.take()
    assert spooled.told.lost == {"spool_unreadable": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_leaves_its_parents_files_to_the_parent(spooled, folder):
    """And has its own."""
    spooled.append(b"parents")
    child = os.fork()
    if child == 0:
        try:
            spooled.append(b"childs")
            good = spooled.take() == [b"childs"] and len(spooled.files()) == 2
        except BaseException:
            good = False
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert spooled.take() == [b"parents"]


def left_by(folder, *payloads, **named):
    """A process has ended that had a spool: nothing has its lock."""
    dead = Spooled(folder, **named)
    dead.append(*payloads)
    for segment in dead.lane.own:
        segment.close()
    os.close(dead.spool.own._lock)
    dead.spool.own._lock = None


def test_what_a_dead_process_has_left_is_sent(spooled, folder):
    """After this one's own; its files are gone then."""
    left_by(folder, b"a", b"b")
    spooled.append(b"own")

    assert adoption.adopt(spooled.spool)
    assert spooled.take() == [b"own", b"a", b"b"]
    spooled.spool.close()
    assert list(folder.iterdir()) == []
    assert spooled.lane.settled == 1


@pytest.mark.parametrize("now_ns", [-1, 0, 5_000_000_000, 999_999_999_999_999])
def test_what_was_left_before_the_clock_was_set_is_sent(spooled, folder, now_ns, monkeypatch):
    """A machine without a clock of its own starts in 1970."""
    with monkeypatch.context() as patched:
        patched.setattr("otel_pipeline.export.spool.folder.time.time_ns", lambda: now_ns)
        left_by(folder, b"a")

    assert adoption.adopt(spooled.spool)
    assert spooled.take() == [b"a"]
    spooled.spool.close()
    assert list(folder.iterdir()) == []


@below_at_above("export.spool.segments.MAX_FILE_BYTES", 33_554_432, True, True, False)
def test_a_file_that_no_process_of_ours_has_made_so_large_is_not_read(spooled, folder, size, outcome):
    """The file system was damaged: it would be read into the application's memory."""
    left_by(folder, b"a")
    (path,) = folder.glob("*.spool")
    os.truncate(path, size)
    spooled.spool.max_bytes = 2 * size

    assert adoption.adopt(spooled.spool) is outcome
    assert spooled.take() == [b"a"] * outcome
    assert path.exists() is not outcome


def test_what_is_somebody_elses_stays(spooled, folder):
    """A live process's, another service's, what goes to another place."""
    live = Spooled(folder)
    live.append(b"live")
    left_by(folder, b"service", service="other")
    left_by(folder, b"place", digest=b"another.")
    left_by(folder, b"signal", signal="logs")

    assert not adoption.adopt(spooled.spool)
    assert (spooled.take(), len(spooled.files())) == ([], 4)
    assert live.take() == [b"live"]


def test_two_do_not_take_the_same(folder):
    """Who is first has it until it ends; then the other one goes on."""
    left_by(folder, b"a", b"b")
    first, second = Spooled(folder), Spooled(folder)

    assert [adoption.adopt(each.spool) for each in (first, second)] == [True, False]
    taken = first.spool.take(first.lane, 0)
    first.spool.done(first.lane, taken)
    first.spool.close()
    assert adoption.adopt(second.spool)
    assert (taken.part.payload, second.take()) == (b"a", [b"b"])


@below_at_above("the age of what was left, s", 100, {}, {"spool_age": 2}, {"spool_age": 2}, step=50)
def test_what_was_left_too_long_ago_is_dropped(spooled, folder, size, outcome):
    """By the file's time, and counted."""
    left_by(folder, b"a", b"b")
    for file in folder.iterdir():
        os.utime(file, (time.time() - size - 0.5,) * 2)

    assert adoption.adopt(spooled.spool) is (not outcome)
    assert spooled.told.lost_of_others == outcome
    assert len(spooled.take()) == (0 if outcome else 2)


@below_at_above("export.spool.folder.OTHERS_AGE_S", 7 * 86_400, 1, 0, 0, step=60)
def test_nobody_comes_back_for_it(spooled, folder, size, outcome):
    """Of other services, files are deleted after a week."""
    left_by(folder, b"a", service="other")
    assert OTHERS_AGE_S == 7 * 86_400
    for file in folder.iterdir():
        os.utime(file, (time.time() - size - 0.5,) * 2)
    adoption.adopt(spooled.spool)

    assert len(spooled.files()) == outcome


def test_of_too_much_that_was_left_the_oldest_goes(folder):
    """A process that crashes again and again does not fill the disk."""
    for number in range(3):
        before = set(folder.glob("*.spool"))
        left_by(folder, noise(5_000), noise(5_000), max_bytes=200_000)
        (newest,) = set(folder.glob("*.spool")) - before
        os.utime(newest, (time.time() - 60 + number,) * 2)
    spooled = Spooled(folder, max_bytes=25_000)

    assert adoption.adopt(spooled.spool)
    assert (spooled.told.lost_of_others, len(spooled.take())) == ({"spool_full": 2}, 4)


def test_only_files_of_our_own_name_are_touched(spooled, folder):
    """Whatever lies there."""
    left_by(folder, b"a")
    strangers = {"notes.spool": b"x", "app-1-2.lock": b"", "app-x-1234567890123.lock": b"", "data.jsonl": b"y"}
    for name, content in strangers.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (1, 1))
    assert adoption.adopt(spooled.spool)
    spooled.take()
    spooled.spool.close()

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == strangers


def test_what_comes_after_the_end_is_for_the_next_start(spooled, folder):
    """As a log record of a late `atexit` handler is."""
    spooled.append(b"a")
    spooled.take()
    spooled.spool.close()
    spooled.append(b"late")
    spooled.spool.close()
    other = Spooled(folder)

    assert spooled.problems == []
    assert adoption.adopt(other.spool)
    assert other.take() == [b"late"]
