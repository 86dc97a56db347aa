"""Deliveries whose spans are recorded: what is kept of them until metrics are read, to be exemplars of the ages.

Finding an age's bucket costs more than counting it, so the application's thread only hands it over.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.origin import without_doubt

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.origin import Origin

Members: TypeAlias = "list[tuple[PartitionObserver, int, int]]"
Recorded: TypeAlias = (
    "tuple[SpanContext, PartitionObserver | None, int | None, Origin | None, Members | None, int, int, int]"
)
"""Span, observer of the partition, oldest origin in ms, origin, members, time of sending and start as
`OpenDelivery` has them, end in ns."""
EXEMPLARS_APART_NS = 10_000_000
"""Of all that ends within 10 ms the first is enough: where more is recorded than that, every bucket is met again."""
MAX_EXEMPLARS = 2048
"""The most kept between two readings, the newest. An export interval of 15 s brings fewer."""


class Exemplars:
    """Added to by any thread, read by those that collect metrics."""

    __slots__ = ("__weakref__", "_place", "_waiting", "add")

    def __init__(self, guard: Guard) -> None:
        self._place = guard.place("exemplars")
        self._waiting: deque[Recorded] = deque(maxlen=MAX_EXEMPLARS)
        self.add = self._waiting.append
        """Adds what is kept of a finished delivery."""
        forks.add(self._begin_anew, Step.ZERO)

    def _begin_anew(self) -> None:
        self._waiting.clear()

    def show(self) -> None:
        """Show them to the observers that have counted their ages. Never raises."""
        waiting = self._waiting
        while waiting and not self._place.off:
            try:
                _show(waiting.popleft())
            except IndexError:
                return  # Somebody else is reading as well.
            except Exception:
                self._place.failed()


def _show(recorded: Recorded) -> None:
    """Show one delivery; of a batch only the oldest message, since there is one span."""
    span, observer, origin_ms, origin, members, timestamp_ms, start_ns, end_ns = recorded
    if not span.trace_flags.sampled:
        return
    if members is not None:
        # Below 0 it is a bound, which is shown as the age that was counted.
        known = [(observed, abs(without_doubt(member_ms))) for observed, _, member_ms in members if member_ms]
        if known:
            oldest, oldest_ms = min(known, key=itemgetter(1))
            oldest.exemplify(span, oldest_ms, end_ns)
    elif observer is not None and origin_ms is not None:
        observer.exemplify(span, origin_ms, end_ns, timestamp_ms, start_ns // 1_000_000)
    elif observer is not None and origin is not None:
        # The delivery was counted when it was polled, where no span of the message was.
        observer.exemplify(span, origin.origin_ms, end_ns)
