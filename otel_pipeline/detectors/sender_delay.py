"""How long messages have been on their way before the broker had them, as far as a consumer can prove it.

A message that is older, by its own time, than its place in the log can be: its sender's clock is behind, or holds
messages back. Nobody here can tell which, so its age is unknown where that decides.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

WINDOW_S = 300.0
MIN_LOOKS = 3
AT_LEAST_S = 0.25
WIDEST_S = 1.0
"""An interval for the time of writing that is wider than this proves nothing."""
MAX_SENDERS = 200


class Delay(NamedTuple):
    """What all senders of a partition add at least."""

    seconds: float
    sender: int
    """A producer id."""


class SenderDelays:
    """Of one partition; looked at once a second by one thread."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int, float]] = deque(maxlen=MAX_SENDERS * 2)
        """When, which sender, and by how much its newest message was older than it can have been in the log."""

    def look(self, now_s: float, sender: int, age_s: float, written_s: tuple[float, float]) -> None:
        """Take in the newest message.

        Args:
            now_s: monotonic.
            sender: its producer's id.
            age_s: its age by its own time, when it was delivered.
            written_s: how long before that it was written to the log, as an interval that contains it.
        """
        if written_s[1] - written_s[0] <= WIDEST_S:
            self._looks.append((now_s, sender, age_s - written_s[1]))

    @property
    def settled(self) -> bool:
        """Whether there were enough looks to tell."""
        return len(self._looks) >= MIN_LOOKS

    def delay(self, now_s: float, threshold_s: float) -> Delay | None:
        """Return what every sender of the last 5 min adds at least, where that is much against the threshold."""
        much_s = max(AT_LEAST_S, threshold_s / 2)
        smallest: dict[int, tuple[float, int]] = {}
        for at_s, sender, over_s in reversed(self._looks):
            if now_s - at_s > WINDOW_S:
                break
            if over_s <= much_s:
                return None  # Mostly the newest look says so.
            known_s, count = smallest.get(sender, (over_s, 0))
            smallest[sender] = min(known_s, over_s), count + 1
        if not smallest or any(count < MIN_LOOKS for _, count in smallest.values()):
            return None
        sender, (over_s, _) = min(smallest.items(), key=lambda each: each[1])
        return Delay(over_s, sender)
