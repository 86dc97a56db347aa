"""The sender's context in a message, W3C trace context and baggage: the default propagators, compiled."""

from __future__ import annotations

import functools
from binascii import a2b_base64
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.span import TraceState

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.headers import pairs, tolerant, without
from otel_pipeline.engine.w3c import as_bytes, encode_baggage, parse_baggage, parse_tracestate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_pipeline.engine.pipeline_header import Fields

MAX_TRACEPARENT_BYTES = 512
TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"
_PIPELINE_HEADER = pipeline_header.NAME
_LENGTHS = frozenset(map(len, (TRACEPARENT, TRACESTATE, BAGGAGE, _PIPELINE_HEADER)))  # in any case
_FORMAT = b"00-%032x-%016x-%02x"
_DASH = ord("-")
_HEX = b"0123456789abcdef"
_LENGTH = 55  # of version 00: 2 + 1 + 32 + 1 + 16 + 1 + 2
_unpack, _STANDARD, _VERSION = pipeline_header.unpack, pipeline_header.STANDARD, pipeline_header.VERSION


Ids: TypeAlias = "tuple[int, int, int, Callable[[], TraceState | None] | None]"
"""Trace id, span id, flags, and how to read the tracestate where there is one."""
Incoming: TypeAlias = "tuple[Span | None, Context, bytes | str | None, bytes | str | None, Fields | None]"
"""What a message brings along: the sender's span, None without a valid one; the context with its baggage; the header
with the sender's context and the data-flow header, both as they came; what the latter says, None without
one."""


@dataclass(slots=True, eq=False, repr=False)
class LightSpan(NonRecordingSpan):
    """A span that is not recorded, or that of a message's sender: three numbers, and a SpanContext only when asked."""

    trace_id: int
    span_id: int
    flags: int
    is_remote: bool = False
    read_state: Callable[[], TraceState | None] | None = None
    _made: SpanContext | None = field(default=None, init=False)

    def get_span_context(self) -> SpanContext:
        """Return the span context, as the API's span does."""
        made = self._made
        if made is None:
            state, flags = None if self.read_state is None else self.read_state(), TraceFlags(self.flags)
            made = self._made = SpanContext(self.trace_id, self.span_id, self.is_remote, flags, state)
        return made

    def __repr__(self) -> str:
        return f"LightSpan({self.get_span_context()!r})"


_NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True, eq=False, repr=False)
class LightLink(Link):
    """A link without attributes, whose SpanContext is made when an exporter asks."""

    span: Span

    @property
    def context(self) -> SpanContext:
        """As the API's."""
        return self.span.get_span_context()

    @property
    def attributes(self) -> Mapping[str, Any]:
        """None."""
        return _NO_ATTRIBUTES

    @property
    def dropped_attributes(self) -> int:
        """None."""
        return 0


def parse_traceparent(value: Any) -> tuple[int, int, int] | None:
    """Read trace id, span id and flags (W3C Trace Context, 3.2); None when it is not valid."""
    if type(value) is not bytes or len(value) != _LENGTH:
        raw = as_bytes(value, MAX_TRACEPARENT_BYTES)
        if raw is None or len(raw) < _LENGTH:
            return None
        value = raw
        if len(raw) > _LENGTH:
            # A later version may say more after a dash; version 00 may not.
            if raw[_LENGTH] != _DASH or raw[:2] == b"00":
                return None
            value = raw[:_LENGTH]
    # One look at every byte: hexadecimal digits in lower case, and the three dashes at their places.
    if value.translate(None, _HEX) != b"---" or not value[2] == value[35] == value[52] == _DASH or value[:2] == b"ff":
        return None
    trace_id, span_id = int(value[3:35], 16), int(value[36:52], 16)
    if not trace_id or not span_id:
        return None
    return trace_id, span_id, int(value[53:55], 16)


