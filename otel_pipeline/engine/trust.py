"""Whose traces go on here, and how many of another environment's are recorded because that one says so.

What it is asked for is decided once a partition: where everything is trusted, nothing is asked per message.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.spans import LightSpan

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.trace.span import TraceState

    from otel_pipeline.engine.messages import EngineSettings

Verdict: TypeAlias = Literal["follow", "ask", "link"]
"""The sender's trace goes on with its sampled flag; it goes on, but the flag needs a permission; it is linked only."""
Judge: TypeAlias = Callable[[bool, Any], Verdict]
"""(whether the sender's span is sampled, the data-flow header as it came) -> what becomes of its trace."""

_MAX_REMEMBERED = 10_000
_NS = 1_000_000_000
_SAMPLED = 1


def judge_of(settings: EngineSettings, destination: str) -> Judge | None:
    """How the messages of one destination are judged; None where every sender is followed.

    Another environment's sampled flag needs a permission under `all`. A message whose environment is unknown does not:
    it comes from a service without this package, most often one of this very environment, whose traces must not break
    because of that; and who forges a context can forge an environment as well. Destinations that anybody can write to
    are told apart by `same-environment`, for which an unknown environment is another one.
    """
    trust, own = settings.trust(destination), settings.environment
    if trust == "none":
        return _links
    # As it stands in a header, which holds 16 bytes of a name.
    own = None if own is None else pipeline_header.name_in_header(own)
    if trust == "same-environment":
        return functools.partial(_follows_own, own)
    if own is None or settings.max_foreign_traces_per_second is None:
        return None
    return functools.partial(_asks_for_foreign, own)


def _links(_sampled: bool, _header: Any) -> Verdict:  # noqa: FBT001 - see Judge
    return "link"


def _follows_own(own: str | None, _sampled: bool, header: Any) -> Verdict:  # noqa: FBT001
    # A process that does not know its own environment cannot know that a message is of the same.
    return "follow" if own is not None and pipeline_header.origin_environment(header) == own else "link"


def _asks_for_foreign(own: str, sampled: bool, header: Any) -> Verdict:  # noqa: FBT001
    if not sampled or header is None:
        return "follow"
    origin = pipeline_header.origin_environment(header)
    return "follow" if origin is None or origin == own else "ask"


class ForeignTraces:
    """Lets through so many traces a second; the other messages of such a trace as well, while the second lasts.

    Safe in any thread, and never waits: who meets another thread at the door is not let in. Remembers 10,000 trace ids
    at most; for higher rates the window is shorter than a second.

    Args:
        per_second: the rate, None for all. Below 1 the window is longer: 0.5 is one trace every two seconds.
    """

    __slots__ = ("_admitted", "_ends_ns", "_lock", "_maximum", "_window_ns", "refused")

    def __init__(self, per_second: float | None) -> None:
        rate = math.inf if per_second is None else per_second
        self._maximum = _MAX_REMEMBERED if rate > _MAX_REMEMBERED else math.ceil(rate)
        self._window_ns = self._maximum / rate * _NS if rate > 0 else math.inf
        self._ends_ns: float = 0
        self._admitted: set[int] = set()
        self._lock = threading.Lock()
        self.refused = 0
        """Messages whose sampled flag was not followed."""

    def admit(self, trace_id: int, now_ns: int) -> bool:
        """Whether this trace is let through; `now_ns` is of a clock that never goes back."""
        if now_ns < self._ends_ns:
            admitted = self._admitted
            if trace_id in admitted:
                return True
            if len(admitted) >= self._maximum:
                return False
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if now_ns >= self._ends_ns:
                # A new set: another thread may be reading the old one.
                self._admitted = set()
                self._ends_ns = now_ns + self._window_ns
            if len(self._admitted) < self._maximum:
                self._admitted.add(trace_id)
            return trace_id in self._admitted
        finally:
            self._lock.release()


def is_sampled(span: Span) -> bool:
    """Whether the sender says that its trace is recorded."""
    flags = span.flags if type(span) is LightSpan else span.get_span_context().trace_flags
    return bool(flags & _SAMPLED)


def unsampled(span: Span) -> LightSpan:
    """The same span without its sampled flag: the trace goes on, but is not recorded from here on."""
    if type(span) is not LightSpan:
        made = span.get_span_context()
        span = LightSpan(made.trace_id, made.span_id, made.trace_flags, read_state=lambda: made.trace_state)
    read_state = None if span.read_state is None else functools.partial(_without_threshold, span.read_state)
    return LightSpan(span.trace_id, span.span_id, span.flags & ~_SAMPLED, is_remote=True, read_state=read_state)


def _without_threshold(read_state: Callable[[], TraceState | None]) -> TraceState | None:
    """Samplers that are composed believe the threshold in the tracestate, not the flag: it goes with the flag.

    https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
    """
    state = read_state()
    members = state.get("ot") if state else None
    if state is None or members is None:
        return state
    kept = ";".join(member for member in members.split(";") if not member.strip().startswith("th:"))
    return state.update("ot", kept) if kept else state.delete("ot")
