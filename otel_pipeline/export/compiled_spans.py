"""The SDK's own spans, made without its constructor, which is most of what a span costs.

Each is a copy of one that the SDK made as a template; what is the same for all is shared, what differs is set. Whether
that fits is tried when it is compiled; where the provider, its sampler, its limits or this version of the SDK is
another, the tracer makes the spans.
"""

from __future__ import annotations

import threading
from collections import deque
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from otel_pipeline.engine.ids import getrandbits, randrange
from otel_pipeline.engine.spans import TracerSpans
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.export.sampling import root_decision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer
    from opentelemetry.trace.span import TraceState

    from otel_pipeline.engine.spans import Spans
    from otel_pipeline.engine.totals import AttributeValue
    from otel_pipeline.engine.trace_context import Ids

_ENOUGH_ATTRIBUTES = 64
_LOW_64_BITS = (1 << 64) - 1
_SAMPLED = 1
_RANDOM = 2
_RLOCK = type(threading.RLock())
_FLAGS = tuple(map(TraceFlags, range(256)))


def make(provider: Any, tracer: Any) -> Spans:
    """Make compiled spans where they fit, otherwise the tracer's."""
    try:
        found = _compiled(provider, tracer)
    except Exception:
        found = None  # An SDK that is built otherwise.
    return found or TracerSpans(tracer, root_decision(tracer))


def _compiled(provider: Any, tracer: Any) -> CompiledSpans | None:
    bound = _bound(provider.sampler) if type(provider) is TracerProvider else None
    limits = getattr(provider, "_span_limits", None)
    fits = (
        bound is not None
        and type(provider.id_generator) is RandomIdGenerator
        and limits is not None
        and limits.max_span_attribute_length is None
        and limits.max_attribute_length is None
        and (limits.max_span_attributes or 0) >= _ENOUGH_ATTRIBUTES
        and not provider._disabled
        and _is_enabled(tracer)
    )
    return CompiledSpans(provider, tracer, bound) if fits and bound is not None else None


def _is_enabled(tracer: Any) -> bool:
    check = getattr(tracer, "_is_enabled", None)
    return True if check is None else bool(check())


def _bound(sampler: Sampler) -> int | None:
    """Return the bound below which the lower 64 bits of a recorded trace id lie; None for a less simple sampler."""
    if type(sampler) is not ParentBased:
        return None
    of: Any = sampler
    if (of._remote_parent_sampled, of._local_parent_sampled) != (ALWAYS_ON, ALWAYS_ON):
        return None
    if (of._remote_parent_not_sampled, of._local_parent_not_sampled) != (ALWAYS_OFF, ALWAYS_OFF):
        return None
    if type(of._root) is TraceIdRatioBased:
        bound: int = of._root.bound
        return bound
    if type(of._root) is StaticSampler:
        return 1 << 64 if of._root is ALWAYS_ON else 0
    return None


