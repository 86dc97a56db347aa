"""A lane: what goes to one place, first in, first out; and what dead processes have left that goes there too."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otel_pipeline.export.destination import Signal
    from otel_pipeline.export.spool.folder import Left
    from otel_pipeline.export.spool.segments import FileSegment, Part, Segment


FIRST_ASIDE_S = 5.0
MAX_ASIDE_S = 300.0
"""How long what was set aside waits between two tries."""


class Outcomes(Protocol):
    """Is told of what is lost of a signal. Must be short, and raise nothing."""

    def dropped(self, count: int, reason: str) -> None:
        """Take note that so many are lost that this process had appended."""

    def dropped_of_others(self, count: int, reason: str) -> None:
        """Take note that so many are lost that a process had left which has ended."""


class Estate:
    """All that a process has left that has ended, and that is sent from here."""

    def __init__(self, left: Left) -> None:
        self.left = left
        self.open = 0
        """How many of its segments are not through."""
        self.is_kept = False
        """Whether some of it goes elsewhere, and is left to others."""


class Taken:
    """What is being sent of a lane. It stays here until all of its items are settled.

    Args:
        segment: where it stands.
        part: what it is.
        estate: whose it was; None for this process's own.
    """

    def __init__(self, segment: Segment, part: Part, estate: Estate | None) -> None:
        self.segment = segment
        self.part = part
        self.estate = estate
        self.left = part.items
        """Its items that are neither sent nor lost yet."""
        self.removed = ""
        """Why its segment was dropped meanwhile, all but these."""


class Aside:
    """A batch that is not taken, while those behind it are. It is tried again by itself.

    Args:
        segment: its own.
        items: how many it has.
        of_others: whether a dead process had left it.
    """

    def __init__(self, segment: Segment, items: int, *, of_others: bool) -> None:
        self.segment = segment
        self.items = items
        self.of_others = of_others
        self.tries = -1
        self.due_s = float("-inf")
        """When it is tried again, as `time.monotonic()` has it."""
        self.in_hand = False
        """Whether it is being tried."""
        self.removed = ""
        """Why it was dropped meanwhile; it has a chance yet."""

    def put_off(self, now_s: float) -> None:
        """Take note that it was tried: it waits for longer each time."""
        self.tries += 1
        self.due_s = now_s + min(MAX_ASIDE_S, FIRST_ASIDE_S * 2.0 ** min(self.tries, 10))


class Lane:
    """What goes to one place.

    Args:
        signal: what it is.
        digest: of where it goes, 8 bytes: what was left for the same digest goes there too.
        outcomes: told of losses.
    """

    def __init__(self, signal: Signal, digest: bytes, outcomes: Outcomes) -> None:
        self.signal = signal
        self.digest = digest
        self.outcomes = outcomes
        self.begin()

    def begin(self) -> None:
        """Begin with nothing."""
        self.own: deque[Segment] = deque()
        self.others: deque[tuple[FileSegment, Estate]] = deque()
        self.in_hand: Taken | None = None
        self.probe: Taken | None = None
        """What is sent before what is in hand, to see whether it is taken."""
        self.aside: deque[Aside] = deque()
        """What was set aside: the first has been for the longest time."""
        self.appended = 0
        """Items that were appended."""
        self.settled = 0
        """Of these, those that do not wait in order any more: set aside, or whatever became of them."""

    def size(self, *, in_memory: bool) -> int:
        """Return how many bytes this process's own segments take, in memory or on the disk."""
        segments = (*self.own, *(each.segment for each in self.aside))
        return sum(each.size for each in segments if each.in_memory is in_memory)

    def set_aside(self) -> int:
        """Return how many items were set aside."""
        return sum(each.items for each in tuple(self.aside))

    def waits(self) -> tuple[bool, bool]:
        """Return whether something of this process's own waits, and of others; what is in hand comes first."""
        if self.in_hand is not None:
            return self.in_hand.estate is None, self.in_hand.estate is not None
        return any(not each.is_taken for each in self.own), bool(self.others)

    def remove(self, segment: Segment, reason: str) -> None:
        """Drop a segment of this process; what is being sent of it has a chance yet."""
        self.own.remove(segment)
        lost = segment.items
        for each in (self.in_hand, self.probe):
            if each is not None and each.segment is segment:
                each.removed = reason
                lost -= each.part.items
        segment.remove()
        self.settled += max(lost, 0)
        if lost > 0:
            self.outcomes.dropped(lost, reason)

    def remove_aside(self, aside: Aside, reason: str) -> None:
        """Drop what was set aside."""
        self.aside.remove(aside)
        aside.segment.remove()
        aside.removed = reason
        if not aside.in_hand:
            (self.outcomes.dropped_of_others if aside.of_others else self.outcomes.dropped)(aside.items, reason)
