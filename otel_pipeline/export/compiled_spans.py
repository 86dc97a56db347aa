"""The lane that a recorded span takes: made of slots and handed to our own queue as it is, or by the tracer.

Where nobody but us listens, no processor is called at a span's start and its fields are made when it is exported
(*native*). The application's own processors get what they would get from the SDK (*compatible*). Whether all that
fits is tried when it is compiled; where the provider, its sampler, its limits or this version of the SDK is another,
the tracer makes the spans (*sdk*).
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)

from otel_pipeline.engine.ids import getrandbits, randrange
from otel_pipeline.engine.span_shape import KnownIds
from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.export.recorded_span import Processors, class_for, merged_values
from otel_pipeline.export.sampling import root_decision
from otel_pipeline.export.thresholds import Thresholds, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanContext, Tracer
    from opentelemetry.trace.span import TraceState

    from otel_pipeline.engine.span_shape import ShapedSpan, SpanShape, Values
    from otel_pipeline.engine.spans import Spans
    from otel_pipeline.engine.totals import AttributeValue
    from otel_pipeline.engine.trace_context import Ids
    from otel_pipeline.export.thresholds import Rule

_PARENTS_DECIDE = (ParentBased, ParentBasedTraceIdRatio)
"""The latter, which `OTEL_TRACES_SAMPLER` makes, is the former with a constructor of its own."""
_ENOUGH_ATTRIBUTES = 64
_ALL = 1 << 64
"""The bound of who records every trace."""
_LOW_64_BITS = (1 << 64) - 1
_SAMPLED = 1
_RANDOM = 2


def make(provider: Any, tracer: Any) -> Spans:
    """Make compiled spans where they fit, otherwise the tracer's."""
    try:
        found = _compiled(provider, tracer)
    except Exception:
        found = None  # An SDK that is built otherwise.
    return found or TracerSpans(tracer, root_decision(tracer))


def _compiled(provider: Any, tracer: Any) -> CompiledSpans | None:
    decision = _decision(provider.sampler) if type(provider) is TracerProvider else None
    limits = getattr(provider, "_span_limits", None)
    fits = (
        decision is not None
        and type(provider.id_generator) is RandomIdGenerator
        and limits is not None
        and limits.max_span_attribute_length is None
        and limits.max_attribute_length is None
        and (limits.max_span_attributes or 0) >= _ENOUGH_ATTRIBUTES
        and not provider._disabled
        and _is_plain(tracer)
    )
    return CompiledSpans(provider, tracer, decision) if fits and decision is not None else None


def _is_plain(tracer: Any) -> bool:
    """Tell whether it makes spans, and counts none: `OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED` asks for that."""
    check, counts = getattr(tracer, "_is_enabled", None), getattr(tracer, "_tracer_metrics", None)
    return (check is None or bool(check())) and (counts is None or type(counts).__name__ == "NoOpTracerMetrics")


class _Decision(NamedTuple):
    """How a sampler decides, where that takes no more than ids and flags."""

    bound: int
    """Below it lie the lower 64 bits of a trace id that is recorded."""
    follows_parents: bool = False
    """Whether a parent decides, where there is one."""
    rule: Rule | None = None
    """How thresholds decide, instead."""


def _decision(sampler: Sampler) -> _Decision | None:
    """Return how it decides; None for a less simple sampler."""
    rule = rule_of(sampler)
    if rule is not None:
        return _Decision(_ALL, rule.parents == "flag", rule)
    if type(sampler) not in _PARENTS_DECIDE:
        bound = _bound(sampler)
        return None if bound is None else _Decision(bound)
    of: Any = sampler
    if (of._remote_parent_sampled, of._local_parent_sampled) != (ALWAYS_ON, ALWAYS_ON):
        return None
    if (of._remote_parent_not_sampled, of._local_parent_not_sampled) != (ALWAYS_OFF, ALWAYS_OFF):
        return None
    rule = rule_of(of._root)
    if rule is not None:
        return _Decision(_ALL, True, rule._replace(parents="flag"))
    bound = _bound(of._root)
    return None if bound is None else _Decision(bound, follows_parents=True)


def _bound(sampler: Sampler) -> int | None:
    if type(sampler) is TraceIdRatioBased:
        return int(sampler.bound)
    if sampler is ALWAYS_ON or sampler is ALWAYS_OFF:
        return _ALL if sampler is ALWAYS_ON else 0
    return None


