"""How one consumer keeps up with one destination: looked at once a second.

No broker is asked, and no message costs anything: positions, fetches and what is in hand are read.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Any

from otel_pipeline.detectors.pace import Rates
from otel_pipeline.detectors.part_now import handed_out, mark_of, oldest_in_hand, only_polled, parts_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.detectors.part_now import Live, PartNow
    from otel_pipeline.engine.clients import Consumer

BUSY = 0.8
"""From here on the mean wait in front of a server is four times its handling (M/M/1)."""
FALLING_S = 60
GOING_ROUND = 3
SET_BACK_S = 60.0
ASKS_S = 5.0
STARVED_S = 60.0
UNKNOWN_AFTER_S = 60.0
"""A look at the end of a log that is older tells nothing about how far behind a consumer is."""
_QUEUE_LOOKS = 120


@dataclass(slots=True)
class ConsumerPace:
    """What is known of one consumer at one destination, over all its partitions. Ages in s."""

    client_id: str = ""
    assigned: int = 0
    known: bool = False
    """Whether the end of one partition at least has been told, and where it stands there."""
    unplaced: bool = False
    """Whether ends have been told, and not where it stands."""
    age_s: float = 0.0
    """Since it was first looked at."""
    member: bool = False
    """Whether the group takes its partitions when it asks for nothing for `max_poll_interval_s`."""
    max_poll_interval_s: float = 300.0
    only_polled: bool = False
    """Whether nobody says when a message is processed: neither an iterator nor `process()`."""
    unasked_s: float = 0.0
    """Since the application asked for messages; 0 while it does."""
    asking_s: float = 0.0
    """How long it has been asking, with nothing in hand."""
    waiting: int = 0
    """Messages at or after the positions."""
    queued: int = 0
    """Delivered, and not begun by `process()`, which begins all of them."""
    queued_s: float = 0.0
    """How long the oldest of them has been delivered, at least."""
    in_hand: int = 0
    in_hand_s: float = 0.0
    """How long the oldest of these has been in hand, at least."""
    oldest_s: float = 0.0
    """How old the oldest message that waits, or that an iterator or `process()` has in hand, is at least."""
    still_s: float = 0.0
    """Since the later of two: something was processed, something began to wait."""
    unmoved_s: float = 0.0
    """Since a position has moved."""
    going_round: tuple[int, int] | None = None
    """The offset that it was set back to again and again, and how often within a minute."""
    unstable: int = 0
    """Messages that an open transaction holds back, where the consumer has come to them."""
    stands_s: float = 0.0
    longest_stand_s: float | None = None
    """Of open transactions that are over."""
    unanswered_s: float = 0.0
    """Since a fetch was answered; 0 where all partitions are paused, so that none is made."""
    paused_s: float | None = None
    """How long a partition that is paused waits, or has not been looked at; None where none is paused."""
    paused_waiting: int = 0
    looked_s: float = 0.0
    """Since the oldest look at the end of a paused partition."""
    caught_up_s: float = inf
    """How long ago it was provably caught up with all partitions; infinite where it never was."""
    time_lag_s: tuple[float, float] | None = None
    utilization: float | None = None
    busy_s: float = 0.0
    """How long it has worked most of the time while something waited."""
    falling_s: float = 0.0
    """How long it has been falling behind; 0 where it does not."""
    gaining: bool = False
    """Whether it has been getting less behind for a minute."""
    drain_s: float | None = None
    """Until the backlog is worked off at this pace; None where it is not getting smaller."""
    starved: tuple[int, int] | None = None
    """A partition that has not moved for a minute while others do, and how many messages wait there."""
    handled: int = 0
    """Messages or batches whose handling has ended."""
    longest_s: float = 0.0
    """The longest handling that has ended."""
    p95_s: float = 0.0

    @property
    def behind(self) -> int:
        """All that was written and is not processed."""
        return self.waiting + self.queued + self.in_hand


class ConsumerLooks:
    """What looking at a consumer once a second has told. `look` is for one thread, `read` for any."""

    def __init__(self, consumer: Consumer, destination: str, now_s: float) -> None:
        self._destination = destination
        self.rates = Rates()
        self._began_s = now_s
        self._looked_s: float | None = None
        self._rests: list[Any] | None = None
        """Its partitions as they were at a look that found nothing waiting, and nothing in hand."""
        self._waited_ns: int | None = None
        self._still_since_s = self._moved_s = now_s
        self._highest: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._at: dict[int, tuple[int, float]] = {}
        """By partition the position, and since when it is there."""
        self._held: dict[int, tuple[int, float]] = {}
        """By partition the oldest message in hand, and since when it is."""
        self._delivered: dict[int, deque[tuple[float, int]]] = {}
        """By partition the positions at the latest looks, where messages are queued in the process."""
        self._paused_since_s: dict[int, float] = {}
        self._sought: deque[tuple[float, int, int]] = deque(maxlen=256)
        """When, partition, offset."""
        self._asks_since_s: float | None = None
        self._busy_since_s: float | None = None
        self._falling_since_s: float | None = None
        self._behind: deque[int] = deque(maxlen=FALLING_S)
        self._client_id = str(consumer.attributes.get("messaging.client.id") or "")

    def look(self, consumer: Consumer, live: list[Live], now_s: float, now_ns: int, written: int, read: int) -> None:
        """Follow it to now; to be called once a second.

        Args:
            consumer: the consumer.
            live: its partitions.
            now_s: monotonic, s.
            now_ns: by the clock of the engine's durations.
            written: messages written to these partitions since the last look.
            read: messages by which the positions have moved since.
        """
        self._count_rates(consumer, now_s, now_ns, written, read)
        mark, asks = list(map(mark_of, live)), _asks(consumer, now_ns)
        if mark == self._rests and not (written or read):
            self._rest(now_s, asks=asks)
            return
        parts = parts_now(consumer, self._destination, live)
        self._take_set_backs(live, now_s)
        self._follow_progress(parts, now_s)
        for each in parts:
            self._follow_part(each, now_s)
        waiting = any(each.waiting or each.queued or each.in_hand for each in parts if not each.live.position.paused)
        if not waiting:
            self._still_since_s = now_s
        asks = asks and not any(each.in_hand for each in parts)
        self._asks_since_s = (self._asks_since_s or now_s) if asks else None
        # A loop that sleeps between polls cannot be told from one that works.
        seen = not only_polled(consumer, self._destination)
        busy = waiting and seen and (self.rates.utilization or 0.0) >= BUSY
        self._busy_since_s = (self._busy_since_s or now_s) if busy else None
        behind = sum(each.waiting + each.queued + each.in_hand for each in parts)
        self._behind.append(behind)
        falls = _grows(self._behind)
        self._falling_since_s = (self._falling_since_s or now_s - FALLING_S) if falls else None
        # What is sought again and again is counted anew at each look.
        self._rests = None if behind or self._sought else mark

    def _count_rates(self, consumer: Consumer, now_s: float, now_ns: int, written: int, read: int) -> None:
        before_s, self._looked_s = self._looked_s, now_s
        before_ns, self._waited_ns = self._waited_ns, consumer.polling.waited_until(now_ns)
        if before_s is not None and now_s > before_s:
            elapsed_s = now_s - before_s
            worked = None if before_ns is None else 1 - (self._waited_ns - before_ns) / 1e9 / elapsed_s
            self.rates.count(written, read, worked, elapsed_s)

    def _rest(self, now_s: float, *, asks: bool) -> None:
        """Follow it while nothing moves, and nothing waits or is in hand."""
        self._still_since_s = now_s
        self._asks_since_s = (self._asks_since_s or now_s) if asks else None
        self._busy_since_s = self._falling_since_s = None
        self._behind.append(0)

    def _take_set_backs(self, live: list[Live], now_s: float) -> None:
        for each in live:
            sought = each.watch.sought_to if each.watch is not None else ()
            while sought:
                offset = sought.popleft()
                self._sought.append((now_s, each.partition, -1 if offset is None else offset))

    def _going_round(self, now_s: float) -> tuple[int, int, int] | None:
        """Return partition, offset and how often it was sought, where that is again and again; None else."""
        if not self._sought:
            return None
        counts = Counter((partition, offset) for at_s, partition, offset in self._sought if now_s - at_s <= SET_BACK_S)
        for (partition, offset), count in counts.most_common(1):
            if count >= GOING_ROUND:
                return partition, offset, count
        return None

    def _follow_progress(self, parts: list[PartNow], now_s: float) -> None:
        going_round = self._going_round(now_s)
        for each in parts:
            partition, at = each.live.partition, self._at.get(each.live.partition)
            set_back = at is not None and each.offset < at[0]
            if set_back and (going_round is None or going_round[0] != partition):
                self._highest.pop(partition, None)
            if each.counted and each.live.watch is not None:
                ended, before = each.live.watch.ended, self._ended.get(partition)
                self._ended[partition] = ended
                moved = before is None or ended != before
            else:
                moved = each.done > self._highest.get(partition, -1)
            if moved:
                self._still_since_s = now_s
            self._highest[partition] = max(each.done, self._highest.get(partition, -1))

    def _follow_part(self, part: PartNow, now_s: float) -> None:
        partition, watch = part.live.partition, part.live.watch
        at = self._at.get(partition)
        if at is None or at[0] != part.offset:
            self._at[partition] = part.offset, now_s
            self._moved_s = now_s
        oldest = None if watch is None else oldest_in_hand(watch)
        if oldest is None:
            self._held.pop(partition, None)
        elif self._held.get(partition, (-1, 0.0))[0] != oldest:
            self._held[partition] = oldest, now_s
        if part.counted:
            looks = self._delivered.setdefault(partition, deque(maxlen=_QUEUE_LOOKS))
            looks.append((now_s, part.offset))
        if part.live.position.paused and part.waiting:
            self._paused_since_s.setdefault(partition, now_s)
        else:
            self._paused_since_s.pop(partition, None)

    def read(self, consumer: Consumer, live: list[Live], now_s: float, now_ns: int) -> ConsumerPace:
        """Return what is known now; ages grow between two looks."""
        parts = parts_now(consumer, self._destination, live)
        polling = consumer.polling
        polled_s = 0.0 if polling.began_ns else max(0.0, (now_ns - polling.since_ns) / 1e9)
        going_round = self._going_round(now_s)
        found = ConsumerPace(
            client_id=self._client_id,
            assigned=len(live),
            known=bool(parts),
            unplaced=not parts and any(each.pace.end is not None for each in live),
            age_s=now_s - self._began_s,
            member=consumer.is_member(),
            max_poll_interval_s=consumer.max_poll_interval_s,
            only_polled=only_polled(consumer, self._destination),
            # An iterator hands out a whole batch before it polls again: then the position moves.
            unasked_s=min(polled_s, now_s - self._moved_s),
            asking_s=0.0 if self._asks_since_s is None else now_s - self._asks_since_s,
            waiting=sum(each.waiting for each in parts),
            queued=sum(each.queued for each in parts),
            queued_s=max((self._queued_s(each, now_s) for each in parts), default=0.0),
            in_hand=sum(each.in_hand for each in parts),
            in_hand_s=max((self._in_hand_s(consumer, each, now_s, now_ns) for each in parts), default=0.0),
            still_s=now_s - self._still_since_s,
            unmoved_s=now_s - self._moved_s,
            going_round=None if going_round is None else going_round[1:],
            utilization=self.rates.utilization,
            busy_s=0.0 if self._busy_since_s is None else now_s - self._busy_since_s,
            falling_s=0.0 if self._falling_since_s is None else now_s - self._falling_since_s,
            gaining=_grows([-each for each in list(self._behind)]),
            starved=self._starved(parts, now_s),
        )
        found.drain_s = self.rates.drain_time_s(found.behind)
        if found.only_polled:
            found.longest_s, found.p95_s = polling.longest_ns / 1e9, polling.working_p95_s() or 0.0
        self._read_fetches(found, parts, live, now_s)
        return found

    def _read_fetches(self, found: ConsumerPace, parts: list[PartNow], live: list[Live], now_s: float) -> None:
        lags = [lag for each in parts if (lag := each.live.pace.time_lag(each.offset, now_s)) is not None]
        if lags:
            found.time_lag_s = max(((lag.lower, lag.upper) for lag in lags), key=lambda bounds: bounds[::-1])
            found.caught_up_s = max(lag.upper for lag in lags)
        plain = found.only_polled
        oldest = [
            lag.lower
            for each in parts
            if each.waiting or (each.done < each.offset and not plain)
            if (lag := each.live.pace.time_lag(each.offset if plain else each.done, now_s)) is not None
        ]
        found.oldest_s = max(oldest, default=0.0)
        asked_for = [each.pace.answered_s or self._began_s for each in live if not each.position.paused]
        found.unanswered_s = now_s - max(asked_for, default=now_s)
        for each in parts:
            pace, position = each.live.pace, each.live.position
            if pace.unstable and not each.waiting:
                found.unstable += pace.unstable
                found.stands_s = max(found.stands_s, now_s - pace.stands_since_s)
            if pace.longest_stand_s is not None:
                found.longest_stand_s = max(pace.longest_stand_s, found.longest_stand_s or 0.0)
            if position.paused:
                looked_s = now_s - (pace.answered_s or self._began_s)
                since_s = now_s - self._paused_since_s.get(each.live.partition, now_s)
                found.paused_s = max(looked_s, since_s, found.paused_s or 0.0)
                found.looked_s = max(looked_s, found.looked_s)
                found.paused_waiting += each.waiting

    def _queued_s(self, part: PartNow, now_s: float) -> float:
        if not part.queued or part.live.watch is None:
            return 0.0
        oldest = part.live.watch.highest_begun + 1
        looks = list(self._delivered.get(part.live.partition, ()))
        return next((now_s - at_s for at_s, position in looks if position > oldest), 0.0)

    def _in_hand_s(self, consumer: Consumer, part: PartNow, now_s: float, now_ns: int) -> float:
        if not part.in_hand:
            return 0.0
        held = self._held.get(part.live.partition)
        if held is not None:
            return now_s - held[1]
        began_ns = handed_out(consumer, self._destination).get(part.live.partition)
        since_ns = min(began_ns) if began_ns else consumer.polling.since_ns
        return max(0.0, (now_ns - since_ns) / 1e9)

    def _starved(self, parts: list[PartNow], now_s: float) -> tuple[int, int] | None:
        if now_s - self._moved_s > STARVED_S:
            return None
        waits = [
            (each.waiting, each.live.partition)
            for each in parts
            if each.waiting and not each.live.position.paused
            if now_s - self._at.get(each.live.partition, (0, now_s))[1] > STARVED_S
        ]
        waiting, partition = max(waits, default=(0, -1))
        return (partition, waiting) if waiting else None


def _asks(consumer: Consumer, now_ns: int) -> bool:
    return bool(consumer.polling.began_ns) or now_ns - consumer.polling.since_ns < ASKS_S * 1e9


def _grows(values: Sequence[int]) -> bool:
    """Tell whether they have only grown for a minute: each quarter of it lies above the one before."""
    if len(values) < FALLING_S:
        return False
    known = list(values)
    quarter = len(known) // 4
    means = [sum(known[at : at + quarter]) / quarter for at in range(0, 4 * quarter, quarter)]
    return all(later > earlier for earlier, later in pairwise(means))
