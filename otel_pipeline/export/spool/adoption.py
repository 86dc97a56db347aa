"""What processes of this service have left that have ended is sent by the next one, or by one beside it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.export.spool.folder import left_behind
from otel_pipeline.export.spool.lanes import Estate
from otel_pipeline.export.spool.segments import FileSegment
from otel_pipeline.export.spool.spool import FULL, OLD

if TYPE_CHECKING:
    from otel_pipeline.export.spool.lanes import Lane
    from otel_pipeline.export.spool.spool import Spool

_READ_BYTES = 1024 * 1024


class _Found(NamedTuple):
    """A segment that goes where a lane of ours leads."""

    modified_s: float
    lane: Lane
    segment: FileSegment
    estate: Estate


def adopt(spool: Spool) -> bool:
    """Take over what dead processes have left; return whether there was something. Never raises OSError."""
    found: list[_Found] = []
    for left in left_behind(spool.own, spool.age_s):
        estate = Estate(left)
        for path in left.segments:
            with suppress(OSError):
                modified_s, opened = path.stat().st_mtime, FileSegment.open(path, 0)
                lane = None if opened is None else _lane_of(spool, opened[0].signal, opened[0].digest)
                if lane is None or opened is None:
                    estate.is_kept = True
                    if opened is not None:
                        opened[1].close()
                    if time.time() - modified_s > spool.age_s:
                        path.unlink()
                    continue
                found.append(_Found(modified_s, lane, opened[1], estate))
                estate.open += 1
        if not estate.open:
            left.let_go(is_empty=not estate.is_kept)
    found.sort(key=lambda each: each.modified_s)
    kept = _within_bounds(spool, found)
    with spool.lock:
        for each in kept:
            each.segment.close()  # One descriptor at a time: it is opened again when its turn comes.
            each.lane.others.append((each.segment, each.estate))
            if each.estate not in spool.estates:
                spool.estates.append(each.estate)
    return bool(kept)


def _lane_of(spool: Spool, signal: str, digest: bytes) -> Lane | None:
    return next((lane for lane in spool.lanes if (lane.signal, lane.digest) == (signal, digest)), None)


def _within_bounds(spool: Spool, found: list[_Found]) -> list[_Found]:
    """Delete what is too old, and the oldest of what is too much; return the rest."""
    total = sum(each.segment.size for each in found)
    kept = []
    for each in found:
        reason = OLD if time.time() - each.modified_s > spool.age_s else FULL if total > spool.max_bytes else ""
        if not reason:
            kept.append(each)
            continue
        total -= each.segment.size
        lost = _items(each.segment)
        each.segment.remove()
        each.estate.open -= 1
        if not each.estate.open:
            each.estate.left.let_go(is_empty=not each.estate.is_kept)
        if lost:
            each.lane.outcomes.dropped_of_others(lost, reason)
    return kept


def _items(segment: FileSegment) -> int:
    """Count what is in a segment and was not sent."""
    count = 0
    with suppress(OSError):
        while (part := segment.part(_READ_BYTES)) is not None:
            count += part.items + part.unreadable
            segment.take(part)
    return count
