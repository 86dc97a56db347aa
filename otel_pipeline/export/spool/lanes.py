"""A lane: what goes to one place, first in, first out; and what dead processes have left that goes there too."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otel_pipeline.export.destination import Signal
    from otel_pipeline.export.spool.folder import Left
    from otel_pipeline.export.spool.segments import FileSegment, Part, Segment


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
        self.appended = 0
        """Items that were appended."""
        self.settled = 0
        """Of these, those that do not wait any more, whatever became of them: they go in order."""

    def size(self, *, in_memory: bool) -> int:
        """Return how many bytes this process's own segments take, in memory or on the disk."""
        return sum(each.size for each in self.own if each.in_memory is in_memory)

    def waits(self) -> tuple[bool, bool]:
        """Return whether something of this process's own waits, and of others; what is in hand comes first."""
        if self.in_hand is not None:
            return self.in_hand.estate is None, self.in_hand.estate is not None
        return any(not each.is_taken for each in self.own), bool(self.others)

    def remove(self, segment: Segment, reason: str) -> None:
        """Drop a segment of this process; what is being sent of it has a chance yet."""
        self.own.remove(segment)
        lost = segment.items
        if self.in_hand is not None and self.in_hand.segment is segment:
            self.in_hand.removed = reason
            lost -= self.in_hand.part.items
        segment.remove()
        self.settled += max(lost, 0)
        if lost > 0:
            self.outcomes.dropped(lost, reason)
