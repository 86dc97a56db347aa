"""Context in message headers: read tolerantly, written into a copy, through the propagators that are configured.

The default ones (W3C trace context and baggage) are compiled (trace_context.py); all others are used by their own API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import INVALID_SPAN, SpanContext, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.headers import pairs, tolerant, without
from otel_pipeline.engine.pipeline_header import NAME as PIPELINE_HEADER
from otel_pipeline.engine.pipeline_header import PipelinePropagator
from otel_pipeline.engine.trace_context import BAGGAGE, LightSpan, TraceContext
from otel_pipeline.engine.w3c import MAX_TRACESTATE_BYTES, as_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span

    from otel_pipeline.engine.trace_context import Ids, Incoming


class Propagation:
    """Reads and writes context on header pairs. Nothing here raises, whatever the bytes; safe in any thread.

    Args:
        propagator: the configured one.
        unreadable: called with a reason when a header that should be context is none.
    """

    names: frozenset[str]
    """Header names, in lower case, that are written and replaced."""
    read: Callable[[Any, Context], Context]
    """(headers, context) -> the context with the remote span and the baggage; unchanged when there is nothing valid."""
    find: Callable[[Any], bytes | str | None]
    """(headers) -> the first header that carries a context, as it is."""
    write: Callable[[Any, Context], list[tuple[str, bytes]]]
    """(headers, context) -> a copy in which the context replaces older ones."""
    incoming: Callable[[Any, Context], Incoming]
    """(headers, context) -> all that a message brings along; the headers are not empty."""
    outgoing: Callable[[Any, Span, Context], list[tuple[str, bytes]]]
    """(headers, span, context) -> a copy as `write` makes it, with this span instead of the context's."""
    outgoing_ids: Callable[[Any, Ids, Context], list[tuple[str, bytes]]]
    """(headers, ids, context) -> the same for a span that is not recorded."""
    creation_context: Callable[[Any], SpanContext | None]
    """(headers) -> what a link needs."""
    sampled: Callable[[Any], bool]
    """(headers) -> a cheap look at the sampled flag."""

    def __init__(self, propagator: TextMapPropagator, unreadable: Callable[[str], None]) -> None:
        members = _members(propagator)
        kinds = [type(member) for member in members]
        way: TraceContext | _Configured
        if kinds in ([TraceContextTextMapPropagator, W3CBaggagePropagator], [TraceContextTextMapPropagator]):
            way = TraceContext(unreadable, with_baggage=len(kinds) > 1)
        else:
            way = _Configured(CompositePropagator(members), unreadable)
        self.names = way.names
        self.read, self.find, self.write = way.read, way.find, way.write
        self.creation_context, self.sampled = way.creation_context, way.sampled
        self.incoming, self.outgoing, self.outgoing_ids = way.incoming, way.outgoing, way.outgoing_ids


def _members(propagator: TextMapPropagator) -> list[TextMapPropagator]:
    """List the propagators of a composite, without our own: the engine writes that header itself."""
    members = getattr(propagator, "_propagators", None) if type(propagator) is CompositePropagator else None
    found = [propagator] if members is None else list(members)
    return [member for member in found if not isinstance(member, PipelinePropagator)]


class _Configured:
    """Any other propagators, used by their own API."""

    def __init__(self, propagator: TextMapPropagator, unreadable: Callable[[str], None]) -> None:
        self._propagator = propagator
        self._unreadable = unreadable
        self.names = frozenset(name.lower() for name in propagator.fields)
        self._context_names = self.names - {BAGGAGE}

    def find(self, headers: Any) -> bytes | str | None:
        if not headers:
            return None
        for values in tolerant(headers, sorted(self._context_names)).values():
            for value in values:
                found: bytes | str | None = value
                return found
        return None

    def sampled(self, headers: Any) -> bool:
        created = self.creation_context(headers)
        return created is not None and bool(created.trace_flags & TraceFlags.SAMPLED)

    def creation_context(self, headers: Any) -> SpanContext | None:
        if not headers:
            return None
        created = get_current_span(self.read(headers, Context())).get_span_context()
        return created if created.is_valid else None

    def read(self, headers: Any, context: Context) -> Context:
        if not headers:
            return context
        try:
            return self._propagator.extract(headers, context, getter=_PAIRS)
        except Exception:
            self._unreadable("propagator")
            return context

    def write(self, headers: Any, context: Context) -> list[tuple[str, bytes]]:
        copy = without(headers, self.names)
        injected: dict[str, bytes] = {}
        try:
            self._propagator.inject(injected, context, setter=_ASCII)
        except Exception:
            self._unreadable("propagator")
        return [*copy, *injected.items()]

    def incoming(self, headers: Any, context: Context) -> Incoming:
        read = self.read(headers, set_span_in_context(INVALID_SPAN, context))
        span = get_current_span(read)
        own = tolerant(headers, (PIPELINE_HEADER,))[PIPELINE_HEADER]
        return (
            span if span.get_span_context().is_valid else None,
            set_span_in_context(get_current_span(context), read),
            self.find(headers),
            own[-1] if own else None,
            pipeline_header.fields(own[-1]) if own else None,
        )

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        return self.write(headers, set_span_in_context(span, context))

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        return self.outgoing(headers, LightSpan(ids[0], ids[1], ids[2], False, ids[3]), context)


class _PairsGetter(Getter[Any]):
    def get(self, carrier: Any, key: str) -> list[str] | None:
        values = tolerant(carrier, (key.lower(),))[key.lower()]
        raw = [as_bytes(value, MAX_TRACESTATE_BYTES) for value in values]
        return [value.decode("ascii") for value in raw if value is not None] or None

    def keys(self, carrier: Any) -> list[str]:
        return [pair[0] for pair in pairs(carrier) if isinstance(pair[0], str)]


class _AsciiSetter(Setter[dict[str, bytes]]):
    def set(self, carrier: dict[str, bytes], key: str, value: str) -> None:
        carrier[key] = value.encode("ascii", "ignore")


_PAIRS = _PairsGetter()
_ASCII = _AsciiSetter()
