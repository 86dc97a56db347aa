"""Segments: what was appended, in order, in a file or, where no file can be had, in memory. The caller has the lock."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from otel_pipeline.export.spool import frames
from otel_pipeline.own_files import FLAGS, is_gone

if TYPE_CHECKING:
    from pathlib import Path

    from otel_pipeline.export.destination import Signal

MAX_FILE_BYTES = 32 * 1024 * 1024
"""A larger file is none of ours: a damaged file system has made it so. What is no frame of it would be read at once."""
_READ_BYTES = 256 * 1024
"""At once. What one frame needs is read as a whole."""


class Part(NamedTuple):
    """Batches that follow each other in a segment, to be sent together."""

    payload: bytes
    """One export request: those of OTLP can be put behind each other."""
    items: int
    frames: int
    end: int
    """Where in the segment it ends."""
    unreadable: int = 0
    """Items of frames before or among these that cannot be read any more."""


class Segment(Protocol):
    """What was appended, in order."""

    number: int
    """Later ones have higher numbers, over all signals of a process."""
    size: int
    """Bytes that it takes."""
    items: int
    """Of those not taken yet."""
    begun_s: float
    """When it was begun, as `time.monotonic()` has it."""
    appended_s: float
    """When something was last appended to it."""
    in_memory: bool

    def append(self, frame: bytes, count: int) -> None:
        """Append a frame, or nothing of it. Raises OSError where that cannot be done."""

    def part(self, at_most_bytes: int, after: int | None = None) -> Part | None:
        """Return what comes next: one batch, and as many more as have room; None where all was taken.

        `after` is the end of another part: then it is what comes behind that one.
        """

    def take(self, part: Part) -> None:
        """Take what `part` has returned: it does not come again."""

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left in it."""

    def remove(self) -> None:
        """Delete it."""

    def close(self) -> None:
        """Let go of it; on the disk it stays."""

    def is_gone(self) -> bool:
        """Tell whether somebody has deleted it."""


class FileSegment:
    """A segment in a file of ours.

    Args:
        path: of the file.
        descriptor: of the file, open for reading and writing.
        number: its place among the others.
        taken_to: up to which byte it has been taken.
        size: of the file, bytes.
    """

    in_memory = False

    def __init__(self, path: Path, descriptor: int, number: int, *, taken_to: int, size: int) -> None:
        self.path = path
        self.number = number
        self.size = size
        self.items = 0
        self.begun_s = self.appended_s = 0.0
        self._descriptor: int | None = descriptor
        self._taken_to = taken_to

    @classmethod
    def make(cls, path: Path, signal: Signal, digest: bytes, number: int) -> FileSegment:
        """Make a new file. Raises OSError where that cannot be done."""
        descriptor = os.open(path, FLAGS | os.O_RDWR | os.O_EXCL, 0o600)
        head = frames.head(signal, digest)
        written = -1
        try:
            written = os.write(descriptor, head)
        finally:
            if written < len(head):
                os.close(descriptor)
                with suppress(OSError):
                    path.unlink()
        if written < len(head):
            raise OSError("the disk is full")
        return cls(path, descriptor, number, taken_to=len(head), size=len(head))

    @classmethod
    def open(cls, path: Path, number: int) -> tuple[frames.Head, FileSegment] | None:
        """Open a file that another process has left; None where it is no segment that we know."""
        descriptor = os.open(path, (FLAGS & ~os.O_CREAT) | os.O_RDWR)
        head = frames.read_head(_read(descriptor, 0, frames.HEAD_BYTES))
        size = os.fstat(descriptor).st_size
        if head is None or size > MAX_FILE_BYTES:
            os.close(descriptor)
            return None
        return head, cls(path, descriptor, number, taken_to=min(head.taken_to, size), size=size)

    def append(self, frame: bytes, count: int) -> None:
        """Append a frame, or nothing of it. Raises OSError where that cannot be done."""
        descriptor = self._opened()
        written = 0
        try:
            os.lseek(descriptor, self.size, os.SEEK_SET)
            written = os.write(descriptor, frame)
        finally:
            if written < len(frame):
                # A frame that is cut short would hide all behind it.
                with suppress(OSError):
                    os.ftruncate(descriptor, self.size)
        if written < len(frame):
            raise OSError("the disk is full")
        self.size += written
        self.items += count

    def part(self, at_most_bytes: int, after: int | None = None) -> Part | None:
        """Return what comes next, or behind another part; None where all was taken.

        Raises OSError where the file cannot be read.
        """
        begin = self._taken_to if after is None else after
        window = _Window(self._opened(), self.size)
        payloads: list[bytes] = []
        at, room, count, unreadable = begin, at_most_bytes, 0, 0
        while at < self.size:
            frame = window.frame(at)
            if frame is None:
                at = window.next_frame(at)
                continue
            if payloads and (frame.payload is None or len(frame.payload) > room):
                break
            at = frame.end
            if frame.payload is None:
                unreadable += frame.items
                continue
            payloads.append(frame.payload)
            count, room = count + frame.items, room - len(frame.payload)
        if at == begin:
            return None
        return Part(b"".join(payloads), count, len(payloads), at, unreadable)

    def take(self, part: Part) -> None:
        """Take what `part` has returned: it does not come again, in no process."""
        self._taken_to = part.end
        self.items -= part.items + part.unreadable
        with suppress(OSError):  # Then it may be sent twice.
            descriptor = self._opened()
            os.lseek(descriptor, frames.TAKEN_AT, os.SEEK_SET)
            os.write(descriptor, frames.taken(part.end))

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left in it."""
        return self._taken_to >= self.size

    def begin_again(self) -> None:
        """Use the file anew, of which all has been taken. Raises OSError where that cannot be done."""
        descriptor = self._opened()
        # In this order: who is killed in between has sent nothing twice.
        os.ftruncate(descriptor, frames.HEAD_BYTES)
        os.lseek(descriptor, frames.TAKEN_AT, os.SEEK_SET)
        os.write(descriptor, frames.taken(frames.HEAD_BYTES))
        self.size = self._taken_to = frames.HEAD_BYTES

    def remove(self) -> None:
        """Delete the file."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of the file; it is opened again where it is read."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def is_gone(self) -> bool:
        """Tell whether somebody has deleted the file."""
        return self._descriptor is not None and is_gone(self._descriptor)

    def _opened(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, (FLAGS & ~os.O_CREAT) | os.O_RDWR)
        return self._descriptor


