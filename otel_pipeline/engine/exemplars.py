"""Deliveries whose spans are recorded: what is left of them until metrics are read, to be exemplars of the ages.

To find an age's bucket costs more than to count it, so that the application's thread only hands it over.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otel_pipeline.engine.delivery import Flow
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.receive import PartitionState

Members: TypeAlias = "list[tuple[PartitionObserver, int, int]]"
Example: TypeAlias = "tuple[SpanContext, PartitionState, int | None, Flow | None, Members | None, int, int, int]"
"""Span, partition, origin, flow, members, time of sending, start and end: as `OpenDelivery` has them, end in ns."""
EXAMPLES_APART_NS = 10_000_000
"""Of what ends within 10 ms the first is enough: where more than that is recorded, any bucket is met again."""
MAX_EXAMPLES = 2048
"""Between two readings; of more the newest. Those of an export interval, 15 s, are fewer."""


class Examples:
    """Added to by any thread, read by those that collect metrics."""

    __slots__ = ("_guard", "_waiting", "add")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._waiting: deque[Example] = deque(maxlen=MAX_EXAMPLES)
        self.add = self._waiting.append
        """What is left of a delivery that was finished."""

    def show(self) -> None:
        """Show them to those who have counted their ages. Never raises."""
        waiting = self._waiting
        while waiting:
            try:
                _show(waiting.popleft())
            except IndexError:
                return  # Somebody else is reading as well.
            except Exception:
                self._guard.failed("exemplars")


def _show(example: Example) -> None:
    """Of a batch the oldest message alone: the span is one."""
    span, state, origin_ms, flow, members, timestamp_ms, start_ns, end_ns = example
    if not span.trace_flags.sampled:
        return
    if members is not None:
        known = [member for member in members if member[2] > 0]
        if known:
            observer, _, oldest_ms = min(known, key=itemgetter(2))
            observer.exemplify(span, oldest_ms, end_ns)
    elif state.observer is not None and origin_ms is not None:
        state.observer.exemplify(span, origin_ms, end_ns, timestamp_ms, start_ns // 1_000_000)
    elif state.observer is not None and flow is not None:
        # The delivery was counted when it was polled, where no span of the message was.
        state.observer.exemplify(span, flow.origin_ms, end_ns)
