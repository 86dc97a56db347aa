"""Finds disorder and loss in one partition, from its offsets and from the numbers that producers gave.

Definitions: reordered as RFC 4737 has it (arrives with a number below one that has arrived, for the first time);
duplicate: a number that has arrived already; missing: a number that is given up (see `ended`). The rules, by their
numbers, stand in docs/design/order.md, "The nine rules".
"""

from __future__ import annotations

from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING

from otel_pipeline.detectors.destination_numbers import DestinationNumbers
from otel_pipeline.detectors.measures import FLOW, Detector
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.observer import Resumed

WINDOW = 1024
"""Numbers that are remembered for each producer; what comes from further back counts as nothing."""
MAX_PRODUCERS = 64
MAX_GAPS = 8
NUMBERS = 0xFFFF_FFFF
"""Numbers run from 1 to this and begin again; 0 is none."""
_FULL = (1 << WINDOW) - 1
_HALF = NUMBERS // 2
_WAIT_S = 0.1
"""How long to wait for the lock. Nobody holds it longer, except in a forked child a thread that only the parent has."""

VIOLATIONS = Measure(
    "otel_pipeline.order.violations",
    "counter",
    "{message}",
    "Messages that came out of order, or again.",
    (*FLOW, Attribute("otel_pipeline.violation", "What is wrong with the order.")),
)
REORDERED = VIOLATIONS.label("reordered")
DUPLICATE = VIOLATIONS.label("duplicate")
REDELIVERED = VIOLATIONS.label("redelivered")
REWOUND = VIOLATIONS.label("rewound")
MISSING = Measure(
    "otel_pipeline.messages.missing",
    "counter",
    "{message}",
    "Messages that never came, by where they were lost.",
    (*FLOW, Attribute("otel_pipeline.cause", "Where messages were lost.")),
)
BEFORE_BROKER = MISSING.label("before_broker")
SKIPPED = MISSING.label("skipped")
OFFSET_RESET = MISSING.label("offset_reset")
EXPIRED = MISSING.label("expired")
OPEN = Measure("open", None, "{message}", "Numbers that are missing and not given up yet.").label()
BY_DESTINATION = Measure(
    "by_destination", None, "{message}", "Messages whose numbers go over all partitions: they say nothing of losses."
).label()
UNPLACED = Measure(
    "unplaced", None, "{message}", "Messages of which no place is known: their order is not judged."
).label()
UNNUMBERED = Measure("unnumbered", None, "{message}", "Messages with a header in which there is no number.").label()


def _watch(at: WatchedPartition) -> PartitionOrder:
    if at.fields.headers_only:
        return Unplaced(-1, at.monotonic_s)
    original = at.settings.mirrors.get(at.destination, at.destination)
    of_partition, of_all = (pipeline_header.tag_of(original, partition) for partition in (at.partition, None))
    return PartitionOrder(of_partition, at.monotonic_s, of_all)


DETECTOR = Detector(
    "order",
    watch=_watch,
    counts={
        REORDERED: attrgetter("reordered"),
        DUPLICATE: attrgetter("duplicate"),
        REDELIVERED: attrgetter("redelivered"),
        REWOUND: attrgetter("rewound"),
        BEFORE_BROKER: attrgetter("missing_before_broker"),
        SKIPPED: attrgetter("missing_skipped"),
        OFFSET_RESET: attrgetter("missing_offset_reset"),
        EXPIRED: attrgetter("missing_expired"),
        OPEN: attrgetter("open"),
        BY_DESTINATION: attrgetter("by_destination"),
        UNNUMBERED: attrgetter("unnumbered"),
        UNPLACED: attrgetter("unplaced"),
    },
)


class _Gap:
    """Numbers that were jumped over and are not excused."""

    __slots__ = ("first", "last", "seen_s")

    def __init__(self, first: int, last: int, seen_s: float) -> None:
        self.first = first
        self.last = last
        self.seen_s = seen_s


class _Window:
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
        self.gaps: list[_Gap] | None = None
        """Open gaps; None while every number of the window has arrived, so that nothing has to be shifted."""


_NONE = _Window(-1, -1, -1, 0)
"""Stands for a window that no message follows."""


