"""Decides whose traces go on here, and how many of another environment's are recorded because that one says so.

The rules and their reasons are in docs/design/trust.md.

What has to be asked is decided once per partition: where everything is trusted, nothing is asked per message.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.trace_context import LightSpan

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.trace.span import TraceState

    from otel_pipeline.engine.settings import EngineSettings

OfHeader: TypeAlias = Callable[[Any], bool]
"""A question about a message: called with its data-flow header as it came, None without one."""

_MAX_REMEMBERED = 10_000
_NS = 1_000_000_000
_SAMPLED = 1


def continues(settings: EngineSettings, destination: str) -> OfHeader | None:
    """Make what tells whether a sender's trace goes on here or is linked; None where all of the destination's go on."""
    trust, own = settings.trust(destination), settings.environment
    if trust == "all":
        return None
    # A process that does not know its own environment cannot know that a message is of the same.
    if trust == "none" or own is None:
        return _never
    return functools.partial(_is_of, pipeline_header.name_in_header(own))


def is_foreign(settings: EngineSettings, destination: str) -> OfHeader | None:
    """Make what tells whether a sender's sampled flag needs permission: another environment's does. None: none does.

    A message whose environment is unknown needs none: it comes from a service without this package, most often one of
    this very environment, whose traces must not break because of that; and whoever forges a context can forge an
    environment as well. For destinations that anybody can write to there is `same-environment`, for which an unknown
    environment is another one.
    """
    environment, limit = settings.environment, settings.max_foreign_traces_per_second
    if environment is None or limit is None or settings.trust(destination) != "all":
        return None
    return functools.partial(_names_another, pipeline_header.name_in_header(environment))


def comes_from_elsewhere(settings: EngineSettings, destination: str) -> OfHeader | None:
    """Make what tells whether a message is another environment's; None where none is.

    Where everybody is trusted, who does not name an environment is of this one (see `is_foreign`); elsewhere whoever is
    not known to be of this environment is of another.
    """
    of_this = continues(settings, destination)
    if of_this is not None:
        return lambda header: not of_this(header)
    environment = settings.environment
    return (
        None if environment is None else functools.partial(_names_another, pipeline_header.name_in_header(environment))
    )


def _names_another(own: str, header: Any) -> bool:
    origin = None if header is None else pipeline_header.origin_environment(header)
    return origin is not None and origin != own


def _never(_header: Any) -> bool:
    return False


def _is_of(own: str, header: Any) -> bool:
    return header is not None and pipeline_header.origin_environment(header) == own


class ForeignTraces:
    """Lets through a number of traces per second, and the other messages of such a trace while the second lasts.

    Safe in any thread, and never waits: a trace that comes while another thread decides is not let through. Remembers
    10,000 trace ids at most; for higher rates the window is shorter than a second.

    Args:
        per_second: the rate, None for all. Below 1 the window is longer: 0.5 is one trace every two seconds.
    """

    __slots__ = ("__weakref__", "_admitted", "_ends_ns", "_lock", "_maximum", "_window_ns", "refused")

    def __init__(self, per_second: float | None) -> None:
        rate = math.inf if per_second is None else per_second
        self._maximum = _MAX_REMEMBERED if rate > _MAX_REMEMBERED else math.ceil(rate)
        self._window_ns = self._maximum / rate * _NS if rate > 0 else math.inf
        self.begin_at_zero()
        forks.add(self.begin_at_zero, Step.ZERO)

    def begin_at_zero(self) -> None:
        """Forget who was let through; a forked child has a rate of its own."""
        self._ends_ns: float = 0
        self._admitted: set[int] = set()
        self._lock = threading.Lock()
        self.refused = 0
        """Messages whose sampled flag was not followed."""

    def admit(self, trace_id: int, now_ns: int) -> bool:
        """Tell whether this trace is let through; `now_ns` is of a clock that never goes back."""
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


def sampled_trace(span: Span) -> int | None:
    """Return the trace id, where the sender says that the trace is recorded."""
    if type(span) is LightSpan:
        return span.trace_id if span.flags & _SAMPLED else None
    context = span.get_span_context()
    return context.trace_id if context.trace_flags & _SAMPLED else None


def unsampled(span: Span) -> LightSpan:
    """Copy a span without its sampled flag: the trace goes on, but is not recorded from here on."""
    if type(span) is not LightSpan:
        made = span.get_span_context()
        span = LightSpan(made.trace_id, made.span_id, made.trace_flags, read_state=lambda: made.trace_state)
    read_state = span.read_state
    if read_state is not None:
        read_state = functools.partial(_without_threshold, read_state)
    return LightSpan(span.trace_id, span.span_id, span.flags & ~_SAMPLED, True, read_state)


def _without_threshold(read_state: Callable[[], TraceState | None]) -> TraceState | None:
    """Remove the threshold together with the flag: composable samplers believe the threshold in the tracestate.

    https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
    """
    state = read_state()
    members = state.get("ot") if state else None
    if state is None or members is None:
        return state
    kept = ";".join(member for member in members.split(";") if not member.strip().startswith("th:"))
    return state.update("ot", kept) if kept else state.delete("ot")
