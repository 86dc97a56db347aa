"""Context in message headers: read tolerantly, written into a copy, through the propagators that are configured.

The default ones (W3C trace context and baggage) are compiled (w3c.py); all others go through their own API.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from otel_pipeline.engine.pipeline_header import NAME as PIPELINE_HEADER
from otel_pipeline.engine.pipeline_header import PipelinePropagator
from otel_pipeline.engine.spans import LightSpan
from otel_pipeline.engine.w3c import (
    MAX_TRACESTATE_BYTES,
    as_bytes,
    encode_baggage,
    parse_baggage,
    parse_traceparent,
    parse_tracestate,
)

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span

    from otel_pipeline.engine.spans import Ids

HeaderPairs: TypeAlias = Sequence[tuple[str, bytes | str | None]]
Headers: TypeAlias = HeaderPairs | Mapping[str, bytes | str]


_TRACEPARENT, _TRACESTATE, _BAGGAGE = "traceparent", "tracestate", "baggage"
_LENGTHS = frozenset({len(_TRACEPARENT), len(_TRACESTATE), len(_BAGGAGE), len(PIPELINE_HEADER)})  # in any case
_FORMAT = b"00-%032x-%016x-%02x"


Incoming: TypeAlias = "tuple[Span | None, Context, bytes | str | None, bytes | str | None]"
"""What a message brings along: the sender's span, None without a valid one; the context with its baggage; the header
with the sender's context and the data-flow header, both as they came."""


class Propagation:
    """Reads and writes context on header pairs. Nothing here raises, whatever the bytes; safe in any thread.

    Args:
        propagator: the configured one.
        unreadable: called with a reason when a header that should be context is none.
    """

    names: frozenset[str]
    """Header names, in lower case, that are written and replaced."""
    read: Callable[[Any, Context], Context]
    """(headers, context) -> the context with the remote span and the baggage; itself when there is nothing valid."""
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
        way: _W3C | _Configured
        if kinds in ([TraceContextTextMapPropagator, W3CBaggagePropagator], [TraceContextTextMapPropagator]):
            way = _W3C(unreadable, with_baggage=len(kinds) > 1)
        else:
            way = _Configured(CompositePropagator(members), unreadable)
        self.names = way.names
        self.read, self.find, self.write = way.read, way.find, way.write
        self.creation_context, self.sampled = way.creation_context, way.sampled
        self.incoming, self.outgoing, self.outgoing_ids = way.incoming, way.outgoing, way.outgoing_ids


def _members(propagator: TextMapPropagator) -> list[TextMapPropagator]:
    """The propagators of a composite, without our own: the engine writes that header itself."""
    members = getattr(propagator, "_propagators", None) if type(propagator) is CompositePropagator else None
    found = [propagator] if members is None else list(members)
    return [member for member in found if not isinstance(member, PipelinePropagator)]


def _pairs(headers: Headers) -> Iterable[tuple[Any, Any]]:
    return headers.items() if isinstance(headers, Mapping) else headers


