"""Where data began: the oldest origin that a message, a batch or a decision rests on."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from otel_pipeline.engine import pipeline_header


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
        return time.time() - self.origin_ms / 1000 if self.origin_ms > 0 else None


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
            return Origin(read.origin_ms, read.newest_ms, read.hops, read.environment, read.path)
    origin_ms = timestamp_ms if isinstance(timestamp_ms, int) and timestamp_ms > 0 else 0
    return Origin(origin_ms, origin_ms, 1, None, 0)