class TraceContext:
    """The default propagators, compiled: what `Propagation` promises."""

    def __init__(self, unreadable: Callable[[str], None], *, with_baggage: bool) -> None:
        self._unreadable = unreadable
        self._with_baggage = with_baggage
        self.names = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE} if with_baggage else {TRACEPARENT, TRACESTATE})

    def find(self, headers: Any) -> bytes | str | None:
        """Find the first header that carries a context."""
        if not headers:
            return None
        try:
            for name, value in pairs(headers):
                if name == TRACEPARENT or (len(name) == len(TRACEPARENT) and name.lower() == TRACEPARENT):
                    found: bytes | str | None = value
                    return found
        except Exception:
            return next(iter(tolerant(headers, (TRACEPARENT,))[TRACEPARENT]), None)
        return None

    def sampled(self, headers: Any) -> bool:
        """Look at the sampled flag."""
        value = self.find(headers)
        try:
            return value is not None and bool(int(value[53:55], 16) & 1)
        except Exception:
            return False

    def creation_context(self, headers: Any) -> SpanContext | None:
        """Read what a link needs."""
        if not headers:
            return None
        try:
            found = _collect(headers)
            return self._remote(found[0], found[1])
        except Exception:
            self._unreadable("headers")
            return None

    def read(self, headers: Any, context: Context) -> Context:
        """Put what the headers carry into the context."""
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

    def incoming(  # noqa: C901, PLR0912 - one pass over the headers
        self, headers: Any, context: Context
    ) -> Incoming:
        """Read all that a message brings along, in one pass."""
        more, first, header, fields = False, None, None, None
        try:
            for name, value in headers:
                if name == TRACEPARENT:
                    if first is None:
                        first = value
                    else:
                        more = True
                elif name == _PIPELINE_HEADER:
                    header = value  # The last one counts, as the Java client's `lastHeader` has it.
                elif len(name) in _LENGTHS:
                    more = True
            if header is not None:
                try:
                    fields = _unpack(a2b_base64(header.translate(_STANDARD)))
                    if fields[0] >> 24 != _VERSION:
                        fields = None
                except Exception:
                    fields = pipeline_header.fields(header)
            if not more:
                ids = None if first is None else parse_traceparent(first)
                if ids is not None:
                    return LightSpan(ids[0], ids[1], ids[2], True), context, first, header, fields
                if first is not None:
                    self._unreadable(TRACEPARENT)
                return None, context, first, header, fields
            parents, states, baggages = _collect(headers)
            remote = self._light(parents, states)
            if baggages and self._with_baggage:
                context = self._read_baggage(baggages, context)
        except Exception:
            return self._incoming_tolerant(headers, context)
        return remote, context, parents[0] if parents else None, header, fields

    def _incoming_tolerant(self, headers: Any, context: Context) -> Incoming:
        found = tolerant(headers, (TRACEPARENT, TRACESTATE, BAGGAGE, _PIPELINE_HEADER))
        parents, own = found[TRACEPARENT], found[_PIPELINE_HEADER]
        try:
            remote = self._light(parents, found[TRACESTATE])
            if found[BAGGAGE] and self._with_baggage:
                context = self._read_baggage(found[BAGGAGE], context)
        except Exception:
            self._unreadable("headers")
            remote = None
        header = own[-1] if own else None
        return remote, context, parents[0] if parents else None, header, pipeline_header.fields(header)

    def _light(self, parents: list[Any], states: list[Any]) -> LightSpan | None:
        if not parents:
            return None
        ids = parse_traceparent(parents[0]) if len(parents) == 1 else None
        if ids is None:
            self._unreadable(TRACEPARENT)
            return None
        read_state = functools.partial(self._read_state, states) if states else None
        return LightSpan(ids[0], ids[1], ids[2], is_remote=True, read_state=read_state)

    def _remote(self, parents: list[Any], states: list[Any]) -> SpanContext | None:
        light = self._light(parents, states)
        return None if light is None else light.get_span_context()

    def _read_state(self, states: list[Any]) -> TraceState | None:
        entries = parse_tracestate(states)
        if entries is None:
            self._unreadable(TRACESTATE)
            return None
        return TraceState(entries)

    def _read_baggage(self, baggages: list[Any], context: Context) -> Context:
        members = parse_baggage(baggages)
        if members is None:
            self._unreadable(BAGGAGE)
            return context
        for key, value in members:
            context = set_baggage(key, value, context)
        return context

    def write(self, headers: Any, context: Context) -> list[tuple[str, bytes]]:
        """Copy the headers, with this context in place of older ones."""
        return self.outgoing(headers, get_current_span(context), context)

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        """Copy the headers, with this span in place of the context's."""
        if type(span) is LightSpan:
            return self.outgoing_ids(headers, (span.trace_id, span.span_id, span.flags, span.read_state), context)
        made = span.get_span_context()
        copy = without(headers, self.names) if headers else []
        if made.is_valid:
            copy.append((TRACEPARENT, _FORMAT % (made.trace_id, made.span_id, made.trace_flags)))
        self._add(copy, made.trace_state, context)
        return copy

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        """Do the same for a span that is not recorded."""
        trace_id, span_id, flags, read_state = ids
        pair = (TRACEPARENT, _FORMAT % (trace_id, span_id, flags))
        if not headers and read_state is None and not context:
            return [pair]
        copy = without(headers, self.names) if headers else []
        copy.append(pair)
        self._add(copy, None if read_state is None else read_state(), context)
        return copy

    def _add(self, copy: list[tuple[str, bytes]], state: TraceState | None, context: Context) -> None:
        if state:
            copy.append((TRACESTATE, state.to_header().encode("ascii", "ignore")))
        if context and self._with_baggage:
            baggage = get_all(context)
            if baggage:
                encoded = encode_baggage(baggage)
                if encoded:
                    copy.append((BAGGAGE, encoded))


def _collect(headers: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Collect all values of the three headers, in their order; names in upper or lower case."""
    parents: list[Any] = []
    states: list[Any] = []
    baggages: list[Any] = []
    try:
        for name, value in pairs(headers):
            if name == TRACEPARENT:
                parents.append(value)
                continue
            length = len(name)
            if length == 10 or length == 11 or length == 7:  # noqa: PLR1714, PLR2004 - the three names' lengths
                lower = name.lower()
                if lower == TRACESTATE:
                    states.append(value)
                elif lower == TRACEPARENT:
                    parents.append(value)
                elif lower == BAGGAGE:
                    baggages.append(value)
    except Exception:
        found = tolerant(headers, (TRACEPARENT, TRACESTATE, BAGGAGE))
        return found[TRACEPARENT], found[TRACESTATE], found[BAGGAGE]
    return parents, states, baggages