class CompiledSpans:
    """Decides as a ratio does, or a parent and a ratio, and makes what is recorded of a shape and values."""

    def __init__(self, provider: TracerProvider, tracer: Tracer, decision: _Decision) -> None:
        self._bound, self.follows_parents, rule = decision
        template = _template(provider, tracer)
        self._random = int(template.get_span_context().trace_flags) & _RANDOM
        self._thresholds = None if rule is None else Thresholds(provider.sampler, rule, self._random)
        if self._thresholds is not None:
            self.dropped_ids = self._thresholds.dropped_ids  # type: ignore[method-assign]
        self._processors = Processors(provider._active_span_processor)
        self._kind_of_span: Any = class_for(
            template,
            self._processors,
            _span_processor=provider._active_span_processor,
            _sampler=provider.sampler,
            _instrumentation_scope=tracer._instrumentation_scope,  # type: ignore[attr-defined]
        )

    @property
    def lane(self) -> str:
        """Which way spans take now."""
        return "compatible" if self._processors.have_others() else "native"

    @property
    def drops_unsampled(self) -> bool:
        """Whether a parent that is not sampled decides."""
        return self.follows_parents

    def samples_root(self, trace_id: int, *_span: object) -> bool:
        """Decide as the protocol says; the trace id alone decides."""
        if self._thresholds is not None:
            return self._thresholds.samples_root(trace_id)
        return trace_id & _LOW_64_BITS < self._bound

    def dropped(self, parent: Span | None) -> LightSpan | None:
        """Return what the protocol says."""
        ids = self.dropped_ids(parent)
        return None if ids is None else LightSpan(ids[0], ids[1], ids[2], False, ids[3])

    def dropped_ids(self, parent: Span | None) -> Ids | None:  # noqa: PLR0911 - one return per kind of parent
        """Return what the protocol says."""
        if parent is None:
            if self._bound >= _ALL:
                return None
            trace_id = getrandbits(128)
            if trace_id & _LOW_64_BITS < self._bound:
                return None
            return trace_id or 1, getrandbits(64) or 1, self._random, None
        if isinstance(parent, KnownIds):
            if self._records(parent.trace_id, parent.flags):
                return None
            return parent.trace_id, getrandbits(64) or 1, parent.flags & self._random, parent.read_state
        context = parent.get_span_context()
        if not context.is_valid:
            return self.dropped_ids(None)
        if self._records(context.trace_id, context.trace_flags):
            return None
        return context.trace_id, getrandbits(64) or 1, context.trace_flags & self._random, _state_of(context)

    def _records(self, trace_id: int, flags: int) -> bool:
        return bool(flags & _SAMPLED) if self.follows_parents else trace_id & _LOW_64_BITS < self._bound

    def start(
        self,
        shape: SpanShape,
        values: Values,
        parent: Span | None,
        context: Context,
        links: Sequence[Link | LightSpan] = (),
        start_time_ns: int | None = None,
        more: dict[str, AttributeValue] | None = None,
    ) -> Span:
        """Start a span as the protocol says; only for what `dropped` has not taken."""
        made: Any = object.__new__(self._kind_of_span)
        thresholds = self._thresholds
        above: Any = None
        flags: int
        if isinstance(parent, KnownIds):
            made.trace_id, flags, made.read_state = parent.trace_id, parent.flags, parent.read_state
            # Not the span itself where it is a whole one: each would keep alive all that are above it.
            above = parent if type(parent) is LightSpan else _ids_of(parent)
        elif parent is not None and (found := parent.get_span_context()).is_valid:
            above, flags = found, found.trace_flags
            made.trace_id, made.read_state = found.trace_id, _state_of(found)
        else:
            # Under the condition that it is recorded: `dropped` has drawn already.
            if thresholds is None and self._bound >= _ALL:
                made.trace_id = getrandbits(128) or 1
            else:
                low = randrange(self._bound or 1) if thresholds is None else thresholds.draw()
                made.trace_id = getrandbits(64) << 64 | low or 1
            flags, made.read_state = self._random, None
        if thresholds is not None:
            made.read_state = thresholds.handed_on(None if above is None else parent, made.trace_id, flags)
        made.above, made.flags, made.span_id = above, flags & self._random | _SAMPLED, getrandbits(64) or 1
        made.shape, made.values, made.more = shape, values, more
        # What is made as it is asked for holds the application's messages.
        made.given_links = links if type(links) is tuple else tuple(links)
        made.is_plain, made._end_time = True, None
        made._start_time = time_ns() if start_time_ns is None else start_time_ns
        processors = self._processors
        if processors.multi._span_processors is not processors.seen or processors.are_foreign:
            processors.start(made, context)
        return made  # type: ignore[no-any-return]

    def end_all(self, ended: Iterable[tuple[ShapedSpan, Values, int]]) -> None:
        """End them as the protocol says, and hand them on together."""
        processors, kind = self._processors, self._kind_of_span
        take_all = processors.take_all
        if take_all is None or processors.multi._span_processors is not processors.seen:
            for each, values, end_ns in ended:
                each.end_with(values, end_ns)
            return
        taken = []
        span: Any
        for span, values, end_ns in ended:
            merged = merged_values(span.values, values) if type(span) is kind and None in values else values
            # As in `RecordedSpan.end`: no call stands between the questions and the answer.
            if type(span) is kind and span.is_plain and span._end_time is None and span.flags & _SAMPLED:
                span.values, span._end_time = merged, end_ns
                taken.append(span)
            else:
                span.end_with(values, end_ns)
        if taken:
            take_all(taken)


def _template(provider: TracerProvider, tracer: Tracer) -> Any:
    """Make a span that the SDK has made and no processor sees. Raises where one is not as known."""
    own: Any = tracer
    quiet = TracerProvider(ALWAYS_ON, provider.resource, shutdown_on_exit=False, span_limits=provider._span_limits)
    scope = own._instrumentation_scope
    maker: Any = quiet.get_tracer(scope.name, scope.version, schema_url=scope.schema_url)
    return maker.start_span("template", attributes={"a": 1})


def _ids_of(span: KnownIds) -> LightSpan:
    return LightSpan(span.trace_id, span.span_id, span.flags, False, span.read_state)


def _state_of(context: SpanContext) -> Callable[[], TraceState | None] | None:
    return (lambda: context.trace_state) if context.trace_state else None
