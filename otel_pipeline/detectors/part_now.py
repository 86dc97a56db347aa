"""The partitions of one consumer at one destination as they are now: what waits, and what is in hand.

Read from positions, fetches and what the engine knows to be in hand; safe in any thread.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from otel_pipeline.detectors.pace import PartitionPace
    from otel_pipeline.detectors.partition import PartitionWatch
    from otel_pipeline.engine.clients import Consumer, Position


class Live(NamedTuple):
    """A partition that is assigned now."""

    partition: int
    pace: PartitionPace
    position: Position
    watch: PartitionWatch | None


class PartNow(NamedTuple):
    """One partition, as it is now."""

    live: Live
    offset: int
    waiting: int
    in_hand: int
    queued: int
    counted: bool
    """Whether `process()` tells of all its messages, so that what has ended is progress, and not the position."""

    @property
    def done(self) -> int:
        """The first offset that is not processed."""
        return self.offset - self.in_hand - self.queued


def parts_now(consumer: Consumer, destination: str, live: list[Live]) -> list[PartNow]:
    """Read the partitions whose position and end are known."""
    found = []
    began, polled = handed_out(consumer, destination), Counter[int]()
    for batch in () if consumer.explicit else consumer.batches():
        polled.update({id(observer): len(origins) for observer, _, origins in list(batch.parts)})
    for each in live:
        offset, end, watch = each.position.offset, each.pace.end, each.watch
        if offset is None or end is None:
            continue
        in_hand, queued = len(began.get(each.partition, ())), 0
        counted = consumer.explicit and watch is not None and watch.begins_all
        if watch is not None:
            in_hand = len(watch.in_flight) or in_hand + polled[id(watch)]
            if counted:
                queued = max(0, offset - 1 - watch.highest_begun)
        found.append(PartNow(each, offset, max(0, end - offset), in_hand, queued, counted))
    return found


def handed_out(consumer: Consumer, destination: str) -> dict[int | None, list[int]]:
    """Return when each message in hand that was handed out alone was begun, by partition."""
    found: dict[int | None, list[int]] = {}
    for delivery in consumer.deliveries():
        if delivery.destination == destination:
            found.setdefault(delivery.partition, []).append(delivery.started_ns)
    return found


def mark_of(live: Live) -> Any:
    """Return what changes whenever a message is written, handed out, begun or done, or sought."""
    watch = live.watch
    if watch is None:
        return live.position, live.pace.end
    told = watch.messages, watch.begun, len(watch.in_flight), len(watch.sought_to)
    return live.position, live.pace.end, told


def only_polled(consumer: Consumer, destination: str) -> bool:
    """Tell whether nobody says when a message is processed: neither an iterator nor `process()`."""
    if consumer.explicit:
        return False
    states = list(consumer.partitions.values())
    return not any(each.handed_offset >= 0 for each in states if each.destination == destination)


def oldest_in_hand(watch: PartitionWatch) -> int | None:
    """Return the offset that `process()` has had in hand for longest; None where it has none."""
    try:
        return next(iter(watch.in_flight), None)
    except RuntimeError:  # Another thread has changed it just now.
        return min(list(watch.in_flight), default=None)