class CompiledSpans:
    """Decides as `ParentBased(TraceIdRatioBased)` does, and copies the template for what is recorded."""

    def __init__(self, provider: TracerProvider, tracer: Tracer, bound: int) -> None:
        self._bound = bound
        self._processor: Any = provider._active_span_processor
        self._make_template(provider, tracer)

    def _make_template(self, provider: TracerProvider, tracer: Tracer) -> None:
        """Keep the fields of a span that the SDK has made and no processor sees. Raises where one is not as known."""
        own: Any = tracer
        quiet = TracerProvider(ALWAYS_ON, provider.resource, shutdown_on_exit=False, span_limits=provider._span_limits)
        scope = own._instrumentation_scope
        maker: Any = quiet.get_tracer(scope.name, scope.version, schema_url=scope.schema_url)
        span: Any = maker.start_span("template", attributes={"a": 1})
        fields = dict(vars(span))
        fields["_span_processor"] = self._processor
        fields["_sampler"] = provider.sampler
        fields["_instrumentation_scope"] = scope
        for name in ("_name", "_context", "_kind", "_parent", "_start_time", "_lock"):
            del fields[name]
        self._fields = fields
        self._kind_of_span = type(span)
        self._random = int(span.get_span_context().trace_flags) & _RANDOM
        attributes = dict(vars(fields["_attributes"]))
        attributes_lock = threading.RLock if isinstance(attributes.pop("_lock"), _RLOCK) else threading.Lock
        if attributes.pop("_dict") != {"a": 1}:
            raise TypeError("attributes are kept otherwise")
        self._attributes, self._attributes_lock = attributes, attributes_lock
        self._attributes_kind = type(fields["_attributes"])
        events = dict(vars(fields["_events"]))
        self._list_kind = type(fields["_events"])
        self._max_events, self._max_links = events["_dq"].maxlen, vars(fields["_links"])["_dq"].maxlen
        if set(events) != {"dropped", "_dq", "_lock"}:
            raise TypeError("events are kept otherwise")

    def samples_root(self, trace_id: int, *_span: object) -> bool:
        """Decide as the protocol says; the trace id alone decides."""
        return trace_id & _LOW_64_BITS < self._bound

    def dropped(self, parent: Span | None) -> LightSpan | None:
        """Return what the protocol says."""
        ids = self.dropped_ids(parent)
        return None if ids is None else LightSpan(ids[0], ids[1], ids[2], False, ids[3])

    def dropped_ids(self, parent: Span | None) -> Ids | None:  # noqa: PLR0911 - one return per kind of parent
        """Return what the protocol says."""
        if parent is None:
            low = getrandbits(64)
            if low < self._bound:
                return None
            return getrandbits(64) << 64 | low, getrandbits(64) or 1, self._random, None
        if type(parent) is LightSpan:
            if parent.flags & _SAMPLED:
                return None
            return parent.trace_id, getrandbits(64) or 1, parent.flags & self._random, parent.read_state
        context = parent.get_span_context()
        if context.trace_flags & _SAMPLED:
            return None
        if not context.is_valid:
            return self.dropped_ids(None)
        return context.trace_id, getrandbits(64) or 1, context.trace_flags & self._random, _state_of(context)

    def start(
        self,
        name: str,
        kind: SpanKind,
        parent: Span | None,
        context: Context,
        attributes: dict[str, AttributeValue],
        links: Sequence[Link] = (),
        start_time_ns: int | None = None,
    ) -> Span:
        """Start a span as the protocol says; only for what `dropped` has not taken."""
        above = None if parent is None else parent.get_span_context()
        if above is None or not above.is_valid:
            # Under the condition that it is recorded: `dropped` has drawn already.
            trace_id = getrandbits(64) << 64 | randrange(min(self._bound, 1 << 64) or 1) or 1
            above, flags, state = None, self._random | _SAMPLED, None
        else:
            trace_id, flags, state = above.trace_id, above.trace_flags & self._random | _SAMPLED, above.trace_state
        made: Any = object.__new__(self._kind_of_span)
        bounded: Any = object.__new__(self._attributes_kind)
        bounded.__dict__ = {**self._attributes, "_dict": attributes, "_lock": self._attributes_lock()}
        own = SpanContext(trace_id, getrandbits(64) or 1, False, _FLAGS[flags & 0xFF], state)
        made.__dict__ = fields = self._fields.copy()
        fields["_name"], fields["_kind"], fields["_parent"], fields["_context"] = name, kind, above, own
        fields["_start_time"] = time_ns() if start_time_ns is None else start_time_ns
        fields["_attributes"], fields["_lock"] = bounded, threading.Lock()
        fields["_events"], fields["_links"] = self._list(self._max_events, ()), self._list(self._max_links, links)
        self._processor.on_start(made, parent_context=context)
        return made  # type: ignore[no-any-return]

    def _list(self, maximum: int | None, items: Sequence[Any]) -> Any:
        made: Any = object.__new__(self._list_kind)
        made.__dict__ = {"dropped": 0, "_dq": deque(items, maxlen=maximum), "_lock": threading.Lock()}
        return made


def _state_of(context: SpanContext) -> Callable[[], TraceState | None] | None:
    return (lambda: context.trace_state) if context.trace_state else None
