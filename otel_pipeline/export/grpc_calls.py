"""Calls over gRPC where processes fork: its library ends a child by SIGABRT that was forked in the middle of a call.

A fork waits for the calls that are under way, and calls that come meanwhile wait for it, both for a moment. Where a
call takes longer, as to a Collector that hangs, the child makes no call any more: what it records is lost, counted, and
said with what to do.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from otel_pipeline.engine.forks import forks
from otel_pipeline.export.causes import ForkedError

if TYPE_CHECKING:
    from types import TracebackType

QUIET_S = 0.1
"""How long a fork waits for calls at most."""


class Calls:
    """The calls that are under way; a context manager around each. Thread-safe."""

    def __init__(self) -> None:
        self.unusable = False
        """Whether this child was forked in the middle of a call."""
        self._changed = threading.Condition()
        self._under_way = 0
        self._forking = 0
        forks.around(self._quieten, self._go_on)
        forks.add(self._in_child)

    def __enter__(self) -> None:
        if self.unusable:
            raise ForkedError
        with self._changed:
            self._changed.wait_for(lambda: not self._forking, 2 * QUIET_S)
            self._under_way += 1

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def _quieten(self) -> None:
        if self.unusable:
            return
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: not self._under_way, QUIET_S)

    def _go_on(self) -> None:
        with self._changed:
            self._forking = max(0, self._forking - 1)
            self._changed.notify_all()

    def _in_child(self) -> None:
        self.unusable = self.unusable or self._under_way > 0
        self._changed = threading.Condition()
        self._under_way = self._forking = 0


calls = Calls()
"""Those of this process."""
