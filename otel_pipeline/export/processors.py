"""The SDK's batch processors, counting what they are given and what their full queue drops."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_pipeline.engine.forks import forks
from otel_pipeline.export.causes import ENDED, SLOW

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from otel_pipeline.export.border import Border

FEW = 3
NEARLY_FULL = 64
"""With less room than this, what is added takes a lock, so that what has to go is counted exactly."""
FLUSH_MS = 30_000
_SAMPLED = 1
_BatchLogs: Any = logs_export.BatchLogRecordProcessor
_TAKES_LOGS = "on_emit" if hasattr(_BatchLogs, "on_emit") else "emit"


class _Queue:
    """The queue inside a batch processor of the SDK's, whichever version it is."""

    def __init__(self, processor: Any, border: Border) -> None:
        inner = getattr(processor, "_batch_processor", processor)
        self.waiting: deque[Any] = inner._queue if hasattr(inner, "_queue") else inner.queue
        self.size: int = self.waiting.maxlen or 0
        self.nearly_full = max(self.size - NEARLY_FULL, 0)
        self.account = border.account
        self.is_closed = False
        self._new_lock()
        forks.add(self._new_lock)
        # Called by the SDK at the first item in a child that no hook was run in.
        self._reinit = inner._at_fork_reinit
        inner._at_fork_reinit = self._untold
        border.account.queue_size = self.waiting.__len__

    def _new_lock(self) -> None:
        # Reentrant: a finalizer may end a span while one is being added.
        self.lock = threading.RLock()

    def _untold(self) -> None:
        if forks.notice():
            self.account.taken.cell.value += 1  # What is being added: it was counted before all counts were at zero.
        else:
            self._reinit()

    def make_room(self) -> None:
        """Drop the oldest where nothing more fits in. The caller has the lock."""
        if len(self.waiting) >= self.size:
            try:
                self.waiting.pop()
            except IndexError:
                return  # Somebody exports: there is room.
            self.account.dropped_before(1, SLOW.reason)

    def counted(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """Count what `take`, which adds to the queue, is called with."""
        waiting, nearly_full, account = self.waiting, self.nearly_full, self.account

        def count_and_take(item: Any) -> None:
            account.taken.cell.value += 1
            if len(waiting) < nearly_full and not self.is_closed:
                take(item)
            elif self.is_closed:
                account.dropped_before(1, ENDED.reason)
            else:
                with self.lock:
                    self.make_room()
                    take(item)

        return count_and_take

    def counted_together(self, take: Callable[[Any], None]) -> Callable[[list[Any]], None]:
        """Count what is added at once; only the first and the last are given to `take`.

        It notices that the process was forked, and wakes whoever exports.
        """
        waiting, nearly_full, account, count_and_take = self.waiting, self.nearly_full, self.account, self.counted(take)

        def count_and_take_all(items: list[Any]) -> None:
            if len(items) < FEW or len(waiting) + len(items) >= nearly_full or self.is_closed:
                for item in items:
                    count_and_take(item)
                return
            count_and_take(items[0])
            account.taken.cell.value += len(items) - 2
            waiting.extendleft(items[1:-1])
            count_and_take(items[-1])

        return count_and_take_all


class TakesRecorded(SpanProcessor):
    """A span processor of ours, which has nothing to do when a span starts."""

    take: Callable[[Any], None]
    """Takes a span that has ended, and is sampled: the SDK's, or a `RecordedSpan` as it is."""

    def take_all(self, spans: list[Any]) -> None:
        """Take several of them."""
        for span in spans:
            self.take(span)


class CountedSpans(BatchSpanProcessor, TakesRecorded):
    """Hands spans to a border."""

    def __init__(self, border: Border, **options: Any) -> None:
        super().__init__(border, **options)  # type: ignore[arg-type] # it has the methods
        self._border = border
        self._counted = _Queue(self, border)
        emit = getattr(getattr(self, "_batch_processor", None), "emit", None)
        self.take = self._counted.counted(emit or super().on_end)
        self._take_all: Callable[[list[Any]], None] | None = None
        if emit is not None:
            self._take_all = self._counted.counted_together(emit)

    def take_all(self, spans: list[Any]) -> None:
        """Take several of them at once."""
        (super().take_all if self._take_all is None else self._take_all)(spans)

    def on_end(self, span: Any) -> None:
        """Take a span that has ended, if it is sampled."""
        context = span.context
        if context is not None and context.trace_flags & _SAMPLED:
            self.take(span)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Hand over what waits; where it is spooled, wait until it is sent."""
        flushed = bool(super().force_flush(timeout_millis))
        return self._border.sent_all(FLUSH_MS if timeout_millis is None else timeout_millis) and flushed

    def shutdown(self) -> None:
        """Hand over what waits, and take nothing more."""
        self._counted.is_closed = True
        super().shutdown()  # type: ignore[no-untyped-call]


class CountedLogs(_BatchLogs):
    """Hands log records to a border."""

    def __init__(self, border: Border, **options: Any) -> None:
        super().__init__(border, **options)
        self._border = border
        self._counted = _Queue(self, border)
        self._take = self._counted.counted(getattr(super(), _TAKES_LOGS))

    def on_emit(self, log_record: Any) -> None:
        """Take a log record."""
        self._take(log_record)

    def emit(self, log_data: Any) -> None:
        """Take a log record, as SDKs before 1.36 hand it over."""
        self._take(log_data)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Hand over what waits; where it is spooled, wait until it is sent."""
        flushed = bool(super().force_flush(timeout_millis))
        return self._border.sent_all(FLUSH_MS if timeout_millis is None else timeout_millis) and flushed

    def shutdown(self) -> None:
        """Hand over what waits, and take nothing more."""
        self._counted.is_closed = True
        super().shutdown()
