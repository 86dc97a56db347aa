"""Decides which messages are compared with a contract, so that comparing costs at most 1 % of the time that passes."""

from __future__ import annotations

import sys
from collections import deque
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = 100
"""The first messages, which are always taken."""
SHARE = 0.01
"""Share of the time that passes."""
AFTER_DIFFERENCE = 200
"""Messages that are all taken after one was different."""
WATCHFUL_EVERY = 32
"""One in so many is taken, whatever it costs, where a break must not pass: at least one of 100 messages in a row."""
MOST_EVERY = 1024
CHEAP_NS = 500_000
"""Below this mean cost every message is learned from, since learning comes to an end."""
_ADAPT_AFTER = 64
_SIZES = 512
_SIZES_AFTER = 128


class Sampler:
    """Decides which message is next. The caller reads `left`, `low` and `high` for each message.

    Take a message when `left`, less by 1 for each, is used up, or when its size is not from `low` to `high` bytes.
    Several threads may use it; a count may then be off by one.

    Args:
        clock_ns: a clock that only grows, ns.
    """

    __slots__ = (
        "_adapted_ns",
        "_after_difference",
        "_burst_spent_ns",
        "_clock_ns",
        "_dearest_ns",
        "_drawn",
        "_every",
        "_given",
        "_given_before",
        "_outliers",
        "_random",
        "_rest_until_ns",
        "_sized",
        "_sizes",
        "_sizes_after",
        "_spent_ns",
        "_taken",
        "high",
        "learning",
        "left",
        "low",
        "resting",
        "watchful",
    )

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._random = Random()  # noqa: S311  # its own: the application may have seeded the common one
        self.left = 1
        self.low = -1
        self.high = sys.maxsize
        self.watchful = False
        """Whether a break must not pass unseen."""
        self.learning = False
        self.resting = False
        """Whether looking is in vain: then one in 1,024 is taken, whatever its size."""
        self._every = 1
        self._taken = 0
        self._drawn = 0
        self._given = 1
        """Messages up to the next one that is taken, it included."""
        self._given_before = 0
        """The same when the cost was last looked at."""
        self._spent_ns = 0
        self._dearest_ns = 0
        self._adapted_ns = clock_ns()
        self._after_difference = 0
        self._burst_spent_ns = 0
        self._rest_until_ns = 0
        self._sizes: deque[int] = deque(maxlen=_SIZES)
        self._sized = 0
        self._sizes_after = _SIZES_AFTER
        self._outliers = 0

    @property
    def every(self) -> int:
        """The number of messages of which one is taken now, on average."""
        return self._every

    @property
    def passed(self) -> int:
        """Messages that came by, taken or not."""
        return self._given - max(self.left, 0)

    def take(self, size_bytes: int) -> None:
        """Note that a message is taken, and decide which one is next."""
        self._taken += 1
        if self.left > 0:
            # Taken for its size. Should that become the rule, sizes have changed and are learned anew.
            self._outliers += 1
            if self._outliers > _ADAPT_AFTER:
                self._note(size_bytes)
            return
        if not self.resting:
            self._note(size_bytes)
        self.left = left = self._next()
        self._given += left
        self._drawn += 1

    def spent(self, cost_ns: int) -> None:
        """Add what the message that was taken has cost, ns."""
        self._spent_ns += cost_ns
        if cost_ns > self._dearest_ns:  # noqa: PLR1730 - calling max() costs twice as much
            self._dearest_ns = cost_ns
        if self._after_difference:
            self._burst_spent_ns += cost_ns
        if self._drawn >= _ADAPT_AFTER:
            self._adapt()

    def differed(self, *, new: bool) -> None:
        """Take the messages that follow one that was different.

        A lasting difference would have every message looked at for good. So one that is not new is followed up only
        when what the last follow-up cost is at most 1 % of the time since.
        """
        if not self._after_difference and (new or self._clock_ns() >= self._rest_until_ns):
            self._after_difference = AFTER_DIFFERENCE
            self._burst_spent_ns = 0
            self._draw(1)

    def rest(self) -> None:
        """Take one in 1,024 from now on, until `wake`."""
        if not self.resting:
            self.resting = True
            self.low, self.high = -1, sys.maxsize
            self._draw(self._next())

    def wake(self) -> None:
        """Take messages as ever again, from the next one on."""
        if self.resting:
            self.resting = False
            self._draw(1)

    def _draw(self, left: int) -> None:
        """Take the message that is so many away."""
        self._given += left - max(self.left, 0)
        self.left = left

    def _next(self) -> int:
        if self._after_difference:
            self._after_difference -= 1
            if not self._after_difference:
                self._rest_until_ns = self._clock_ns() + int(self._burst_spent_ns / SHARE)
            return 1
        every = MOST_EVERY if self.resting else self._every
        if every == 1 or self._taken < FIRST:
            return 1
        # A fixed step would fall in with streams that repeat themselves.
        return 1 + int(self._random.random() * (2 * every - 1))

    def _adapt(self) -> None:
        now_ns = self._clock_ns()
        elapsed_ns = max(now_ns - self._adapted_ns, 1)
        # The dearest is left out: more often than not the system gave the time to somebody else.
        cost_ns = (self._spent_ns - self._dearest_ns) / (self._drawn - 1)
        messages, self._given_before = self._given - self._given_before, self._given
        most = WATCHFUL_EVERY if self.watchful or self.learning else MOST_EVERY
        wanted = int(cost_ns * messages / (SHARE * elapsed_ns)) + 1
        self._every = 1 if self.learning and cost_ns < CHEAP_NS else min(wanted, most)
        self._adapted_ns = now_ns
        self._drawn = self._spent_ns = self._dearest_ns = 0

    def _note(self, size_bytes: int) -> None:
        self._sizes.append(size_bytes)
        self._sized += 1
        if self._sized >= self._sizes_after:
            sizes = sorted(self._sizes)
            self.low = sizes[len(sizes) // 100] // 2
            self.high = 2 * sizes[len(sizes) * 99 // 100]
            self._sized = self._outliers = 0
            self._sizes_after = len(sizes)
