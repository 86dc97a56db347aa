"""Deliveries whose spans are recorded, kept until metrics are read: then they become exemplars of the ages.

To find an age's bucket costs more than to count it, so that the application's thread only hands over the delivery.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_pipeline.engine.flow import OpenDelivery
    from otel_pipeline.engine.guard import Guard

MAX_EXAMPLES = 512
"""Between two readings; of more the newest. Their spans live as long."""


class Examples:
    """Added to by any thread, read by those that collect metrics."""

    __slots__ = ("_guard", "_waiting", "add")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._waiting: deque[tuple[OpenDelivery, int]] = deque(maxlen=MAX_EXAMPLES)
        self.add = self._waiting.append
        """A delivery that was finished, and when, ns since the epoch."""

    def show(self) -> None:
        """Show them to those who have counted their ages. Never raises."""
        waiting = self._waiting
        while waiting:
            try:
                _show(*waiting.popleft())
            except IndexError:
                return  # Somebody else is reading as well.
            except Exception:
                self._guard.failed("exemplars")


def _show(delivery: OpenDelivery, now_ns: int) -> None:
    """Of a batch the oldest message alone: the span is one."""
    span = delivery.span.get_span_context()
    if not span.trace_flags.sampled:
        return
    if delivery.members is not None:
        known = [member for member in delivery.members if member[2] > 0]
        if known:
            observer, _, origin_ms = min(known, key=itemgetter(2))
            observer.exemplify(span, origin_ms, now_ns)
        return
    observer = delivery.state.observer
    if observer is None:
        return
    known_ms = delivery.origin_ms
    if known_ms is None:
        # The delivery was counted when it was polled, where no span of the message was.
        observer.exemplify(span, delivery.flow.origin_ms, now_ns)
    else:
        observer.exemplify(span, known_ms, now_ns, delivery.timestamp_ms, delivery.start_ns // 1_000_000)
