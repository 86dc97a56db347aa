"""Where data began: the oldest origin that a message, a batch or a decision rests on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from otel_pipeline.engine.observer import PartitionObserver

MAX_AGE_MS = 10 * 365 * 86_400_000
"""What is older, or further ahead, than 10 years is no time of the data: it is in another unit, or a clock is wrong."""
DAY_MS = 86_400_000
"""A message's own time that is a day earlier than the beginning of its data is not when it was sent."""

DOUBTED = 1 << 48
"""Added to an origin, ms, as observers are told it: its clock is known to be wrong. More than any origin."""
DOUBTED_HERE = DOUBTED | 1 << 49
"""The same of a first hop: the message's own time was read from that clock as well."""
_DOUBTED = (DOUBTED, DOUBTED_HERE)
_ORIGIN = DOUBTED - 1


class Origin(NamedTuple):
    """Where the data in hand began. Times in ms since the epoch."""

    origin_ms: int
    newest_ms: int
    hops: int
    environment: str | None
    path: int
    inputs: int = 1
    doubted: bool = False
    """Whether a clock that one of the origins was read from is known to be wrong: flag C."""

    @property
    def told_ms(self) -> int:
        """The oldest origin, ms, as observers are told it."""
        return self.origin_ms | DOUBTED if self.doubted else self.origin_ms

    @property
    def age_s(self) -> float | None:
        """Age of the oldest data in hand now, s; None when it is not known."""
        return age_s(self.origin_ms, time.time())


def age_s(time_ms: int, now_s: float) -> float | None:
    """Return how long ago a time was, s, below 0 for one to come; None where it cannot be a time of the data."""
    age_s = now_s - time_ms / 1000
    return age_s if time_ms > 0 and abs(age_s) * 1000 <= MAX_AGE_MS else None


def delivery_age_s(sent_ms: Any, header: Any, now_ms: int) -> float | None:
    """Return how old a message is, s; None where its own time is unknown, cannot be, or is not when it was sent."""
    found = age_s(sent_ms, now_ms / 1000) if type(sent_ms) is int else None
    fields = None if header is None or found is None else pipeline_header.fields(header)
    if fields is not None:
        origin_ms = fields[1] << 32 | fields[2]
        if origin_ms - sent_ms > DAY_MS and age_s(origin_ms, now_ms / 1000) is not None:
            return None
    return found


def _known(time_ms: Any) -> int:
    """Return the time, or 0, unknown, where it cannot be one of the data."""
    return time_ms if type(time_ms) is int and age_s(time_ms, time.time()) is not None else 0


def merge(origins: list[Origin]) -> Origin:
    """Merge origins (fan-in): the oldest decides; newest, most hops and the number of inputs are kept beside it."""
    oldest = min(origins, key=lambda origin: origin.origin_ms)
    return Origin(
        origin_ms=oldest.origin_ms,
        newest_ms=max(origin.newest_ms for origin in origins),
        hops=max(origin.hops for origin in origins),
        environment=oldest.environment,
        path=oldest.path,
        inputs=sum(origin.inputs for origin in origins),
        doubted=any(origin.doubted for origin in origins),
    )


def origin_of(header: Any, timestamp_ms: int) -> Origin:
    """Tell where a message's data began: by its header, else by its own time; 0 is unknown."""
    if header is not None:
        read = pipeline_header.decode(header)
        if read is not None:
            origin_ms, newest_ms = _known(read.origin_ms), _known(read.newest_ms)
            doubted = bool(read.flags & pipeline_header.DOUBTED)
            return Origin(origin_ms, newest_ms, read.hops, read.environment, read.path, doubted=doubted)
    origin_ms = _known(timestamp_ms)
    return Origin(origin_ms, origin_ms, 1, None, 0)


def origin_at(observer: PartitionObserver | None, header: Any, timestamp_ms: int) -> Origin:
    """Do the same for a message of a partition, whose observer may know that its senders' clocks are wrong.

    That is said of the last sender: of a first hop, where data began by its clock.
    """
    found = origin_of(header, timestamp_ms)
    return found._replace(doubted=True) if found.hops <= 1 and doubts(observer) else found


def doubts(observer: PartitionObserver | None) -> bool:
    """Tell whether a partition's observer knows that its senders' clocks are wrong; not all say so."""
    return getattr(observer, "doubts", False)


def without_doubt(origin_ms: int) -> int:
    """Return an origin, ms, that observers were told, as it was read."""
    return origin_ms & _ORIGIN if is_doubted(origin_ms) else origin_ms


def is_doubted(origin_ms: int) -> bool:
    """Tell whether an origin, ms, was told as one by a clock that is known to be wrong."""
    return origin_ms & ~_ORIGIN in _DOUBTED
