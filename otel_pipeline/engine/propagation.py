"""Context in message headers: read tolerantly, written into a copy, through the propagators that are configured.

The default ones (W3C trace context and baggage) are compiled (trace_context.py); all others are used by their own API.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import INVALID_SPAN, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.brought import brought, with_brought
from otel_pipeline.engine.guard import raise_theirs
from otel_pipeline.engine.headers import (
    BAGGAGE,
    TRACEPARENT,
    TRACESTATE,
    context_headers,
    own_header,
    pairs,
    tolerant,
)
from otel_pipeline.engine.merged import merged
from otel_pipeline.engine.pipeline_propagator import PipelinePropagator
from otel_pipeline.engine.trace_context import LastOfSeveral, LightLink, LightSpan, TraceContext, chosen, links_to
from otel_pipeline.engine.w3c import MAX_TRACESTATE_BYTES, as_bytes, encode_baggage

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
    """(headers) -> what carries the context, as it is: of several headers the last that is valid."""
    write: Callable[[Any, Context], list[tuple[str, bytes]]]
    """(headers, context) -> a copy in which the context replaces older ones."""
    incoming: Callable[[Any, Context], Incoming]
    """(headers, context) -> all that a message brings along; the headers are not empty."""
    outgoing: Callable[[Any, Span, Context], list[tuple[str, bytes]]]
    """(headers, span, context) -> a copy as `write` makes it, with this span instead of the context's."""
    outgoing_ids: Callable[[Any, Ids, Context], list[tuple[str, bytes]]]
    """(headers, ids, context) -> the same for a span that is not recorded."""
    creation_links: Callable[[Any], tuple[LightLink, ...]]
    """(headers) -> links to the contexts that they carry."""
    sampled: Callable[[Any], bool]
    """(headers) -> a cheap look at the sampled flag."""
    sampled_links: Callable[[Any], tuple[LightLink, ...]]
    """(headers) -> links to the contexts that they carry, where that which counts is sampled."""

    def __init__(self, propagator: TextMapPropagator, unreadable: Callable[[str], None]) -> None:
        members = _members(propagator)
        kinds = [type(member) for member in members]
        way: TraceContext | _Configured
        if kinds in ([TraceContextTextMapPropagator, W3CBaggagePropagator], [TraceContextTextMapPropagator]):
            way = TraceContext(unreadable, with_baggage=len(kinds) > 1)
        else:
            way = _Configured(members, unreadable)
        self.names = way.names
        self.read, self.find, self.write = way.read, way.find, way.write
        self.creation_links, self.sampled = way.creation_links, way.sampled
        self.sampled_links = way.sampled_links
        self.incoming, self.outgoing, self.outgoing_ids = way.incoming, way.outgoing, way.outgoing_ids


def _members(propagator: TextMapPropagator) -> list[TextMapPropagator]:
    """List the propagators of a composite, without our own: the engine writes that header itself."""
    members = getattr(propagator, "_propagators", None) if type(propagator) is CompositePropagator else None
    found = [propagator] if members is None else list(members)
    return [member for member in found if not isinstance(member, PipelinePropagator)]


class _Configured:
    """Any other propagators, through their own API; baggage as the default ones have it."""

    def __init__(self, members: list[TextMapPropagator], unreadable: Callable[[str], None]) -> None:
        others = [member for member in members if type(member) is not W3CBaggagePropagator]
        self._propagator = CompositePropagator(others)
        self._unreadable = unreadable
        self._with_baggage = len(others) < len(members)
        self.names = frozenset(name.lower() for member in members for name in member.fields)
        self._context_names = self.names - {BAGGAGE, TRACESTATE}

    def find(self, headers: Any) -> bytes | str | None:
        if not headers:
            return None
        found = tolerant(headers, sorted(self._context_names))
        values: list[Any] = [value for name in found for value in found[name] if value is not None]
        # A context that stands in several headers is told by all of them.
        return values[0] if len(values) == 1 else repr(values) if values else None

    def sampled(self, headers: Any) -> bool:
        return any(link.context.trace_flags & TraceFlags.SAMPLED for link in self.creation_links(headers))

    def sampled_links(self, headers: Any) -> tuple[LightLink, ...]:
        links = self.creation_links(headers)
        return links if any(link.context.trace_flags & TraceFlags.SAMPLED for link in links) else ()

    def creation_links(self, headers: Any) -> tuple[LightLink, ...]:
        created = self.incoming(headers, Context())[0] if headers else None
        return () if created is None else links_to(created)

    def read(self, headers: Any, context: Context) -> Context:
        if not headers:
            return context
        try:
            context = self._propagator.extract(headers, context, getter=_PAIRS)
        except Exception:
            raise_theirs()
            self._unreadable("propagator")
        _, states, baggages = context_headers(headers)
        if states or (baggages and self._with_baggage):
            try:
                inside = with_brought(context, states, baggages if self._with_baggage else ())
            except Exception:
                raise_theirs()
                inside = None
            if inside is not None:
                return inside
            self._unreadable(BAGGAGE)
        return context

    def write(self, headers: Any, context: Context) -> list[tuple[str, bytes]]:
        ours: dict[str, bytes] = {}
        try:
            self._propagator.inject(ours, context, setter=_ASCII)
        except Exception:
            raise_theirs()
            self._unreadable("propagator")
        came = brought(context)
        baggage = get_all(context) if self._with_baggage else None
        if baggage and (encoded := encode_baggage(baggage, came.members)):
            ours[BAGGAGE] = encoded
        return merged(headers, self.names, ours, came) if headers else list(ours.items())

    def incoming(self, headers: Any, context: Context) -> Incoming:
        read = self.read(headers, set_span_in_context(INVALID_SPAN, context))
        header = own_header(headers)
        return (
            self._created(headers, get_current_span(read)),
            set_span_in_context(get_current_span(context), read),
            self.find(headers),
            header,
            None if header is None else pipeline_header.fields(header),
        )

    def _created(self, headers: Any, span: Span) -> Span | None:
        made = span.get_span_context()
        if not made.is_valid:
            return None
        parents = context_headers(headers).parents if TRACEPARENT in self.names else ()
        others = chosen(parents)[2] if len(parents) > 1 else ()
        if not others:
            return span
        ids, also = (made.trace_id, made.span_id, made.trace_flags), [LightSpan(*each, True) for each in others]
        return LastOfSeveral(*ids, True, lambda: made.trace_state, others=tuple(also))

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        return self.write(headers, set_span_in_context(span, context))

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        return self.outgoing(headers, LightSpan(ids[0], ids[1], ids[2], False, ids[3]), context)


class _PairsGetter(Getter[Any]):
    """Of several headers of a name the last one counts, as everywhere; propagators take the first that they get."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        found = tolerant(carrier, (key.lower(),))[key.lower()]
        values: list[Any] = [value for value in found if isinstance(value, (bytes, str))]
        if key.lower() == TRACEPARENT:
            values = [chosen(values)[1]]
        elif key.lower() not in (TRACESTATE, BAGGAGE):
            values.reverse()
        raw = [as_bytes(value, MAX_TRACESTATE_BYTES) for value in values]
        return [value.decode("ascii") for value in raw if value is not None] or None

    def keys(self, carrier: Any) -> list[str]:
        return [pair[0] for pair in pairs(carrier) if isinstance(pair[0], str)]


class _AsciiSetter(Setter[dict[str, bytes]]):
    def set(self, carrier: dict[str, bytes], key: str, value: str) -> None:
        carrier[key] = value.encode("ascii", "ignore")


_PAIRS = _PairsGetter()
_ASCII = _AsciiSetter()
