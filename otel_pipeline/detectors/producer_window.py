"""The last numbers of one producer, and what was found in them: jumped over, late, come again, given up.

docs/design/order.md, "Windows". Nothing here locks, or knows of other producers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

WINDOW = 1024
"""Numbers that are remembered for each producer; what comes from further back counts as nothing."""
MAX_GAPS = 8
MAX_PLACES = 8
NUMBERS = 0xFFFF_FFFF
"""Numbers run from 1 to this and begin again; 0 is none."""
_FULL = (1 << WINDOW) - 1
_HALF = NUMBERS // 2


class Between(NamedTuple):
    """The offsets of the two messages of a producer between which others should have come."""

    after: int
    before: int


class Counts:
    """What was found in all windows of a partition. Counts only grow, except `open`."""

    __slots__ = (
        "duplicate",
        "excused",
        "firsts",
        "left_open",
        "missing_before_broker",
        "missing_places",
        "not_followed",
        "open",
        "reordered",
        "skipped",
    )

    def __init__(self) -> None:
        self.skipped = 0
        """Offsets that had no message."""
        self.open = 0
        """Numbers that are missing and not given up yet."""
        self.missing_before_broker = 0
        self.missing_places: tuple[Between, ...] = ()
        """Where the latest of these should have been, the newest last."""
        self.left_open = 0
        """Numbers that were open when nobody looked any more."""
        self.excused = 0
        """Numbers that were jumped over together with offsets (rule 3): whether they were lost is not known."""
        self.not_followed = 0
        """Numbers that were jumped over while gaps of too many producers were followed: not known either."""
        self.reordered = 0
        self.duplicate = 0
        self.firsts = 0
        """Messages that there is nothing to compare with: the first of their producer, and older ones."""

    def follows_gaps(self) -> bool:
        """Tell whether there is room for the gaps of one more producer."""
        return True

    def lost(self, count: int, *places: Between) -> None:
        """Count numbers that are given up, and where they should have been."""
        self.missing_before_broker += count
        new = [place for place in places if place not in self.missing_places]
        self.missing_places = (*self.missing_places, *new)[-MAX_PLACES:]


class Gap:
    """Numbers that were jumped over and are not excused."""

    __slots__ = ("after", "before", "first", "last", "seen_s")

    def __init__(self, first: int, last: int, seen_s: float, after: int, before: int) -> None:
        self.first = first
        self.last = last
        self.seen_s = seen_s
        self.after = after
        """The offset of its producer's message before it; `before` is that of the one behind it."""
        self.before = before

    @property
    def place(self) -> Between:
        """Where its numbers should have been."""
        return Between(self.after, self.before)


