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
"""Batches of one lane; with one more the first is lost, if it was tried often enough, else what comes waits."""
ENOUGH_TRIES = 8
"""Of a batch that was set aside: half an hour and more."""


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


def forget(spool: Spool, lane: Lane, *, arrived: bool) -> None:
    """Let the probe be: it was not taken, either; or it has been settled, or its segment was dropped."""
    with spool.lock:
        found, lane.probe = lane.probe, None
        if found is not None and found.removed:
            lane.settled += found.part.items
            if not arrived:
                lane.outcomes.dropped(found.part.items, found.removed)


def set_aside(spool: Spool, lane: Lane, payload: bytes) -> int:
    """Set aside what is in hand; return how many items it is, 0 where there is no room for it.

    Args:
        spool: of the lane.
        lane: whose batch in hand is not taken.
        payload: what is left of that.
    """
    with spool.lock:
        taken = lane.in_hand
        if taken is None or taken.removed or not taken.left:
            return 0
        if len(lane.aside) >= MAX_ASIDE:
            if lane.aside[0].tries < ENOUGH_TRIES:
                return 0  # A server that takes some and some not: what it did not take may pass yet.
            lane.remove_aside(lane.aside[0], UNANSWERED)
        # Written before it is taken where it stands: who is killed in between sends it twice.
        made = Aside(_written(spool, lane, payload, taken), taken.left, of_others=taken.estate is not None)
        made.put_off(time.monotonic())
        lane.aside.append(made)
        spool.done(lane, taken)
        return made.items


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
