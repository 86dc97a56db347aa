"""The sender's context in a message, W3C trace context and baggage: the default propagators, compiled."""

from __future__ import annotations

import functools
from binascii import a2b_base64, unhexlify
from dataclasses import dataclass, field
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.baggage import _BAGGAGE_KEY, get_all
from opentelemetry.context import Context
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
from otel_pipeline.engine.brought import brought, with_brought, with_states
from otel_pipeline.engine.guard import raise_theirs
from otel_pipeline.engine.headers import BAGGAGE, TRACEPARENT, TRACESTATE, context_headers, own_header, pairs
from otel_pipeline.engine.merged import merged
from otel_pipeline.engine.span_shape import KnownIds
from otel_pipeline.engine.w3c import as_bytes, encode_baggage, parse_tracestate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.trace import Span

    from otel_pipeline.engine.pipeline_header import Fields

MAX_TRACEPARENT_BYTES = 512
MAX_TRACEPARENTS = 8
"""How many of one message are looked at, from the last one on."""
_PIPELINE_HEADER = pipeline_header.NAME
_LENGTHS = frozenset(map(len, (TRACEPARENT, TRACESTATE, BAGGAGE, _PIPELINE_HEADER)))  # in any case
_FORMAT = b"00-%032x-%016x-%02x"
_DASH = ord("-")
_HEX = b"0123456789abcdef"
_FLAGS = {b"%02x" % flags: flags for flags in range(0x100)}
_ids = Struct(">QQQ").unpack
_LENGTH = 55  # of version 00: 2 + 1 + 32 + 1 + 16 + 1 + 2
_unpack, _STANDARD, _VERSION = pipeline_header.unpack, pipeline_header.STANDARD, pipeline_header.VERSION
_ONE_MORE = pipeline_header.ONE_MORE


Ids: TypeAlias = "tuple[int, int, int, Callable[[], TraceState | None] | None]"
"""Trace id, span id, flags, and how to read the tracestate where there is one."""
Incoming: TypeAlias = "tuple[Span | None, Context, bytes | str | None, bytes | str | None, Fields | None]"
"""What a message brings along: the sender's span, None without a valid one; the context with its baggage; the header
with the sender's context and the data-flow header, both as they came; what the latter says, None without."""


@dataclass(slots=True, eq=False, repr=False)
class LightSpan(KnownIds, NonRecordingSpan):
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


@dataclass(slots=True, eq=False, repr=False)
class LastOfSeveral(LightSpan):
    """The sender's span where a message has several contexts: whoever sent it on has added to what it got."""

    others: tuple[LightSpan, ...] = ()
    """Those of the other contexts."""


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


