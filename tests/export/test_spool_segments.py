"""Segments: what a file holds after a kill, after a byte was changed, and when it is read by another process."""

from __future__ import annotations

import os
import random

import pytest

from otel_pipeline.export.spool import frames
from otel_pipeline.export.spool.segments import FileSegment, MemorySegment

DIGEST = b"12345678"


@pytest.fixture
def segment(tmp_path):
    return FileSegment.make(tmp_path / "a.spool", "traces", DIGEST, 1)


def batches(segment, at_most=0):
    """All that a segment gives, taken."""
    return [(part.payload, part.items) for part in parts(segment, at_most) if part.frames]


def parts(segment, at_most=0):
    """The same, with what could not be read."""
    found = []
    while (part := segment.part(at_most)) is not None:
        found.append(part)
        segment.take(part)
    return found


def opened(path):
    """As another process opens it."""
    return FileSegment.open(path, 0)


@pytest.mark.parametrize("make", ["file", "memory"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_goes_in_comes_out_in_order(segment, make, compress):
    """One by one, or as many as have room."""
    segment = segment if make == "file" else MemorySegment(1)
    for number in range(5):
        segment.append(frames.frame(b"%d" % number * 100, number, compress=compress), number)

    first = segment.part(250)
    assert (first.payload, first.items, segment.items) == (b"0" * 100 + b"1" * 100, 1, 10)
    segment.take(first)
    assert batches(segment) == [(b"%d" % number * 100, number) for number in (2, 3, 4)]
    assert (segment.is_taken, segment.items, segment.part(0)) == (True, 0, None)


def test_only_its_owner_may_read_it(segment):
    assert segment.path.stat().st_mode & 0o777 == 0o600


def test_no_link_is_followed(tmp_path):
    """Where one was planted in a segment's place."""
    (tmp_path / "aim").write_bytes(b"theirs")
    (tmp_path / "a.spool").symlink_to(tmp_path / "aim")

    for act in (lambda path: FileSegment.make(path, "traces", DIGEST, 1), opened):
        with pytest.raises(OSError):
            act(tmp_path / "a.spool")
    assert (tmp_path / "aim").read_bytes() == b"theirs"


def test_another_process_goes_on_where_one_has_ended(segment):
    """What was taken does not come again."""
    for number in range(4):
        segment.append(frames.frame(b"%d" % number, 1, compress=False), 1)
    segment.take(segment.part(2))

    head, other = opened(segment.path)
    assert (head.signal, head.digest, batches(other)) == ("traces", DIGEST, [(b"2", 1), (b"3", 1)])
    assert batches(opened(segment.path)[1]) == []


def test_a_tail_that_was_cut_off_is_ignored(segment):
    """At whatever byte the process was killed, all before it is there."""
    for number in range(3):
        segment.append(frames.frame(b"%d" % number * 50, 1, compress=False), 1)
    whole = segment.path.read_bytes()
    sizes = {}
    for size in range(frames.HEAD_BYTES, len(whole) + 1):
        cut = segment.path.with_name("cut.spool")
        cut.write_bytes(whole[:size])
        sizes.setdefault(len(batches(opened(cut)[1])), size)

    step = frames.FRAME_BYTES + 50
    assert sizes == {number: frames.HEAD_BYTES + number * step for number in range(4)}


def test_a_changed_byte_costs_no_other_batch(segment):
    """Any one of them: the batch that it is in is left out, and counted where its own head is whole."""
    for number in range(3):
        segment.append(frames.frame(b"%d" % number * 50, 7, compress=False), 7)
    whole = segment.path.read_bytes()
    step = frames.FRAME_BYTES + 50
    changed = segment.path.with_name("changed.spool")
    for at in range(frames.HEAD_BYTES, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        changed.write_bytes(damaged)
        other = opened(changed)[1]
        found = parts(other)
        hit, byte = divmod(at - frames.HEAD_BYTES, step)
        assert b"".join(part.payload for part in found) == b"".join(
            b"%d" % each * 50 for each in range(3) if each != hit
        )
        assert sum(part.items for part in found) == 14
        assert sum(part.unreadable for part in found) == 7 * (byte >= frames.FRAME_BYTES)
        other.close()


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_survived(tmp_path, seed):
    """Whatever a file holds: nothing is raised, and it ends."""
    rng = random.Random(seed)
    path = tmp_path / "noise.spool"
    path.write_bytes(frames.head("logs", DIGEST) + rng.choice([b"OTPF" * 500, b""]) + rng.randbytes(5_000))

    assert batches(opened(path)[1]) == []
    path.write_bytes(rng.randbytes(rng.randrange(40)))
    assert opened(path) is None


def test_a_frame_does_not_unpack_without_end(segment):
    """To more than a batch may have."""
    for size in (frames.MAX_PAYLOAD_BYTES, frames.MAX_PAYLOAD_BYTES + 1):
        segment.append(frames.frame(bytes(size), 1, compress=True), 1)

    found = [(len(part.payload), part.items, part.unreadable) for part in parts(segment)]
    assert found == [(16 * 1024 * 1024, 1, 0), (0, 0, 1)]


def test_a_full_disk_leaves_whole_frames(segment, monkeypatch):
    """What was written of one is taken back."""
    segment.append(frames.frame(b"one", 1, compress=False), 1)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))
    with pytest.raises(OSError, match="full"):
        segment.append(frames.frame(b"two", 1, compress=False), 1)
    monkeypatch.undo()
    segment.append(frames.frame(b"three", 1, compress=False), 1)

    assert batches(opened(segment.path)[1]) == [(b"one", 1), (b"three", 1)]
