"""What a server never takes, while it takes what is behind it, is set aside: nothing waits for it.

Whether others are taken is tried, never guessed: in an outage all stays in order.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otel_pipeline.export.spool import frames
from otel_pipeline.export.spool.lanes import Aside, Taken
from otel_pipeline.export.spool.segments import MemorySegment
from otel_pipeline.export.spool.spool import UNANSWERED, UNREADABLE

if TYPE_CHECKING:
    from otel_pipeline.export.spool.lanes import Lane
    from otel_pipeline.export.spool.segments import Part, Segment
    from otel_pipeline.export.spool.spool import Spool

MAX_ASIDE = 32
"""Batches of one lane; with one more the first is lost."""


def probe(spool: Spool, lane: Lane, taken: Taken, depth: int) -> Taken | None:
    """Return the batch that comes so many behind what is in hand, and keep it as the lane's probe; None without one."""
    with spool.lock:
        if taken.removed or lane.in_hand is not taken:
            return None
        try:
            lane.probe = _behind(spool, lane, taken, depth)
        except OSError:
            return None
        return lane.probe


def _behind(spool: Spool, lane: Lane, taken: Taken, depth: int) -> Taken | None:
    if taken.estate is not None and (own := spool.next_own(lane, 0)) is not None:
        return own if own.part.frames else None  # Their own lane is ours; what others have left is to hold up nobody.
    places = lane.others if taken.estate is not None else [(each, None) for each in lane.own]
    left = depth
    for segment, estate in tuple(places):
        part = segment.part(0, taken.part.end if segment is taken.segment else None)
        while part is not None:
            left -= 1
            if not left:
                return Taken(segment, part, estate) if part.frames else None
            part = segment.part(0, part.end)
    return None


def not_taken(spool: Spool, lane: Lane) -> None:
    """Let the probe be: it was not taken, either."""
    with spool.lock:
        found, lane.probe = lane.probe, None
        if found is not None and found.removed:
            lane.settled += found.part.items
            lane.outcomes.dropped(found.part.items, found.removed)


def set_aside(spool: Spool, lane: Lane, payload: bytes, *, probe_arrived: bool) -> int:
    """Set aside what is in hand and all before the probe; return how many items that was.

    Args:
        spool: of the lane.
        lane: whose batch in hand is not taken.
        payload: what is left of that.
        probe_arrived: whether the probe was taken; otherwise it comes next.
    """
    with spool.lock:
        taken, found, lane.probe = lane.in_hand, lane.probe, None
        if taken is None or found is None:
            return 0  # A forked child began meanwhile.
        count = _move(spool, lane, taken, payload)
        while not found.removed and (between := _next(spool, lane, found)) is not None:
            lane.in_hand = between
            count += _move(spool, lane, between, between.part.payload)
        if probe_arrived:
            lane.in_hand = found
            spool.done(lane, found)
        elif found.removed:
            lane.settled += found.part.items
            lane.outcomes.dropped(found.part.items, found.removed)
        while len(lane.aside) > MAX_ASIDE:
            lane.remove_aside(lane.aside[0], UNANSWERED)
        return count


def _next(spool: Spool, lane: Lane, found: Taken) -> Taken | None:
    """Return what comes before the probe; None where that is next."""
    between = spool.next_own(lane, 0) if found.estate is None else spool.next_of_others(lane, 0)
    if between is None or (between.segment is found.segment and between.part.end >= found.part.end):
        return None
    return between


def _move(spool: Spool, lane: Lane, taken: Taken, payload: bytes) -> int:
    """Set aside what is in hand; return how many items it has, unless it was dropped meanwhile."""
    items = taken.left
    if taken.removed:
        lane.outcomes.dropped(items, taken.removed)
    elif items:
        # Written before it is taken where it stands: who is killed in between sends it twice.
        made = Aside(_written(spool, lane, payload, taken), items, of_others=taken.estate is not None)
        made.put_off(time.monotonic())
        lane.aside.append(made)
    spool.done(lane, taken)
    return 0 if taken.removed else items


def _written(spool: Spool, lane: Lane, payload: bytes, taken: Taken) -> Segment:
    """Write it to a file of its own, which the next start finds; else to memory."""
    frame = frames.frame(payload, taken.left, compress=True)
    made: Segment
    try:
        made = spool.own.make(lane.signal, lane.digest, spool.next_number())
        made.append(frame, taken.left)
    except OSError:
        made = MemorySegment(spool.next_number())
        made.append(frame, taken.left)
    made.begun_s = made.appended_s = spool.monotonic_s() if taken.estate is not None else taken.segment.appended_s
    return made


def due(spool: Spool, lane: Lane, now_s: float) -> tuple[Aside, Part] | None:
    """Return what was set aside and is to be tried again now, and keep it in hand; None where nothing is."""
    with spool.lock:
        for aside in list(lane.aside):
            if aside.due_s > now_s:
                continue
            try:
                part = aside.segment.part(0)
            except OSError:
                part = None
            if part is None or not part.frames:
                lane.remove_aside(aside, UNREADABLE)
                continue
            aside.in_hand = True
            return aside, part
    return None


def tried(spool: Spool, lane: Lane, aside: Aside, *, is_over: bool) -> bool:
    """Take note that it was tried, and is settled or not; return whether it is lost since it was dropped meanwhile."""
    with spool.lock:
        aside.in_hand = False
        if aside.removed:
            return not is_over
        if is_over:
            lane.aside.remove(aside)
            aside.segment.remove()
        return False


def next_due_s(lane: Lane) -> float | None:
    """Return when the next one is to be tried, as `time.monotonic()` has it."""
    return min((each.due_s for each in tuple(lane.aside)), default=None)