def links_to(created: Span) -> tuple[LightLink, ...]:
    """Return the links to a message's creation context, and to the others that it has."""
    return (LightLink(created), *map(LightLink, getattr(created, "others", ())))


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
        """Find the header that carries the context: of several the last that is valid."""
        if not headers:
            return None
        try:
            values = [
                value
                for name, value in pairs(headers)
                if name == TRACEPARENT or (len(name) == len(TRACEPARENT) and name.lower() == TRACEPARENT)
            ]
        except Exception:
            raise_theirs()
            values = context_headers(headers).parents
        return values[0] if len(values) == 1 else chosen(values)[1]

    def sampled(self, headers: Any) -> bool:
        """Look at the sampled flag."""
        value = self.find(headers)
        try:
            return value is not None and bool(int(value[53:55], 16) & 1)
        except Exception:
            raise_theirs()
            return False

    def creation_links(self, headers: Any) -> tuple[LightLink, ...]:
        """Link to the contexts that the headers carry."""
        created = self.incoming(headers, Context())[0] if headers else None
        return () if created is None else links_to(created)

    def sampled_links(self, headers: Any) -> tuple[LightLink, ...]:
        """Link to the contexts that the headers carry, where that which counts is sampled."""
        try:
            only = state = None
            for name, value in headers:
                if name == TRACEPARENT and only is None:
                    only = value
                elif name == TRACESTATE and state is None:
                    state = value
                elif len(name) in _LENGTHS and name != _PIPELINE_HEADER:
                    only = None
                    break  # More than most messages have.
            # One pass: a call gives hundreds of messages, and its span has a link to each.
            if only is not None:
                ids = parse_traceparent(only) if int(only[53:55], 16) & 1 else None
                if ids is not None:
                    read_state = None if state is None else functools.partial(self._read_state, [state])
                    return (LightLink(LightSpan(*ids, True, read_state)),)
        except Exception:
            raise_theirs()
        return self.creation_links(headers) if self.sampled(headers) else ()

    def read(self, headers: Any, context: Context) -> Context:
        """Put what the headers carry into the context."""
        if not headers:
            return context
        created, inside, *_ = self.incoming(headers, context)
        return inside if created is None else set_span_in_context(NonRecordingSpan(created.get_span_context()), inside)

    def incoming(self, headers: Any, context: Context) -> Incoming:  # noqa: C901, PLR0912 - one pass
        """Read all that a message brings along, in one pass."""
        more, first, state, read_state, header, fields = False, None, None, None, None, None
        try:
            for name, value in headers:
                if name == TRACEPARENT:
                    if first is None:
                        first = value
                    else:
                        more = True
                elif name == _PIPELINE_HEADER:
                    header = value  # The last one counts, as the Java client's `lastHeader` has it.
                elif name == TRACESTATE and state is None and value is not None:
                    state = value
                elif len(name) in _LENGTHS:
                    more = True
            if header is not None:
                try:
                    fields = _unpack(a2b_base64(header[:_ONE_MORE].translate(_STANDARD)))  # See `fields`.
                    if fields[0] >> 24 != _VERSION:
                        fields = None
                except Exception:
                    raise_theirs()
                    fields = pipeline_header.fields(header)
            if more or (state is not None and header is None):
                return self._more(headers, context)
            if state is not None:
                states = [state]
                read_state, context = functools.partial(self._read_state, states), with_states(context, states)
            # Most are so: `parse_traceparent`, in place. No letter may be in upper case; what is no digit raises.
            if type(first) is bytes and len(first) == _LENGTH and first[:3] == b"00-" and first == first.lower():
                _, trace, span, last = first.split(b"-")
                flags = _FLAGS.get(last)
                if len(trace) == 32 and len(span) == 16 and flags is not None:  # noqa: PLR2004
                    high, low, span_id = _ids(unhexlify(trace + span))
                    if (high or low) and span_id:
                        created = LightSpan(high << 64 | low, span_id, flags, True, read_state)
                        return created, context, first, header, fields
            ids = None if first is None else parse_traceparent(first)
            if ids is not None:
                return LightSpan(ids[0], ids[1], ids[2], True, read_state), context, first, header, fields
            if first is not None:
                self._unreadable(TRACEPARENT)
        except Exception:
            raise_theirs()
            return self._more(headers, context)  # A mapping, or not pairs alone.
        return None, context, first, header, fields

    def _more(self, headers: Any, context: Context) -> Incoming:
        """Read what is more than one `traceparent` and one `otelp`; what is bad costs nothing but itself."""
        found, header = context_headers(headers), own_header(headers)
        created, carried = self._light(found.parents, found.states)
        if found.states or (found.baggages and self._with_baggage):
            try:
                inside = with_brought(context, found.states, found.baggages if self._with_baggage else ())
            except Exception:
                raise_theirs()
                inside = None
            if inside is None:
                self._unreadable(BAGGAGE)
            else:
                context = inside
        return created, context, carried, header, pipeline_header.fields(header)

    def _light(self, parents: list[Any], states: list[Any]) -> tuple[LightSpan | None, bytes | str | None]:
        """Return the sender's span, and the header that it was read from."""
        if not parents:
            return None, None
        ids, carried, others = chosen(parents)
        if ids is None:
            self._unreadable(TRACEPARENT)
            return None, carried
        read_state = functools.partial(self._read_state, states) if states else None
        if not others:
            return LightSpan(*ids, is_remote=True, read_state=read_state), carried
        spans = tuple(LightSpan(*each, is_remote=True) for each in others)
        return LastOfSeveral(*ids, is_remote=True, read_state=read_state, others=spans), carried

    def _read_state(self, states: list[Any]) -> TraceState | None:
        try:
            entries = parse_tracestate(states)
        except Exception:
            raise_theirs()
            entries = None
        if entries is None:
            self._unreadable(TRACESTATE)
            return None
        return TraceState(entries)

    def write(self, headers: Any, context: Context) -> list[tuple[str, bytes]]:
        """Copy the headers, with this context in place of older ones."""
        return self.outgoing(headers, get_current_span(context), context)

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        """Copy the headers, with this span in place of the context's."""
        if isinstance(span, KnownIds):
            if not headers and span.read_state is None and (not context or _BAGGAGE_KEY not in context):
                return [(TRACEPARENT, _FORMAT % (span.trace_id, span.span_id, span.flags))]
            return self.outgoing_ids(headers, (span.trace_id, span.span_id, span.flags, span.read_state), context)
        made = span.get_span_context()
        ours: dict[str, bytes] = {}
        if made.is_valid:
            ours[TRACEPARENT] = _FORMAT % (made.trace_id, made.span_id, made.trace_flags)
        self._add(ours, made.trace_state, context)
        return merged(headers, self.names, ours, brought(context)) if headers else list(ours.items())

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        """Do the same for a span that is not recorded."""
        trace_id, span_id, flags, read_state = ids
        traceparent = _FORMAT % (trace_id, span_id, flags)
        if not headers and read_state is None and (not context or _BAGGAGE_KEY not in context):
            return [(TRACEPARENT, traceparent)]
        ours = {TRACEPARENT: traceparent}
        self._add(ours, None if read_state is None else read_state(), context)
        return merged(headers, self.names, ours, brought(context)) if headers else list(ours.items())

    def _add(self, ours: dict[str, bytes], state: TraceState | None, context: Context) -> None:
        if state:
            ours[TRACESTATE] = state.to_header().encode("ascii", "ignore")
        if context and self._with_baggage:
            baggage = get_all(context)
            if baggage and (encoded := encode_baggage(baggage, brought(context).members)):
                ours[BAGGAGE] = encoded


def chosen(
    parents: Sequence[Any],
) -> tuple[tuple[int, int, int] | None, bytes | str | None, list[tuple[int, int, int]]]:
    """Choose among the values of several `traceparent`: the last valid one, it as it came, and the other valid ones.

    On Kafka the last header of a name wins: the Java client reads `lastHeader`, and others append. With none that is
    valid, the last one as it came.
    """
    found: dict[tuple[int, int, int], Any] = {}
    for value in reversed(parents[-MAX_TRACEPARENTS:]):
        try:
            ids = parse_traceparent(value)
        except Exception:
            raise_theirs()
            ids = None
        if ids is not None:
            found.setdefault(ids, value)
    if not found:
        return None, parents[-1] if parents else None, []
    (ids, value), *others = found.items()
    return ids, value, [each for each, _ in others]