class _Window:
    """A file, of which is read what is looked at."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._begin = 0
        self._found = b""

    def frame(self, at: int) -> frames.Frame | None:
        """Return the frame that begins at a byte; None where no whole one does."""
        self._cover(at, frames.FRAME_BYTES)
        whole = frames.whole_bytes(self._found, at - self._begin)
        if whole is None or at + whole > self._size:
            return None
        self._cover(at, whole)
        frame = frames.read_frame(self._found, at - self._begin)
        return None if frame is None else frame._replace(end=self._begin + frame.end)

    def next_frame(self, at: int) -> int:
        """Return where the next frame begins, or the file's end."""
        self._cover(at, self._size - at)
        following = frames.next_frame(self._found, at - self._begin)
        return self._size if following is None else self._begin + following

    def _cover(self, at: int, size: int) -> None:
        if at + size > self._begin + len(self._found):
            self._begin, self._found = at, _read(self._descriptor, at, min(max(size, _READ_BYTES), self._size - at))


class MemorySegment:
    """A segment in memory, where the disk is not to be had."""

    in_memory = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = 0
        self.items = 0
        self.begun_s = self.appended_s = 0.0
        self._frames: deque[tuple[bytes, int]] = deque()
        self._taken = 0

    def append(self, frame: bytes, count: int) -> None:
        """Append a frame."""
        self._frames.append((frame, count))
        self.size += len(frame)
        self.items += count

    def part(self, at_most_bytes: int, after: int | None = None) -> Part | None:
        """Return what comes next, or behind another part; None where all was taken."""
        payloads: list[bytes] = []
        count, room = 0, at_most_bytes
        passed = 0 if after is None else after - self._taken
        for held, items in islice(self._frames, passed, None):
            frame = frames.read_frame(held, 0)
            payload = frame.payload if frame is not None else None
            if payload is None or (payloads and len(payload) > room):
                break
            payloads.append(payload)
            count, room = count + items, room - len(payload)
        if not payloads:
            return None
        return Part(b"".join(payloads), count, len(payloads), self._taken + passed + len(payloads))

    def take(self, part: Part) -> None:
        """Take what `part` has returned."""
        for _ in range(part.end - self._taken):
            held, items = self._frames.popleft()
            self.size -= len(held)
            self.items -= items
        self._taken = part.end

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left in it."""
        return not self._frames

    def remove(self) -> None:
        """Forget what is left in it."""
        self._frames.clear()

    close = remove

    def is_gone(self) -> bool:
        """Return false: nobody else can reach it."""
        return False


def _read(descriptor: int, at: int, size: int) -> bytes:
    os.lseek(descriptor, at, os.SEEK_SET)
    found = os.read(descriptor, size)
    while len(found) < size:
        more = os.read(descriptor, size - len(found))
        if not more:
            break
        found += more
    return found