class Window:
    """The last numbers of one producer. Bit 0 stands for the newest."""

    __slots__ = ("arrived", "excused", "first", "gaps", "given_up", "newest", "offset", "producer", "skipped")

    def __init__(self, producer: int, number: int, offset: int, skipped: int) -> None:
        self.producer = producer
        self.first = number
        """The base line: what is below it was never missing (rule 2)."""
        self.newest = number
        self.offset = offset
        """The offset of the record with the newest number."""
        self.skipped = skipped
        """Offsets of the partition that had been skipped then (rule 3)."""
        self.arrived = _FULL
        self.excused = 0
        self.given_up = 0
        self.gaps: list[Gap] | None = None
        """Open gaps; None while every number of the window has arrived, so that nothing has to be shifted."""

    def compare(self, number: int, offset: int, clock_s: Callable[[], float], counts: Counts) -> None:
        """Take in a number that is not simply the next one."""
        ahead = (number - self.newest) % NUMBERS
        if ahead > _HALF:
            self._late(NUMBERS - ahead, counts)
        elif ahead == 0:
            counts.duplicate += 1
        else:
            self._advance(number, ahead, offset, clock_s, counts)
            self.offset = offset
            self.skipped = counts.skipped

    def settle(self, gaps: Collection[Gap], counts: Counts, *, missing: bool) -> None:
        """Wait for the numbers of these gaps no longer."""
        for gap in gaps:
            newest = (self.newest - gap.last) % NUMBERS
            oldest = min((self.newest - gap.first) % NUMBERS, WINDOW - 1)
            waiting = self._waiting() & ((2 << oldest) - (1 << newest)) if newest < WINDOW else 0
            count = waiting.bit_count()
            self.excused |= waiting
            self.given_up |= waiting
            counts.open -= count
            if not missing:
                counts.left_open += count
            elif count:
                counts.lost(count, gap.place)
        if self.gaps is not None:
            self.gaps = [gap for gap in self.gaps if gap not in gaps]

    def _advance(self, number: int, ahead: int, offset: int, clock_s: Callable[[], float], counts: Counts) -> None:
        """Move on where numbers were jumped over or there are gaps; what falls out of the window is given up."""
        jumped = ahead - 1
        excused = min(jumped, counts.skipped - self.skipped)
        counts.excused += excused
        if self.gaps is None and not counts.follows_gaps():
            counts.not_followed += jumped - excused
            counts.firsts += 1
            self.first = self.newest = number  # A new base line.
            return
        out = min(ahead, WINDOW)
        lost = (self._waiting() & (_FULL ^ (_FULL >> out))).bit_count()
        if lost:
            counts.open -= lost
            counts.lost(lost, *(gap.place for gap in self.gaps or () if (number - gap.last) % NUMBERS >= WINDOW))
        self.arrived = (self.arrived << ahead | 1) & _FULL if ahead < WINDOW else 1
        self.excused = self.excused << ahead & _FULL if ahead < WINDOW else 0
        self.given_up = self.given_up << ahead & _FULL if ahead < WINDOW else 0
        if jumped:
            # The oldest are excused first; which ones it really was is put right when one of them arrives.
            oldest = min(jumped, WINDOW - 1)
            known_excused = max(0, excused - (jumped - oldest))
            self.excused |= ((1 << known_excused) - 1) << (oldest - known_excused + 1)
            at_once = jumped - oldest - excused
            if at_once > 0:
                counts.lost(at_once, Between(self.offset, offset))
            opened = oldest - known_excused
            if opened:
                counts.open += opened
                self._open_gap(_minus(number, opened), _minus(number, 1), clock_s(), offset)
            elif self.gaps is None:
                self.gaps = []  # The bitmap has excused numbers: it has to be shifted from now on.
        self.newest = number
        if self.arrived == _FULL:
            self._is_whole()
        elif self.gaps:
            self.gaps = [gap for gap in self.gaps if (number - gap.last) % NUMBERS < WINDOW]

    def _open_gap(self, first: int, last: int, now_s: float, offset: int) -> None:
        gaps = self.gaps
        if gaps and len(gaps) >= MAX_GAPS:
            # Together they are given up later than the older one alone would be: never too early.
            gap = gaps[-1]
            gap.last, gap.seen_s, gap.before = last, now_s, offset
        else:
            self.gaps = [*(gaps or ()), Gap(first, last, now_s, self.offset, offset)]

    def _late(self, back: int, counts: Counts) -> None:
        """Judge a number below the newest one, given `back` numbers before it."""
        if (self.newest - self.first) % NUMBERS < back:
            counts.firsts += 1
            return  # Below the base line: counts as nothing (rule 2).
        if back >= WINDOW:
            return  # It was counted as missing when it fell out of the window, and that stays.
        bit = 1 << back
        if self.arrived & bit:
            counts.duplicate += 1
            return
        counts.reordered += 1
        self.arrived |= bit
        given_up, excused = self.given_up & bit, self.excused & bit
        if self.arrived == _FULL:
            self._is_whole()
        if given_up:
            return  # It was counted as missing, and that stays: the counter never falls.
        if excused:
            # Another number of the gap was the one that an offset had been skipped for.
            self.excused &= ~bit
            waiting = self._waiting()
            if not waiting:
                return
            self.excused |= 1 << (waiting.bit_length() - 1)
        counts.open -= 1

    def _is_whole(self) -> None:
        """Need no memory of its own any more: every number has arrived."""
        self.arrived, self.excused, self.given_up, self.gaps = _FULL, 0, 0, None

    def _waiting(self) -> int:
        """Return the numbers that have not come and are not excused."""
        return ~(self.arrived | self.excused) & _FULL


def _minus(number: int, back: int) -> int:
    """Return the number that was given `back` numbers earlier: 0 is left out where numbers begin again."""
    return (number - back - 1) % NUMBERS + 1