class PartitionOrder:
    """What one consumer has seen of one partition. Used by the consumer's thread; its counts are read by any.

    `ended` and `close` may be called from any thread. They touch only windows with gaps, which the fast path leaves
    to `_out_of_line`: there is the lock.

    Args:
        tag: of this destination and partition; a number with another one was given elsewhere (rule 5).
        monotonic_s: clock for `lost_after`, s.
        destination_tag: of the destination, for numbers that are given over all of its partitions.
    """

    __slots__ = (
        "_awaiting",
        "_destination_numbers",
        "_left_at",
        "_lock",
        "_monotonic_s",
        "_reset",
        "_rewound_below",
        "_sought",
        "_windows",
        "by_destination",
        "destination_tag",
        "duplicate",
        "gapped",
        "highest",
        "latest",
        "missing_before_broker",
        "missing_expired",
        "missing_offset_reset",
        "missing_skipped",
        "open",
        "redelivered",
        "relayed",
        "reordered",
        "rewound",
        "skipped",
        "tag",
        "unnumbered",
        "unplaced",
    )

    def __init__(self, tag: int, monotonic_s: Callable[[], float], destination_tag: int = -1) -> None:
        self.tag = tag
        self.destination_tag = destination_tag
        self._destination_numbers = DestinationNumbers()
        self.by_destination = 0
        self.unnumbered = 0
        self.unplaced = 0
        self._monotonic_s = monotonic_s
        self._windows: dict[int, _Window] = {}
        self.latest = _NONE
        """The window of the last message, which is mostly that of the next one, too."""
        self.skipped = 0
        """Offsets that had no message."""
        self._rewound_below = -1
        self._sought = False
        self._awaiting = -1
        self._left_at = -1
        """The highest offset seen when the application chose another position."""
        self._reset: tuple[int, Resumed] | None = None
        self._lock = Lock()
        self.highest = -2
        """The highest offset seen; below -1 while it has to be checked whether the next one follows it."""
        self.open = 0
        """Numbers that are missing and not given up yet."""
        self.gapped = False
        """Whether a window has gaps, so that the end of the log is of interest."""
        self.missing_before_broker = 0
        self.missing_skipped = 0
        self.missing_expired = 0
        self.missing_offset_reset = 0
        self.reordered = 0
        self.duplicate = 0
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
        self.by_destination += 1
        found = self._destination_numbers.one(producer, number, offset)
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
        if self._sought or self._reset is not None:
            return
        held = self._lock.acquire(timeout=_WAIT_S)
        try:
            for window in list(self._windows.values()):
                if window.gaps is not None:
                    left = [gap for gap in window.gaps if now_s - gap.seen_s < lost_after_s]
                    for gap in window.gaps:
                        if now_s - gap.seen_s >= lost_after_s:
                            self._give_up(window, gap)
                    window.gaps = left
            self.gapped = any(window.gaps for window in list(self._windows.values()))
        finally:
            if held:
                self._lock.release()

    def close(self) -> None:
        """Give up every gap: the caller knows that nothing comes any more."""
        self.ended(float("inf"), 0.0)

    def numbers(self) -> dict[int, int]:
        """Return the newest number of each producer, to compare with what was given: a lost tail leaves no gap."""
        return {producer: window.newest for producer, window in list(self._windows.items())}

    def _at_jump(self, offset: int) -> bool:
        """Judge an offset that is not the next one; False when the message is not to be looked at any further."""
        highest = self._back_from_seek()
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
        self.skipped += offset - highest - 1
        return True

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
        held = self._lock.acquire(timeout=_WAIT_S)
        self._windows = {}
        self._destination_numbers = DestinationNumbers()
        self.latest = _NONE
        self.open = 0
        self.gapped = False
        self.skipped = 0
        if held:
            self._lock.release()

    def _add(self, producer: int, number: int, offset: int) -> None:
        windows = self._windows
        if len(windows) >= MAX_PRODUCERS:
            oldest = min(windows, key=lambda known: windows[known].offset)
            held = self._lock.acquire(timeout=_WAIT_S)
            self.open -= _open_bits(windows.pop(oldest)).bit_count()
            if held:
                self._lock.release()
        windows[producer] = self.latest = _Window(producer, number, offset, self.skipped)

    def _out_of_line(self, window: _Window, number: int, offset: int) -> None:
        held = self._lock.acquire(timeout=_WAIT_S)
        try:
            self._place(window, number, offset)
        finally:
            if held:
                self._lock.release()

    def _place(self, window: _Window, number: int, offset: int) -> None:
        ahead = (number - window.newest) % NUMBERS
        if ahead > _HALF:
            self._late(window, NUMBERS - ahead)
        elif ahead == 0:
            self.duplicate += 1
        else:
            self._advance(window, number, ahead)
            window.offset = offset
            window.skipped = self.skipped

    def _advance(self, window: _Window, number: int, ahead: int) -> None:
        """Move the window on where numbers were jumped over or it has gaps; what falls out of it is given up."""
        jumped = ahead - 1
        excused = min(jumped, self.skipped - window.skipped)
        out = min(ahead, WINDOW)
        beyond = ~(window.arrived | window.excused) & _FULL & (_FULL ^ (_FULL >> out))
        lost = beyond.bit_count()
        if lost:
            self.open -= lost
        window.arrived = (window.arrived << ahead | 1) & _FULL if ahead < WINDOW else 1
        window.excused = window.excused << ahead & _FULL if ahead < WINDOW else 0
        window.given_up = window.given_up << ahead & _FULL if ahead < WINDOW else 0
        if jumped:
            # The oldest are excused first; which ones it really was is put right when one of them arrives.
            oldest = min(jumped, WINDOW - 1)
            known_excused = max(0, excused - (jumped - oldest))
            window.excused |= ((1 << known_excused) - 1) << (oldest - known_excused + 1)
            lost += max(0, jumped - oldest - excused)
            opened = oldest - known_excused
            if opened:
                self.open += opened
                self._open_gap(window, _minus(number, opened), _minus(number, 1))
            elif window.gaps is None:
                window.gaps = []  # The bitmap has excused numbers: it has to be shifted from now on.
        self.missing_before_broker += lost
        window.newest = number
        if window.arrived == _FULL:
            window.gaps = None
        elif window.gaps:
            window.gaps = [gap for gap in window.gaps if (number - gap.last) % NUMBERS < WINDOW]

    def _open_gap(self, window: _Window, first: int, last: int) -> None:
        self.gapped = True
        gaps = window.gaps
        if gaps and len(gaps) >= MAX_GAPS:
            # Together they are given up later than the older one alone would be: never too early.
            gaps[-1].last = last
            gaps[-1].seen_s = self._monotonic_s()
        else:
            window.gaps = [*(gaps or ()), _Gap(first, last, self._monotonic_s())]

    def _late(self, window: _Window, back: int) -> None:
        """Judge a number below the newest one, given `back` numbers before it."""
        if (window.newest - window.first) % NUMBERS < back:
            return  # Below the base line: counts as nothing (rule 2).
        if back >= WINDOW:
            return  # It was counted as missing when it fell out of the window, and that stays.
        bit = 1 << back
        if window.arrived & bit:
            self.duplicate += 1
            return
        self.reordered += 1
        window.arrived |= bit
        if window.arrived == _FULL:
            window.gaps = None
        if window.given_up & bit:
            return  # It was counted as missing, and that stays: the counter never falls.
        if window.excused & bit:
            # Another number of the gap was the one that an offset had been skipped for.
            window.excused ^= bit
            waiting = _open_bits(window)
            if not waiting:
                return
            window.excused |= 1 << (waiting.bit_length() - 1)
        self.open -= 1

    def _give_up(self, window: _Window, gap: _Gap) -> None:
        newest = (window.newest - gap.last) % NUMBERS
        oldest = min((window.newest - gap.first) % NUMBERS, WINDOW - 1)
        if newest >= WINDOW:
            return
        lost = _open_bits(window) & ((2 << oldest) - (1 << newest))
        count = lost.bit_count()
        window.excused |= lost
        window.given_up |= lost
        self.open -= count
        self.missing_before_broker += count


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


def _minus(number: int, back: int) -> int:
    """Return the number that was given `back` numbers earlier: 0 is left out where numbers begin again."""
    return (number - back - 1) % NUMBERS + 1


def _open_bits(window: _Window) -> int:
    return ~(window.arrived | window.excused) & _FULL
