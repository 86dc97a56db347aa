"""All that is on its way out of a process, by signal: on the disk, else in memory, bounded by bytes and by age."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.export.spool import frames
from otel_pipeline.export.spool.folder import OwnFolder, safe_name
from otel_pipeline.export.spool.lanes import Estate, Lane, Taken
from otel_pipeline.export.spool.segments import FileSegment, MemorySegment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_pipeline.export.destination import Signal
    from otel_pipeline.export.spool.lanes import Outcomes
    from otel_pipeline.export.spool.segments import Segment

SEGMENT_BYTES = 4 * 1024 * 1024
MEMORY_BYTES = 16 * 1024 * 1024
"""Of all that is kept in memory where the disk is not to be had."""
PARTS = 8
"""The whole is at least so many segments, by bytes and by age: no more than an eighth goes with the oldest."""
COMPRESS_BYTES = 256 * 1024
"""What is behind more than this is compressed: it will not leave at once."""
REUSE_BYTES = 64 * 1024
"""A file that is larger is used anew once all of it is taken."""
DISK_AGAIN_S = 1.0

FULL, MEMORY_FULL, OLD, UNREADABLE = "spool_full", "spool_memory_full", "spool_age", "spool_unreadable"
UNANSWERED = "unanswered"
"""Reasons of losses, as `error.type` has them."""


class Spool:
    """Appends batches and hands them out. Safe in any thread; a forked child begins with nothing.

    Args:
        folder: where the files lie.
        service: whose they are.
        max_bytes: of all signals of this process together.
        age_s: how old something may become.
        problem: told once of a disk that is not to be had.
        monotonic_s: the clock.
    """

    def __init__(
        self,
        folder: Path,
        service: str,
        max_bytes: int,
        age_s: float,
        problem: Callable[[str, str], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own = OwnFolder(folder, safe_name(service))
        self.max_bytes = max_bytes
        self.age_s = age_s
        self.lanes: list[Lane] = []
        self.estates: list[Estate] = []
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // PARTS)
        self._problem = problem
        self.monotonic_s = monotonic_s
        self._begin()
        forks.add(self._in_child, Step.LOCKS)

    def _begin(self) -> None:
        # Reentrant: a finalizer may end a span, and with it export, while something is appended.
        self.lock = threading.RLock()
        self._numbers = 0
        self._disk_again_s = float("-inf")

    def _in_child(self) -> None:
        """Leave the parent's files to the parent: here they are only closed."""
        for lane in self.lanes:
            for segment in (*lane.own, *(each for each, _ in lane.others), *(each.segment for each in lane.aside)):
                segment.close()
            lane.begin()
        for estate in self.estates:
            estate.left.let_go(is_empty=False)
        self.estates = []
        self.own.forget()
        self._begin()

    def lane(self, signal: Signal, digest: bytes, outcomes: Outcomes) -> Lane:
        """Add a lane."""
        made = Lane(signal, digest, outcomes)
        self.lanes.append(made)
        return made

    @property
    def largest(self) -> int:
        """Bytes of the largest batch that is taken."""
        return min(frames.MAX_PAYLOAD_BYTES, self.max_bytes // PARTS) - frames.FRAME_BYTES - frames.HEAD_BYTES

    def append(self, lane: Lane, payload: bytes, count: int) -> None:
        """Take a batch that is not larger than `largest`; the oldest goes where it has no room."""
        forks.notice()
        with self.lock:
            waits = lane.size(in_memory=False) + lane.size(in_memory=True)
            frame = frames.frame(payload, count, compress=waits > COMPRESS_BYTES)
            segment = self._to_disk(lane, frame, count) or self._to_memory(lane, frame, count)
            segment.appended_s = self.monotonic_s()
            lane.appended += count

    def _to_disk(self, lane: Lane, frame: bytes, count: int) -> Segment | None:
        now_s = self.monotonic_s()
        if now_s < self._disk_again_s:
            return None
        try:
            self._make_room(len(frame) + frames.HEAD_BYTES, self.max_bytes, FULL, in_memory=False)
            segment = self._last_file(lane, len(frame))
            if segment is None:
                segment = self._new_file(lane)
            segment.append(frame, count)
        except OSError as error:
            self._disk_again_s = now_s + DISK_AGAIN_S
            self._problem(
                "spool",
                f"telemetry that waits cannot be written to {self.own.path}: {error.strerror or error}; up to "
                f"{MEMORY_BYTES // 1024**2} MB of it are kept in memory, and lost where the process ends first",
            )
            return None
        return segment

    def _last_file(self, lane: Lane, size: int) -> FileSegment | None:
        """Return the lane's last segment, where it is a file that takes so many bytes more."""
        last = lane.own[-1] if lane.own else None
        if not isinstance(last, FileSegment) or last.is_gone():
            return None
        if last.is_taken:
            last.begun_s = self.monotonic_s()
            if last.items > 0:  # What it had and nobody has found was changed on the disk.
                lane.outcomes.dropped(last.items, UNREADABLE)
                lane.settled += last.items
                last.items = 0
            if last.size > min(REUSE_BYTES, self._segment_bytes // 2):
                last.begin_again()
        elif last.begun_s < self.monotonic_s() - self.age_s / PARTS:
            return None
        return last if last.size + size <= self._segment_bytes or last.is_taken else None

    def _new_file(self, lane: Lane) -> FileSegment:
        before = lane.own[-1] if lane.own else None
        made = self.own.make(lane.signal, lane.digest, self.next_number())
        made.begun_s = self.monotonic_s()
        lane.own.append(made)
        if isinstance(before, FileSegment) and before.is_taken and lane.in_hand is None:
            lane.own.remove(before)
            before.remove()
        elif isinstance(before, FileSegment) and not before.is_gone():
            before.close()  # Opened again when it is read: an outage is not to take a descriptor for each 4 MB.
        return made

    def _to_memory(self, lane: Lane, frame: bytes, count: int) -> Segment:
        self._make_room(len(frame), MEMORY_BYTES, MEMORY_FULL, in_memory=True)
        last = lane.own[-1] if lane.own else None
        if not isinstance(last, MemorySegment) or last.size > MEMORY_BYTES // (2 * PARTS):
            last = MemorySegment(self.next_number())
            last.begun_s = self.monotonic_s()
            lane.own.append(last)
        last.append(frame, count)
        return last

    def next_number(self) -> int:
        """Return the number of a new segment. The caller has the lock."""
        self._numbers += 1
        return self._numbers

    def _make_room(self, size: int, bound: int, reason: str, *, in_memory: bool) -> None:
        """Drop the oldest segments until so many bytes fit in; what was set aside is older than all else."""
        while sum(lane.size(in_memory=in_memory) for lane in self.lanes) + size > bound:
            aside = [
                (each.segment.number, each, lane)
                for lane in self.lanes
                for each in lane.aside
                if each.segment.in_memory is in_memory
            ]
            if aside:
                _, oldest, lane = min(aside, key=lambda each: each[0])
                lane.remove_aside(oldest, reason)
                continue
            found = [
                (segment.number, segment, lane)
                for lane in self.lanes
                for segment in lane.own
                if segment.in_memory is in_memory
            ]
            if not found:
                return
            _, segment, lane = min(found, key=lambda each: each[0])
            lane.remove(segment, reason)

    def drop_old(self) -> None:
        """Drop what has become too old."""
        old_s = self.monotonic_s() - self.age_s
        with self.lock:
            for lane in self.lanes:
                while lane.own and not lane.own[0].is_taken and lane.own[0].appended_s < old_s:
                    lane.remove(lane.own[0], OLD)
                for each in [each for each in lane.aside if each.segment.appended_s < old_s]:
                    lane.remove_aside(each, OLD)

    def take(self, lane: Lane, at_most_bytes: int) -> Taken | None:
        """Return what is to be sent next: what is in hand, else this process's own, else what others have left.

        Raises OSError where it cannot be read now.
        """
        with self.lock:
            if lane.in_hand is None:
                lane.in_hand = self.next_own(lane, at_most_bytes)
            if lane.in_hand is None:
                lane.in_hand = self.next_of_others(lane, at_most_bytes)
            return lane.in_hand

    def take_of_others(self, lane: Lane, at_most_bytes: int) -> Taken | None:
        """Return what is in hand, else what others have left. Raises OSError where it cannot be read now."""
        with self.lock:
            if lane.in_hand is None:
                lane.in_hand = self.next_of_others(lane, at_most_bytes)
            return lane.in_hand

    def next_own(self, lane: Lane, at_most_bytes: int) -> Taken | None:
        """Return what comes next of this process's own. The caller has the lock. Raises OSError."""
        while lane.own:
            segment = lane.own[0]
            try:
                part = segment.part(at_most_bytes)
            except FileNotFoundError:
                lane.remove(segment, UNREADABLE)
                continue
            if part is not None:
                return Taken(segment, part, None)
            if len(lane.own) == 1 and not segment.in_memory and not segment.is_gone():
                return None  # It is written to.
            # What it had and nobody has seen was changed on the disk.
            lane.remove(segment, UNREADABLE)
        return None

    def next_of_others(self, lane: Lane, at_most_bytes: int) -> Taken | None:
        """Return what comes next of what others have left. The caller has the lock. Raises OSError."""
        while lane.others:
            segment, estate = lane.others[0]
            try:
                part = segment.part(at_most_bytes)
            except FileNotFoundError:
                part = None
            if part is not None:
                return Taken(segment, part, estate)
            lane.others.popleft()
            segment.remove()
            self._close(estate)
        return None

    def _close(self, estate: Estate) -> None:
        estate.open -= 1
        if estate.open <= 0:
            estate.left.let_go(is_empty=not estate.is_kept)
            with suppress(ValueError):
                self.estates.remove(estate)

    def done(self, lane: Lane, taken: Taken) -> None:
        """Take note that all items of what is in hand are settled: it does not come again."""
        with self.lock:
            if lane.in_hand is not taken:
                return  # A forked child began meanwhile.
            lane.in_hand = None
            if taken.estate is None:
                lane.settled += taken.part.items + (0 if taken.removed else taken.part.unreadable)
            if taken.removed:
                return
            segment, unreadable = taken.segment, taken.part.unreadable
            segment.take(taken.part)
            if unreadable:
                outcomes = lane.outcomes
                (outcomes.dropped if taken.estate is None else outcomes.dropped_of_others)(unreadable, UNREADABLE)
            if taken.estate is None and segment.is_taken and segment is not lane.own[-1]:
                lane.remove(segment, UNREADABLE)

    def waits(self, lane: Lane) -> tuple[bool, bool]:
        """Return whether something waits in a lane that is this process's own, and that others have left."""
        with self.lock:
            return lane.waits()

    def put_back(self, lane: Lane, taken: Taken) -> bool:
        """Let what is in hand be taken again, in other parts; false where it stands nowhere else any more."""
        with self.lock:
            if taken.removed or taken.left < taken.part.items or lane.in_hand is not taken:
                return False
            lane.in_hand = None
            return True

    def in_memory(self, lane: Lane) -> int:
        """Return how many of a lane's items are on no disk, and end with the process."""
        with self.lock:
            waiting = sum(each.items for each in lane.own if each.in_memory or each.is_gone())
            waiting += sum(each.items for each in lane.aside if each.segment.in_memory and not each.of_others)
            taken = lane.in_hand
            return waiting + (taken.left if taken is not None and taken.removed and taken.estate is None else 0)

    def close(self) -> None:
        """Let go of all files; those that nothing is left in are deleted."""
        with self.lock:
            is_empty = True
            for lane in self.lanes:
                for segment in lane.own:
                    if segment.is_taken:
                        segment.remove()
                    else:
                        is_empty = is_empty and segment.in_memory
                        if not segment.in_memory:
                            segment.close()
                lane.own = deque(each for each in lane.own if each.in_memory)
                for aside in lane.aside:
                    is_empty = is_empty and aside.segment.in_memory
                    if not aside.segment.in_memory:
                        aside.segment.close()
                lane.aside = deque(each for each in lane.aside if each.segment.in_memory)
                for segment, _ in lane.others:
                    segment.close()
                lane.others.clear()
            for estate in self.estates:
                estate.left.let_go(is_empty=False)
            self.estates = []
            self.own.end(is_empty=is_empty)