class _W3C:
    """The default propagators, compiled."""

    def __init__(self, unreadable: Callable[[str], None], *, with_baggage: bool) -> None:
        self._unreadable = unreadable
        self._with_baggage = with_baggage
        self.names = frozenset({_TRACEPARENT, _TRACESTATE, _BAGGAGE} if with_baggage else {_TRACEPARENT, _TRACESTATE})

    def find(self, headers: Any) -> bytes | str | None:
        if not headers:
            return None
        try:
            for name, value in _pairs(headers):
                if name == _TRACEPARENT or (len(name) == len(_TRACEPARENT) and name.lower() == _TRACEPARENT):
                    found: bytes | str | None = value
                    return found
        except Exception:
            return next(iter(_tolerant(headers, (_TRACEPARENT,))[_TRACEPARENT]), None)
        return None

    def sampled(self, headers: Any) -> bool:
        value = self.find(headers)
        try:
            return value is not None and bool(int(value[53:55], 16) & 1)
        except Exception:
            return False

    def creation_context(self, headers: Any) -> SpanContext | None:
        if not headers:
            return None
        try:
            found = _collect(headers)
            return self._remote(found[0], found[1])
        except Exception:
            self._unreadable("headers")
            return None

    def read(self, headers: Any, context: Context) -> Context:
        if not headers:
            return context
        try:
            parents, states, baggages = _collect(headers)
            remote = self._remote(parents, states)
            if remote is not None:
                context = set_span_in_context(NonRecordingSpan(remote), context)
            if baggages and self._with_baggage:
                context = self._read_baggage(baggages, context)
        except Exception:
            self._unreadable("headers")
        return context

    def incoming(  # noqa: C901 - one pass over the headers
        self, headers: Any, context: Context
    ) -> Incoming:
        more = False
        first = header = None
        try:
            for name, value in headers:
                if name == _TRACEPARENT:
                    if first is None:
                        first = value
                    else:
                        more = True
                elif name == PIPELINE_HEADER:
                    if header is None:
                        header = value
                elif len(name) in _LENGTHS:
                    more = True
            if not more:
                if first is None:
                    return None, context, None, header
                ids = parse_traceparent(first)
                if ids is None:
                    self._unreadable(_TRACEPARENT)
                    return None, context, first, header
                return LightSpan(ids[0], ids[1], ids[2], True), context, first, header
            parents, states, baggages = _collect(headers)
            remote = self._light(parents, states)
            if baggages and self._with_baggage:
                context = self._read_baggage(baggages, context)
        except Exception:
            return self._incoming_tolerant(headers, context)
        return remote, context, parents[0] if parents else None, header

    def _incoming_tolerant(self, headers: Any, context: Context) -> Incoming:
        found = _tolerant(headers, (_TRACEPARENT, _TRACESTATE, _BAGGAGE, PIPELINE_HEADER))
        parents, own = found[_TRACEPARENT], found[PIPELINE_HEADER]
        try:
            remote = self._light(parents, found[_TRACESTATE])
            if found[_BAGGAGE] and self._with_baggage:
                context = self._read_baggage(found[_BAGGAGE], context)
        except Exception:
            self._unreadable("headers")
            remote = None
        return remote, context, parents[0] if parents else None, own[0] if own else None

    def _light(self, parents: list[Any], states: list[Any]) -> LightSpan | None:
        if not parents:
            return None
        ids = parse_traceparent(parents[0]) if len(parents) == 1 else None
        if ids is None:
            self._unreadable(_TRACEPARENT)
            return None
        read_state = functools.partial(self._read_state, states) if states else None
        return LightSpan(ids[0], ids[1], ids[2], is_remote=True, read_state=read_state)

    def _remote(self, parents: list[Any], states: list[Any]) -> SpanContext | None:
        light = self._light(parents, states)
        return None if light is None else light.get_span_context()

    def _read_state(self, states: list[Any]) -> TraceState | None:
        entries = parse_tracestate(states)
        if entries is None:
            self._unreadable(_TRACESTATE)
            return None
        return TraceState(entries)

    def _read_baggage(self, baggages: list[Any], context: Context) -> Context:
        members = parse_baggage(baggages)
        if members is None:
            self._unreadable(_BAGGAGE)
            return context
        for key, value in members:
            context = set_baggage(key, value, context)
        return context

    def write(self, headers: Any, context: Context) -> list[tuple[str, bytes]]:
        return self.outgoing(headers, get_current_span(context), context)

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        if type(span) is LightSpan:
            return self.outgoing_ids(headers, (span.trace_id, span.span_id, span.flags, span.read_state), context)
        made = span.get_span_context()
        copy = _without(headers, self.names) if headers else []
        if made.is_valid:
            copy.append((_TRACEPARENT, _FORMAT % (made.trace_id, made.span_id, made.trace_flags)))
        self._add(copy, made.trace_state, context)
        return copy

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        trace_id, span_id, flags, read_state = ids
        pair = (_TRACEPARENT, _FORMAT % (trace_id, span_id, flags))
        if not headers and read_state is None and not context:
            return [pair]
        copy = _without(headers, self.names) if headers else []
        copy.append(pair)
        self._add(copy, None if read_state is None else read_state(), context)
        return copy

    def _add(self, copy: list[tuple[str, bytes]], state: TraceState | None, context: Context) -> None:
        if state:
            copy.append((_TRACESTATE, state.to_header().encode("ascii", "ignore")))
        if context and self._with_baggage:
            baggage = get_all(context)
            if baggage:
                encoded = encode_baggage(baggage)
                if encoded:
                    copy.append((_BAGGAGE, encoded))


