"""Where data began: the oldest origin that a message, a batch or a decision rests on."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from otel_pipeline.engine import pipeline_header

MAX_AGE_MS = 10 * 365 * 86_400_000
"""What is older, or further ahead, than 10 years is no time of the data: it is in another unit, or a clock is wrong."""
DAY_MS = 86_400_000
"""A message's own time that is a day earlier than the beginning of its data is not when it was sent."""


class Origin(NamedTuple):
    """Where the data in hand began. Times in ms since the epoch."""

    origin_ms: int
    newest_ms: int
    hops: int
    environment: str | None
    path: int
    inputs: int = 1

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
    )


def origin_of(header: Any, timestamp_ms: int) -> Origin:
    """Tell where a message's data began: by its header, else by its own time; 0 is unknown."""
    if header is not None:
        read = pipeline_header.decode(header)
        if read is not None:
            origin_ms, newest_ms = _known(read.origin_ms), _known(read.newest_ms)
            return Origin(origin_ms, newest_ms, read.hops, read.environment, read.path)
    origin_ms = _known(timestamp_ms)
    return Origin(origin_ms, origin_ms, 1, None, 0)
