"""Tells, from the offsets of one partition at one consumer, what was passed over and what was given twice.

What lies between two offsets is compared by the numbers that producers gave (`producer_numbers.py`). The rules, by
their numbers, stand in docs/design/order.md, "The nine rules".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.destination_numbers import DestinationNumbers
from otel_pipeline.detectors.producer_numbers import MAX_ALL_PRODUCERS, MAX_PRODUCERS, ProducerNumbers, Silence
from otel_pipeline.detectors.read_log import ReadLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.detectors.producer_numbers import Room
    from otel_pipeline.engine.observer import Resumed


class PartitionOrder(ProducerNumbers):
    """What one consumer has seen of one partition. Used by the consumer's thread; its counts are read by any.

    Args:
        tag: of this destination and partition; a number with another one was given elsewhere (rule 5).
        monotonic_s: clock for `lost_after`, s.
        destination_tag: of the destination, for numbers that are given over all of its partitions.
        room: what all partitions of the process share; one of its own where none is given.
    """

    __slots__ = (
        "_awaiting",
        "_destination_numbers",
        "_left_at",
        "_reset",
        "_rewound_below",
        "_silence",
        "_sought",
        "by_destination",
        "destination_tag",
        "highest",
        "log",
        "missing_expired",
        "missing_offset_reset",
        "missing_skipped",
        "redelivered",
        "relayed",
        "rewound",
        "tag",
        "unnumbered",
        "unplaced",
    )

    def __init__(
        self, tag: int, monotonic_s: Callable[[], float], destination_tag: int = -1, room: Room | None = None
    ) -> None:
        super().__init__(monotonic_s, room)
        self.tag = tag
        self.destination_tag = destination_tag
        self._destination_numbers = DestinationNumbers(self._room)
        self.by_destination = 0
        self.unnumbered = 0
        self.unplaced = 0
        self._silence: Silence | None = None
        self._rewound_below = -1
        self._sought = False
        self._awaiting = -1
        self._left_at = -1
        """The highest offset seen when the application chose another position."""
        self._reset: tuple[int, Resumed] | None = None
        self.log = ReadLog()
        """That of the fetches, where these are followed."""
        self.highest = -2
        """The highest offset seen; below -1 while it has to be checked whether the next one follows it."""
        self.missing_skipped = 0
        self.missing_expired = 0
        self.missing_offset_reset = 0
        self.redelivered = 0
        self.rewound = 0
        self.relayed = 0

    def one(self, offset: int, producer: int, number: int, tag: int) -> None:
        """Judge a message that reached the application. Producer 0 or number 0: it brought no number.

        What nearly every message is, the next of `latest` at the next offset, `PartitionWatch.one` judges in place.
        """
        if offset != self.highest + 1 and not self._at_jump(offset):
            return
        self.highest = offset
        if producer == 0 or number == 0:
            self.unnumbered += 1
            return
        if tag != self.tag:
            self.relayed += 1
            return
        known = self._windows.get(producer)
        if known is None:
            self._add(producer, number, offset)
            return
        window = self.latest = known
        if number - window.newest == 1 and window.gaps is None:
            window.newest = number
            window.offset = offset
            window.skipped = self.skipped
        else:
            self._out_of_line(window, number, offset)

    def without_header(self, offset: int) -> None:
        """Judge a message of which only the offset is known."""
        if offset == self.highest + 1 or self._at_jump(offset):
            self.highest = offset

    def one_of_destination(self, offset: int, producer: int, number: int, tag: int) -> None:
        """Judge a message whose producer gives its numbers over all partitions of the destination."""
        if offset != self.highest + 1 and not self._at_jump(offset):
            return
        self.highest = offset
        if producer == 0 or number == 0:
            self.unnumbered += 1
            return
        if tag != self.destination_tag:
            self.relayed += 1
            return
        found = self._destination_numbers.one(producer, number, offset)
        if found == "turned away":
            self.turned_away += 1
            return
        self.by_destination += 1
        if found == "duplicate":
            self.duplicate += 1
        elif found == "reordered":
            self.reordered += 1

    def batch(self, first: int, last: int, producer: int, number: int, tag: int) -> bool:
        """Take in a whole batch in which nothing at all is remarkable; False where it has to be told one by one.

        Args:
            first: offset of the first message.
            last: offset of the last one.
            producer: of all messages.
            number: of the first message; each other one has the next, and the next offset.
            tag: of all messages.
        """
        if first != self.highest + 1 or number == 0 or tag != self.tag:
            return False
        window = self._windows.get(producer)
        if window is None or window.gaps is not None or number - window.newest != 1:
            return False
        self.highest = last
        window.newest = number + last - first
        window.offset = last
        window.skipped = self.skipped
        return True

    def sought(self) -> None:
        """Note that the application chose another position: it wants what is jumped over to be left out."""
        self._sought = True
        self._reset = None
        if self.highest >= 0:
            # The next message is looked at in any case: a seek to where it was going anyway must end here, too.
            self._left_at = self.highest
            self.highest = -2

    def assigned(self) -> None:
        """Note that the partition was taken away, and has come back (rule 6)."""
        self._back_from_seek()
        self._sought = False
        if self.highest >= 0:
            self._awaiting = self.highest
            self.highest = -2

    def out_of_range(self, offset: int, resumed: Resumed) -> None:
        """Note that the position was no longer in the log: what lies between it and the next message has not come.

        Args:
            offset: the position.
            resumed: the message that the client goes on with.
        """
        self._reset = (offset, resumed)

    def in_range(self) -> None:
        """Note that the position was found after all, at another replica."""
        self._reset = None

    def ended(self, now_s: float, lost_after_s: float) -> None:
        """Give up gaps older than `lost_after_s`: the log was read to its end (rule 7).

        Not between a seek, or a reset, and the next message: what would close them may have been jumped over.
        """
        if not self._sought and self._reset is None:
            super().ended(now_s, lost_after_s)

    def leave(self) -> None:
        """Count what is open as left so, but for what the application may have jumped over by its own wish."""
        if self._sought:
            self._begin_anew()
        else:
            super().leave()

    def look(self, now_s: float) -> None:
        """Let the silent go where there is no room for others; to be called once a second, not by the consumer."""
        followed, all_followed = max(len(self._windows), len(self._destination_numbers)), self._room.taken
        if followed <= MAX_PRODUCERS // 2 and all_followed <= MAX_ALL_PRODUCERS // 2:
            self._silence = None
            return
        silence = self._silence = self._silence or Silence()
        silent = silence.look(now_s, self.newest)
        if followed >= MAX_PRODUCERS or all_followed >= MAX_ALL_PRODUCERS:
            self.drop_silent(silent)
            self._destination_numbers.drop_silent(silent)

    @property
    def followed(self) -> int:
        """How many producers are followed."""
        return len(self._windows) + len(self._destination_numbers)

    @property
    def is_sought(self) -> bool:
        """Whether the application has chosen a position, and no message has come since."""
        return self._sought

    @property
    def newest(self) -> int:
        """Return the highest offset seen, whatever is awaited; below 0 before the first."""
        return max(self.highest, self._left_at, self._awaiting)

    def _at_jump(self, offset: int) -> bool:
        """Judge an offset that is not the next one; False when the message is not to be looked at any further."""
        highest = self._back_from_seek()
        if self._is_other_log(offset):
            self._reset, self._sought, self._awaiting, self._rewound_below = None, False, -1, -1
            self._begin_anew()
            return True
        if self._reset is not None:
            self._count_reset(*self._reset, offset, highest)
        if highest < 0:
            follows = offset == self._awaiting + 1 and self._awaiting >= 0
            self._awaiting = -1
            self._sought = False
            if not follows:
                self._rewound_below = -1
                self._begin_anew()
            return True
        if offset <= highest:
            if self._sought:
                self._sought = False
                self._rewound_below = highest
            if offset <= self._rewound_below:
                self.rewound += 1
            else:
                self.redelivered += 1
            return False
        if self._sought:
            self._sought = False
            if offset > highest + 1:
                self._begin_anew()
            return True
        self.skipped += offset - highest - 1 - self.log.markers_between(highest, offset)
        return True

    def _is_other_log(self, offset: int) -> bool:
        newest = self.newest
        moved = self.highest >= 0 and self._reset is None and not self._sought
        return offset <= newest and self.log.is_other(offset, newest, self._reset, sought=self._sought, moved=moved)

    def _count_reset(self, position: int, resumed: Resumed, offset: int, highest: int) -> None:
        """Count what a reset lost, at the first message after it: messages fetched before may still be handed out."""
        if 0 <= highest < offset < position and not self._sought:
            return
        self._reset = None
        self._sought = True
        missing = offset - max(position, highest + 1, self._awaiting + 1)
        if missing > 0:
            if resumed == "earliest":
                self.missing_expired += missing
            else:
                self.missing_offset_reset += missing

    def _back_from_seek(self) -> int:
        """Return the highest offset seen, as it was before a seek."""
        if self._left_at >= 0:
            self.highest, self._left_at = self._left_at, -1
        return self.highest

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._room.give_back(len(self._destination_numbers))
        self._destination_numbers = DestinationNumbers(self._room)


class Unordered(PartitionOrder):
    """Takes messages that the broker hands out in no order: none is to be found in them (`shared.py`)."""

    __slots__ = ()

    def one(self, offset: int, producer: int, number: int, tag: int) -> None:
        """Compare it with nothing."""

    def without_header(self, offset: int) -> None:
        """Compare it with nothing."""

    def one_of_destination(self, offset: int, producer: int, number: int, tag: int) -> None:
        """Compare it with nothing."""

    def batch(self, first: int, last: int, producer: int, number: int, tag: int) -> bool:  # noqa: ARG002
        """Compare it with nothing."""
        return True


class Unplaced(PartitionOrder):
    """Counts messages of which only headers are known: no order is to be found in them."""

    __slots__ = ()

    def one(self, offset: int, producer: int, number: int, tag: int) -> None:  # noqa: ARG002 - it has no place
        """Count it."""
        self.unplaced += 1

    def without_header(self, offset: int) -> None:  # noqa: ARG002
        """Count it."""
        self.unplaced += 1

    def one_of_destination(self, offset: int, producer: int, number: int, tag: int) -> None:  # noqa: ARG002
        """Count it."""
        self.unplaced += 1