def _collect(headers: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """All values of the three headers, in their order; names in any case."""
    parents: list[Any] = []
    states: list[Any] = []
    baggages: list[Any] = []
    try:
        for name, value in _pairs(headers):
            if name == _TRACEPARENT:
                parents.append(value)
                continue
            length = len(name)
            if length == 10 or length == 11 or length == 7:  # noqa: PLR1714, PLR2004 - the three names' lengths
                lower = name.lower()
                if lower == _TRACESTATE:
                    states.append(value)
                elif lower == _TRACEPARENT:
                    parents.append(value)
                elif lower == _BAGGAGE:
                    baggages.append(value)
    except Exception:
        found = _tolerant(headers, (_TRACEPARENT, _TRACESTATE, _BAGGAGE))
        return found[_TRACEPARENT], found[_TRACESTATE], found[_BAGGAGE]
    return parents, states, baggages


def _tolerant(headers: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """The same where one of the headers is no pair, or its name no text: that one is passed over."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    try:
        for pair in _pairs(headers):
            try:
                name, value = pair
                lower = name.lower() if isinstance(name, str) else bytes(name).decode("ascii").lower()
            except Exception:  # noqa: S112 - no pair, or no text: passed over
                continue
            if lower in found:
                found[lower].append(value)
    except Exception:
        return {name: [] for name in names}
    return found


def _without(headers: Any, names: frozenset[str]) -> list[tuple[str, bytes]]:
    if not headers:
        return []
    # The application's own pairs, not copies of them: what is wrong with one the client says in its own words.
    try:
        return [
            pair
            for pair in _pairs(headers)
            if (name := pair[0]) not in names and (not isinstance(name, str) or name.lower() not in names)
        ]
    except Exception:
        return [pair for pair in _pairs(headers) if not (type(pair) is tuple and pair and pair[0] in names)]


class _Configured:
    """Any other propagators, through their own API."""

    def __init__(self, propagator: TextMapPropagator, unreadable: Callable[[str], None]) -> None:
        self._propagator = propagator
        self._unreadable = unreadable
        self.names = frozenset(name.lower() for name in propagator.fields)
        self._context_names = self.names - {_BAGGAGE}

    def find(self, headers: Any) -> bytes | str | None:
        if not headers:
            return None
        for values in _tolerant(headers, sorted(self._context_names)).values():
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
        copy = _without(headers, self.names)
        injected: dict[str, bytes] = {}
        try:
            self._propagator.inject(injected, context, setter=_ASCII)
        except Exception:
            self._unreadable("propagator")
        return [*copy, *injected.items()]

    def incoming(self, headers: Any, context: Context) -> Incoming:
        read = self.read(headers, set_span_in_context(INVALID_SPAN, context))
        span = get_current_span(read)
        own = _tolerant(headers, (PIPELINE_HEADER,))[PIPELINE_HEADER]
        return (
            span if span.get_span_context().is_valid else None,
            set_span_in_context(get_current_span(context), read),
            self.find(headers),
            own[0] if own else None,
        )

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        return self.write(headers, set_span_in_context(span, context))

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        return self.outgoing(headers, LightSpan(ids[0], ids[1], ids[2], False, ids[3]), context)


class _PairsGetter(Getter[Any]):
    def get(self, carrier: Any, key: str) -> list[str] | None:
        values = _tolerant(carrier, (key.lower(),))[key.lower()]
        raw = [as_bytes(value, MAX_TRACESTATE_BYTES) for value in values]
        return [value.decode("ascii") for value in raw if value is not None] or None

    def keys(self, carrier: Any) -> list[str]:
        return [pair[0] for pair in _pairs(carrier) if isinstance(pair[0], str)]


class _AsciiSetter(Setter[dict[str, bytes]]):
    def set(self, carrier: dict[str, bytes], key: str, value: str) -> None:
        carrier[key] = value.encode("ascii", "ignore")


_PAIRS = _PairsGetter()
_ASCII = _AsciiSetter()
