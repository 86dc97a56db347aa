"""Numbers that a producer gives over all partitions of a destination, so that one partition sees some of them.

A jump means nothing here: the numbers between may be in other partitions. A number that comes again is a duplicate, and
one below a number that has come, for the first time, is out of order, as everywhere
(docs/design/order.md, "Where the number is given").
"""

from __future__ import annotations

from typing import Literal

from otel_pipeline.detectors.producer_numbers import MAX_PRODUCERS, Room
from otel_pipeline.detectors.producer_window import NUMBERS

WINDOW = 1024
_HALF = NUMBERS // 2
_ALL = (1 << WINDOW) - 1

Found = Literal["duplicate", "reordered", "turned away"]


class _Window:
    """The last numbers of one producer that came. Bit 0 stands for the newest."""

    __slots__ = ("arrived", "first", "newest", "offset")

    def __init__(self, number: int, offset: int) -> None:
        self.first = self.newest = number
        self.offset = offset
        self.arrived = 1


class DestinationNumbers:
    """What has come of each producer in one partition. Used by the consumer's thread; `drop_silent` by any."""

    __slots__ = ("_room", "_windows")

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room()
        self._windows: dict[int, _Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def one(self, producer: int, number: int, offset: int) -> Found | None:
        """Judge a number that has come; None where it is a newer one, or the producer's first."""
        window = self._windows.get(producer)
        if window is None:
            if len(self._windows) >= MAX_PRODUCERS or not self._room.take():
                return "turned away"
            self._windows[producer] = _Window(number, offset)
            return None
        ahead = (number - window.newest) % NUMBERS
        if 0 < ahead <= _HALF:
            window.arrived = (window.arrived << ahead | 1) & _ALL if ahead < WINDOW else 1
            window.newest, window.offset = number, offset
            return None
        return _late(window, -ahead % NUMBERS)

    def drop_silent(self, highest: int) -> None:
        """Forget the producers of whom nothing newer has come behind this offset."""
        for producer, window in list(self._windows.items()):
            if window.offset <= highest:
                self._windows.pop(producer, None)
                self._room.give_back(1)


def _late(window: _Window, back: int) -> Found | None:
    """Judge the newest number that came again, or one that was given `back` numbers before it."""
    # Below the first that came, or further back than is remembered: nobody knows whether it is late.
    if back >= WINDOW or (window.newest - window.first) % NUMBERS < back:
        return None
    bit = 1 << back
    if window.arrived & bit:
        return "duplicate"
    window.arrived |= bit
    return "reordered"
