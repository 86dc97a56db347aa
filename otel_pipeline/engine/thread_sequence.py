"""Numbers for a client that chooses the partition where nothing of ours runs, in C or on the broker's side.

There is no partition's lock to number under, and none of ours is wanted. So each thread of a producer has numbers of
its own, under a producer id of its own: it hands its messages over in that order. They are given per destination, over
all partitions, or per partition where the application names it (docs/design/order.md, "Where the number is given").
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.ids import getrandbits
from otel_pipeline.engine.pipeline_header import NAME

if TYPE_CHECKING:
    from otel_pipeline.engine.guard import Guard

_LAST = 0xFFFF_FFFF
MAX_KEYS = 10_000

Key = tuple[str, int | None]
"""Destination; partition, or None for all."""


class _Numbering:
    """Numbers that are used by one thread after another, never by two at a time."""

    __slots__ = ("answered", "given", "identifier", "last")

    def __init__(self) -> None:
        self.identifier = getrandbits(32) or 1
        self.last: dict[Key, int] = {}
        self.given: dict[str, int] = {}
        """Messages by destination that the client has taken."""
        self.answered: dict[str, int] = {}
        """Messages by destination whose outcome this thread was told, whoever sent them."""


class _Held:
    """A thread's hold on a numbering; the thread drops it when it ends, and the next one goes on with the numbering."""

    __slots__ = ("_free", "numbering")

    def __init__(self, free: list[_Numbering]) -> None:
        self._free = free
        try:
            self.numbering = free.pop()
        except IndexError:
            self.numbering = _Numbering()

    def __del__(self) -> None:
        try:
            self._free.append(self.numbering)
        except AttributeError:  # It could not be made.
            return


class Given:
    """The number of a message that is about to be handed over."""

    __slots__ = ("before", "key", "number", "numbering")

    def __init__(self, numbering: _Numbering, key: Key, before: int, number: int) -> None:
        self.numbering, self.key, self.before, self.number = numbering, key, before, number


class ThreadSequences:
    """The numbers of one producer. Safe in any thread, without a lock; nothing here raises.

    Consumers remember the last numbers of a limited number of producers: a pool whose threads come and go uses the ids
    of ended threads again, with the numbers that follow. What an ended thread has handed over comes before them.
    """

    __slots__ = ("__weakref__", "_free", "_local", "_numberings", "_place")

    def __init__(self, guard: Guard) -> None:
        self._place = guard.place("sequence")
        self.begin_anew()
        forks.add(self.begin_anew, Step.ZERO)

    def begin_anew(self) -> None:
        """Forget, in a forked child, which numbers were given: under the parent's ids, the parent does."""
        self._free: list[_Numbering] = []
        self._numberings: list[_Numbering] = []
        self._local = threading.local()

    def renew(self) -> None:
        """Begin to number anew, under other ids: what was numbered last is not going to be delivered. Any thread."""
        try:
            for numbering in list(self._numberings):
                numbering.identifier, numbering.last = getrandbits(32) or 1, {}
        except Exception:
            self._place.failed()

    def stamp(self, headers: Any, destination: str, partition: int | None = None) -> Given | None:
        """Write the calling thread's next number into our header, the last of that name; None where there is none.

        To be called right before the client's own call, in the same thread, with the headers that `sender` gave.
        """
        try:
            if type(headers) is not list or self._place.off:
                return None  # The application's own headers are left alone.
            at = len(headers) - 1
            while headers[at][0] != NAME:
                at -= 1
                if at < 0:
                    return None
            numbering = self._mine()
            key = (destination, partition)
            before = numbering.last.get(key, 0)
            if before == 0 and len(numbering.last) >= MAX_KEYS:
                return None
            number = before % _LAST + 1
            tag = pipeline_header.tag_of(destination, partition)
            numbered = pipeline_header.numbered(
                headers[at][1], numbering.identifier, number, tag, per_partition=partition is not None
            )
            if numbered is None:
                return None
            headers[at] = (NAME, numbered)
            numbering.last[key] = number
        except Exception:
            self._place.failed()
            return None
        return Given(numbering, key, before, number)

    def settle(self, given: Given | None, *, taken: bool) -> None:
        """Use up the number where the client took the message; where it raised, the next message gets the number."""
        try:
            if given is None:
                return
            numbering, destination = given.numbering, given.key[0]
            if taken:
                numbering.given[destination] = numbering.given.get(destination, 0) + 1
            elif numbering.last.get(given.key) == given.number:
                numbering.last[given.key] = given.before
        except Exception:
            self._place.failed()

    def answered(self, destination: str) -> None:
        """Count a message that the client took and that is acknowledged or has failed. Safe in any thread."""
        try:
            mine = self._mine().answered
            mine[destination] = mine.get(destination, 0) + 1
        except Exception:
            self._place.failed()

    def queued(self) -> dict[str, int]:
        """Count, by destination, the messages that the client has taken and whose outcome is not known yet.

        What was given is either acknowledged, failed, or still here; what is still here at the end is lost.
        """
        numberings = list(self._numberings)
        # Answers first: what is answered meanwhile must not be missing among what was given.
        answered = [dict(each.answered) for each in numberings]
        found: dict[str, int] = {}
        for each in numberings:
            for destination, count in list(each.given.items()):
                found[destination] = found.get(destination, 0) + count
        for told in answered:
            for destination, count in told.items():
                found[destination] = found.get(destination, 0) - count
        return {destination: count for destination, count in found.items() if count > 0}

    def _mine(self) -> _Numbering:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = _Held(self._free)
            if held.numbering not in self._numberings:
                self._numberings.append(held.numbering)
        return held.numbering
