"""Context in message headers: read tolerantly, written into a copy, through the propagators that are configured.

For the default ones (W3C trace context and baggage) the headers are read and written as bytes here, by slices with caps
and never by a regular expression: a crafted header must not stall the process. All others go through their own API.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote

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

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span

    from otel_pipeline.engine.spans import Ids

HeaderPairs: TypeAlias = Sequence[tuple[str, bytes | str | None]]
Headers: TypeAlias = HeaderPairs | Mapping[str, bytes | str]

MAX_TRACEPARENT_BYTES = 512
MAX_TRACESTATE_BYTES = 8_192
MAX_TRACESTATE_MEMBERS = 32
MAX_BAGGAGE_BYTES = 8_192
MAX_BAGGAGE_MEMBERS = 180
MAX_BAGGAGE_MEMBER_BYTES = 4_096

_TRACEPARENT, _TRACESTATE, _BAGGAGE = "traceparent", "tracestate", "baggage"
_LENGTHS = frozenset({len(_TRACEPARENT), len(_TRACESTATE), len(_BAGGAGE), len(PIPELINE_HEADER)})  # in any case
_DASH = ord("-")
_FORMAT = b"00-%032x-%016x-%02x"
_HEX = b"0123456789abcdef"
_LENGTH = 55  # of version 00: 2 + 1 + 32 + 1 + 16 + 1 + 2
_BAGGAGE_SAFE = "!#$&'()*+-./:<>?@[]^_`{|}~"  # W3C baggage-octet; the rest is percent-encoded


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
        first = flow = None
        try:
            for name, value in headers:
                if name == _TRACEPARENT:
                    if first is None:
                        first = value
                    else:
                        more = True
                elif name == PIPELINE_HEADER:
                    if flow is None:
                        flow = value
                elif len(name) in _LENGTHS:
                    more = True
            if not more:
                if first is None:
                    return None, context, None, flow
                ids = parse_traceparent(first)
                if ids is None:
                    self._unreadable(_TRACEPARENT)
                    return None, context, first, flow
                return LightSpan(ids[0], ids[1], ids[2], True), context, first, flow
            parents, states, baggages = _collect(headers)
            remote = self._light(parents, states)
            if baggages and self._with_baggage:
                context = self._read_baggage(baggages, context)
        except Exception:
            return self._incoming_tolerant(headers, context)
        return remote, context, parents[0] if parents else None, flow

    def _incoming_tolerant(self, headers: Any, context: Context) -> Incoming:
        found = _tolerant(headers, (_TRACEPARENT, _TRACESTATE, _BAGGAGE, PIPELINE_HEADER))
        parents, flows = found[_TRACEPARENT], found[PIPELINE_HEADER]
        try:
            remote = self._light(parents, found[_TRACESTATE])
            if found[_BAGGAGE] and self._with_baggage:
                context = self._read_baggage(found[_BAGGAGE], context)
        except Exception:
            self._unreadable("headers")
            remote = None
        return remote, context, parents[0] if parents else None, flows[0] if flows else None

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
    return [
        (name, value)
        for name, value in _pairs(headers)
        if name not in names and (not isinstance(name, str) or name.lower() not in names)
    ]


def _as_bytes(value: Any, limit: int) -> bytes | None:
    """The value as bytes without the white space around it; None when it is too long, missing or not ASCII."""
    if value is None or len(value) > limit:
        return None
    try:
        raw = value.encode("ascii") if isinstance(value, str) else bytes(value)
    except UnicodeEncodeError:
        return None
    return raw.strip(b" \t") if raw.isascii() else None


def parse_traceparent(value: Any) -> tuple[int, int, int] | None:
    """Trace id, span id and flags (W3C Trace Context, 3.2); None when it is not valid."""
    if type(value) is not bytes or len(value) != _LENGTH:
        raw = _as_bytes(value, MAX_TRACEPARENT_BYTES)
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


def parse_tracestate(values: Sequence[Any]) -> list[tuple[str, str]] | None:
    """The members of all tracestate headers together (W3C Trace Context, 3.3); None when one of them is not valid."""
    if sum(len(value) for value in values if value is not None) > MAX_TRACESTATE_BYTES:
        return None
    entries: dict[str, str] = {}
    for value in values:
        raw = _as_bytes(value, MAX_TRACESTATE_BYTES)
        if raw is None:
            return None
        for part in raw.decode("ascii").split(","):
            member = part.strip(" \t")
            if not member:
                continue
            key, equals, text = member.partition("=")
            if not equals or not _is_state_key(key) or not _is_state_value(text):
                return None
            entries.setdefault(key, text)
            if len(entries) > MAX_TRACESTATE_MEMBERS:
                return None
    return list(entries.items())


_KEY_REST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-*/")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_LOWER_OR_DIGIT = _LOWER | frozenset("0123456789")


def _is_state_key(key: str) -> bool:
    """`simple-key` or `tenant@system`, as W3C Trace Context level 1 has them: the stricter of the two levels."""
    tenant, at, system = key.partition("@")
    if at:
        return (
            0 < len(tenant) <= 241  # noqa: PLR2004 - lengths of the grammar
            and 0 < len(system) <= 14  # noqa: PLR2004
            and tenant[0] in _LOWER_OR_DIGIT
            and system[0] in _LOWER
            and _KEY_REST.issuperset(tenant)
            and _KEY_REST.issuperset(system)
        )
    return 0 < len(key) <= 256 and key[0] in _LOWER and _KEY_REST.issuperset(key)  # noqa: PLR2004


def _is_state_value(value: str) -> bool:
    return 0 < len(value) <= 256 and all(" " <= letter <= "~" and letter != "=" for letter in value)  # noqa: PLR2004


def parse_baggage(values: Sequence[Any]) -> list[tuple[str, str]] | None:
    """The members of all baggage headers together (W3C Baggage); those that are not valid are left out."""
    if sum(len(value) for value in values if value is not None) > MAX_BAGGAGE_BYTES:
        return None
    members: list[tuple[str, str]] = []
    for value in values:
        raw = _as_bytes(value, MAX_BAGGAGE_BYTES)
        if raw is None:
            return None
        for member in raw.decode("ascii").split(","):
            key, equals, text = member.partition("=")
            key = unquote(key.strip(" \t"))
            if not equals or not key or len(member) > MAX_BAGGAGE_MEMBER_BYTES:
                continue
            # `unquote`, not `unquote_plus`: a peer's plus sign is a plus sign.
            members.append((key, unquote(text.strip(" \t"))))
            if len(members) >= MAX_BAGGAGE_MEMBERS:
                return members
    return members


def encode_baggage(baggage: Mapping[str, object]) -> bytes:
    """The header of these members; what goes beyond the limits is left out, the rest is kept."""
    length, members = 0, []
    for key, value in baggage.items():
        member = f"{quote(str(key), safe=_BAGGAGE_SAFE)}={quote(str(value), safe=_BAGGAGE_SAFE)}"
        if len(member) > MAX_BAGGAGE_MEMBER_BYTES or length + len(member) > MAX_BAGGAGE_BYTES:
            continue
        length += len(member) + 1
        members.append(member)
        if len(members) >= MAX_BAGGAGE_MEMBERS:
            break
    return ",".join(members).encode("ascii")


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
        flows = _tolerant(headers, (PIPELINE_HEADER,))[PIPELINE_HEADER]
        return (
            span if span.get_span_context().is_valid else None,
            set_span_in_context(get_current_span(context), read),
            self.find(headers),
            flows[0] if flows else None,
        )

    def outgoing(self, headers: Any, span: Span, context: Context) -> list[tuple[str, bytes]]:
        return self.write(headers, set_span_in_context(span, context))

    def outgoing_ids(self, headers: Any, ids: Ids, context: Context) -> list[tuple[str, bytes]]:
        return self.outgoing(headers, LightSpan(ids[0], ids[1], ids[2], False, ids[3]), context)


class _PairsGetter(Getter[Any]):
    def get(self, carrier: Any, key: str) -> list[str] | None:
        values = _tolerant(carrier, (key.lower(),))[key.lower()]
        raw = [_as_bytes(value, MAX_TRACESTATE_BYTES) for value in values]
        return [value.decode("ascii") for value in raw if value is not None] or None

    def keys(self, carrier: Any) -> list[str]:
        return [pair[0] for pair in _pairs(carrier) if isinstance(pair[0], str)]


class _AsciiSetter(Setter[dict[str, bytes]]):
    def set(self, carrier: dict[str, bytes], key: str, value: str) -> None:
        carrier[key] = value.encode("ascii", "ignore")


_PAIRS = _PairsGetter()
_ASCII = _AsciiSetter()
