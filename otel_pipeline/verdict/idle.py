"""Flows in which nothing moves are judged every 10 s, not every second: a process may have hundreds of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.detectors.order import OPEN

if TYPE_CHECKING:
    from otel_pipeline.verdict.evidence import AnyKey, Evidence

IDLE_EVERY_S = 10.0


class _Seen(NamedTuple):
    """A flow as it was when it was judged last."""

    mark: Any
    at_s: float


class Idle:
    """Remembers which flows rest. Used by one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[AnyKey, _Seen] = {}
        self._turn = 0

    def is_idle(self, key: AnyKey, mark: Any, now_s: float) -> bool:
        """Tell whether a flow need not be judged now.

        Args:
            key: the flow.
            mark: equal to that of before where nothing has moved since; None where that cannot be told.
            now_s: monotonic.
        """
        seen = self._seen.get(key)
        return seen is not None and mark is not None and now_s - seen.at_s < IDLE_EVERY_S and mark == seen.mark

    def judged(self, key: AnyKey, mark: Any, now_s: float, evidence: Evidence, *, settled: bool) -> None:
        """Note that a flow was judged.

        It rests only where nothing waits, nothing is in hand, which may get stuck, no number is missing, which may be
        given up, and no light is about to change.
        """
        busy = evidence.at_risk or evidence.queued or evidence.counts[OPEN]
        busy = busy or any(each.behind for each in evidence.pace.consumers)
        if busy or not settled:
            self._seen.pop(key, None)
            return
        before = self._seen.get(key)
        if before is None or before.mark != mark:
            # Those that come to rest together are not all due at once.
            self._turn = (self._turn + 1) % int(IDLE_EVERY_S)
            now_s -= self._turn
        self._seen[key] = _Seen(mark, now_s)
