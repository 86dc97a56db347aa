"""What becomes of each message between two topics: decided by the seed, the partition and the offset alone.

No client and no clock: the same messages with the same seed and faults give the same result. `testing/faults.py` reads
and writes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.engine.pipeline_header import NAME, decode, tag_of
from otel_pipeline.testing.faults.changes import Headers, restamped, with_environment, with_field
from otel_pipeline.testing.faults.options import Fault, chance

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Injected:
    """What was done, exactly: a fault is counted when the broker has acknowledged what it did, a drop at once."""

    relayed: int = 0
    """Messages of the source that are settled: written and acknowledged, or dropped."""
    written: int = 0
    """Messages that the destination acknowledged."""
    drop: int = 0
    duplicate: int = 0
    reorder: int = 0
    delay: int = 0
    freeze: int = 0
    change_field: int = 0
    foreign_environment: int = 0
    lost_head: int = 0
    """Drops before the first message of the same producer that was written, so that no number tells."""
    lost_tail: int = 0
    """Drops after the last message of the same producer that was written, so that no number tells yet."""
    not_applicable: int = 0
    """Messages chosen without effect: no such field, no header, it says so already, or nothing came to pass it."""
    by_partition: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """The same counts for each partition, without zeros."""


class Message(NamedTuple):
    """A message of the source, as it is written to the same partition of the destination."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class Outgoing(NamedTuple):
    """A message that is to be written next, and the faults that are counted when it is."""

    message: Message
    faults: tuple[str, ...]
    delay_s: float
    settles: bool
    """Whether it is the last copy of its message."""


class _Held(NamedTuple):
    """Held to be passed by later ones. In a heap: the first two fields order it."""

    due: int
    """Position in the partition at which it comes, if it was passed by then."""
    offset: int
    until: int
    """Position at which it comes in any case."""
    producer: int
    copies: tuple[Outgoing, ...]


class _Partition:
    """One partition: where it is, what is held back, and what each producer has had written (0: has no number)."""

    __slots__ = ("dropped", "held", "newest", "not_passed", "position")

    def __init__(self) -> None:
        self.position = 0
        self.held: list[_Held] = []
        self.not_passed: list[_Held] = []
        """Messages that are due, but that nothing of the same producer has passed yet."""
        self.newest: dict[int, int] = {}
        """The highest offset written, by producer."""
        self.dropped: dict[int, list[int]] = {}
        """Offsets above it that were dropped, by producer."""


