"""Counts messages with the same key that are processed at the same time: their order is lost, whatever the log had."""

from __future__ import annotations

from operator import attrgetter
from threading import Lock
from typing import TYPE_CHECKING

from otel_pipeline.detectors.measures import Detector
from otel_pipeline.detectors.order import VIOLATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.messages import Message

MAX_KEYS = 10_000
CONCURRENT_KEY = VIOLATIONS.label("concurrent_key")


def _watch(at: WatchedPartition) -> KeysInHand | None:
    return KeysInHand(at.fields.key) if at.destination_settings.same_key else None


DETECTOR = Detector("keys_in_hand", watch=_watch, counts={CONCURRENT_KEY: attrgetter("concurrent")})


class KeysInHand:
    """Counts messages whose `process()` begins while another one with the same key has not ended. Safe in any thread.

    Only on request (`same_key` of a destination), since it takes a lock. Messages without a key have no order to lose.

    Args:
        key: reads a message's key.
    """

    def __init__(self, key: Callable[[Message], object]) -> None:
        self._key = key
        self._lock = Lock()
        self._by_offset: dict[int, object] = {}
        self._in_hand: dict[object, int] = {}
        self.concurrent = 0

    def began(self, offset: int, message: Message) -> None:
        """Note that a message is processed from now on."""
        key = self._key(message)
        if key is None:
            return
        try:
            hash(key)
        except TypeError:
            return  # What a deserializer has made of it cannot be compared.
        with self._lock:
            if offset in self._by_offset or len(self._by_offset) >= MAX_KEYS:
                return
            self._by_offset[offset] = key
            others = self._in_hand.get(key, 0)
            self._in_hand[key] = others + 1
            if others:
                self.concurrent += 1

    def ended(self, offset: int) -> None:
        """Note that a message has been processed."""
        with self._lock:
            key = self._by_offset.pop(offset, None)
            if key is None:
                return
            left = self._in_hand[key] - 1
            if left:
                self._in_hand[key] = left
            else:
                del self._in_hand[key]
