"""Counts what a share group has delivered: each message to one of its consumers, in no order, and perhaps again.

Where a consumer does not answer for a message, or releases it, the broker delivers it again, here or to another one,
and counts how often. So nothing is judged of the order of such messages, and their redelivery is exact.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from otel_pipeline.detectors.measures import Detector
from otel_pipeline.detectors.order import REDELIVERED
from otel_pipeline.engine.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.messages import Message

SHARED = Measure("shared", None, "{message}", "Messages of share groups: their order is not judged.").label()


def _watch(at: WatchedPartition) -> Deliveries | None:
    return None if at.fields.deliveries is None else Deliveries(at.fields.deliveries)


DETECTOR = Detector(
    "shared", watch=_watch, counts={SHARED: attrgetter("messages"), REDELIVERED: attrgetter("redelivered")}
)


class Deliveries:
    """Counts the messages of one partition, and those of them that were delivered before, to whomever.

    Args:
        deliveries: reads how often the broker has delivered a message, this time included; None is not known.
    """

    def __init__(self, deliveries: Callable[[Message], int | None]) -> None:
        self._deliveries = deliveries
        self.messages = 0
        self.redelivered = 0

    def delivered(self, messages: Sequence[Message], now_ms: int) -> None:  # noqa: ARG002 - it is told to all
        """Take in messages that were handed to the application."""
        self.messages += len(messages)
        for count in map(self._deliveries, messages):
            if count is not None and count > 1:
                self.redelivered += 1