class Plan:
    """Turns messages of the source into those of the destination. Used by one thread."""

    def __init__(self, seed: int, source: str, destination: str) -> None:
        self._seed = seed
        self._source = source
        self._destination = destination
        self._partitions: dict[int, _Partition] = {}
        self.counts: Counter[tuple[str, int]] = Counter()
        """Counts by fault and partition of what is settled here: drops, and what did not apply."""

    def take(self, message: Message, faults: tuple[Fault, ...]) -> list[Outgoing]:
        """Return what is to be written, in this order, now that this message has come."""
        state = self._partitions.setdefault(message.partition, _Partition())
        state.position += 1
        producer = self._producer(message)
        chosen = [fault for fault in faults if fault.chooses(self._seed, message.partition, message.offset)]
        kinds = {fault.kind for fault in chosen}
        out: list[Outgoing] = []
        if "drop" in kinds:
            self._drop(state, message, producer)
        else:
            copies = self._copies(message, chosen)
            displaced = next((fault for fault in chosen if fault.kind == "reorder"), None)
            # Below the base line nothing is out of order: the first message of a producer is never held.
            if displaced is not None and producer in state.newest:
                passing = 1 + int(
                    chance(self._seed, f"{displaced.salt}/by", message.partition, message.offset)
                    * displaced.displacement
                )
                at, until = state.position + passing, state.position + displaced.displacement
                heappush(state.held, _Held(at, message.offset, until, producer, copies))
            else:
                out += self._written(state, producer, copies)
        return out + self._due(state)

    def release(self) -> list[Outgoing]:
        """Return all that is held, in the source's order: no more messages come that could pass it."""
        out: list[Outgoing] = []
        for state in self._partitions.values():
            for held in sorted(state.held + state.not_passed, key=attrgetter("offset")):
                out += self._late(state, held)
            state.held, state.not_passed = [], []
        return out

    def _due(self, state: _Partition) -> list[Outgoing]:
        out: list[Outgoing] = []
        while state.held and state.held[0].due <= state.position:
            state.not_passed.append(heappop(state.held))
        if state.not_passed:
            waiting: list[_Held] = []
            for held in state.not_passed:
                if held.until <= state.position or state.newest[held.producer] > held.offset:
                    out += self._late(state, held)
                else:
                    waiting.append(held)
            state.not_passed = waiting
        return out

    def _late(self, state: _Partition, held: _Held) -> tuple[Outgoing, ...]:
        first, *others = held.copies
        if state.newest[held.producer] < held.offset:
            self.counts["not_applicable", first.message.partition] += 1
            return self._written(state, held.producer, held.copies)
        return (first._replace(faults=(*first.faults, "reorder")), *others)

    def _drop(self, state: _Partition, message: Message, producer: int) -> None:
        self.counts["drop", message.partition] += 1
        self.counts["relayed", message.partition] += 1
        if producer in state.newest:
            self.counts["lost_tail", message.partition] += 1
            state.dropped.setdefault(producer, []).append(message.offset)
        else:
            self.counts["lost_head", message.partition] += 1

    def _written(self, state: _Partition, producer: int, copies: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
        message = copies[0].message
        state.newest[producer] = message.offset
        tail = state.dropped.get(producer)
        if tail:
            left = [offset for offset in tail if offset > message.offset]
            self.counts["lost_tail", message.partition] -= len(tail) - len(left)
            state.dropped[producer] = left
        return copies

    def _copies(self, message: Message, chosen: list[Fault]) -> tuple[Outgoing, ...]:
        """Return the message as it is to be written, once or twice; the changes are counted with the first copy."""
        done: list[str] = []
        tags = tag_of(self._source, message.partition), tag_of(self._destination, message.partition)
        changed = message._replace(headers=restamped(message.headers, *tags))
        for fault in chosen:
            if fault.kind == "change_field":
                value = with_field(changed.value, fault)
                result = None if value is None else changed._replace(value=value)
            elif fault.kind == "foreign_environment":
                headers = with_environment(changed.headers, fault.text)
                result = None if headers is None else changed._replace(headers=headers)
            else:
                continue
            if result is None:
                self.counts["not_applicable", message.partition] += 1
            else:
                changed = result
                done.append(fault.kind)
        delay_s = max((fault.delay_s for fault in chosen), default=0.0)
        if all(fault.kind != "duplicate" for fault in chosen):
            return (Outgoing(changed, tuple(done), delay_s, settles=True),)
        return (
            Outgoing(changed, tuple(done), delay_s, settles=False),
            Outgoing(changed, ("duplicate",), 0.0, settles=True),
        )

    def _producer(self, message: Message) -> int:
        """Return whose number it is, 0 without one. The tag is the source's or, once `restamped`, the destination's."""
        tags = {tag_of(self._source, message.partition), tag_of(self._destination, message.partition)}
        for key, header in message.headers:
            read = decode(header) if key == NAME else None
            if read is not None and read.sequence and read.tag in tags:
                return read.producer_id
        return 0


def injected_of(counts: Mapping[tuple[str, int], int], freezes: int) -> Injected:
    """Arrange the counts as they are shown."""
    by_partition: dict[int, dict[str, int]] = {}
    for (name, partition), count in sorted(counts.items(), key=lambda each: (each[0][1], each[0][0])):
        if count:
            by_partition.setdefault(partition, {})[name] = count
    totals: dict[str, int] = {"freeze": freezes}
    for found in by_partition.values():
        for name, count in found.items():
            totals[name] = totals.get(name, 0) + count
    return replace(Injected(), by_partition=by_partition, **totals)
