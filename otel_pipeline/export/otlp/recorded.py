"""Our own spans as OTLP's bytes, where nobody has looked at them: what their shape says is encoded once."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.trace_context import LightLink, LightSpan
from otel_pipeline.export.otlp.spans import HERE, KINDS, LINK_HERE, LINK_REMOTE, REMOTE, STATUS_UNSET, link, state_of
from otel_pipeline.export.otlp.spans import encode as encode_whole
from otel_pipeline.export.otlp.wire import attributes, key_of, varint

if TYPE_CHECKING:
    from otel_pipeline.engine.span_shape import SpanShape

MAX_KNOWN, MAX_KNOWN_BYTES = 256, 256
"""Of one name's attributes that are kept as bytes: partitions, environments, hops."""
_ATTRIBUTE = b"\x4a"
"""The tag of a span's attribute."""
_ONE_BYTE, _INT64 = 1 << 7, 1 << 63
_LOW = tuple(bytes((number | 128,)) for number in range(128))
_double = Struct("<d").pack
_LOW_64_BITS = (1 << 64) - 1
_root = Struct(">2sQQ2sQ6s").pack
_child = Struct(">2sQQ2sQ2sQ6s").pack
_times = Struct("<sQsQ").pack
_link = Struct(">2sQQ2sQ5s").pack


class _Code:
    """What is the same for all spans of a shape, as bytes."""

    __slots__ = ("constant", "of_values")

    def __init__(self, shape: SpanShape) -> None:
        raw = shape.name.encode()
        constant = (KINDS[id(shape.kind)], varint(len(raw)), raw, STATUS_UNSET, attributes(shape.attributes, 9))
        self.constant = b"".join(constant)
        self.of_values = tuple(_Value(name) for name in shape.names)


class _Value:
    """An attribute whose value differs from span to span: what stands before it."""

    __slots__ = ("before_double", "high", "key", "known")

    def __init__(self, name: str) -> None:
        self.key = key_of(name)
        self.before_double = _ATTRIBUTE + self.key.double
        self.known: dict[str | int, bytes] = {}
        """Whole attributes, by values that come again."""
        self.high = (-1, b"", b"")
        """Of the last integer: all but its lowest 7 bits, what stands before them, and they as bytes. 128 offsets have
        these in common. One reference: another thread reads the old ones or the new."""

    def of_int(self, number: int) -> bytes:
        """Return the attribute of an integer that begins other than the last one."""
        if not _ONE_BYTE <= number < _INT64:
            return self._kept(number, _ATTRIBUTE + self.key.with_int(number))
        bits, low = varint(number >> 7), _LOW[number & 127]
        name, size = self.key.name, len(bits) + 2
        before = b"".join((_ATTRIBUTE, varint(len(name) + 1 + size), name, varint(size), b"\x18"))
        self.high = number >> 7, before, bits
        return before + low + bits

    def of_text(self, text: str) -> bytes:
        """Return the attribute of a text."""
        return self._kept(text, _ATTRIBUTE + self.key.with_text(text))

    def _kept(self, value: str | int, found: bytes) -> bytes:
        if len(self.known) < MAX_KNOWN and len(found) <= MAX_KNOWN_BYTES:
            self.known[value] = found
        return found


def encode(span: Any) -> bytes:  # noqa: C901, PLR0912 - one place a field
    """Return a span as a field of ScopeSpans; raise what `wire.any_value` raises."""
    if not (span.is_plain and len(span.given_links) <= span.parts.most_links):
        return encode_whole(span)
    shape, above, trace_id = span.shape, span.above, span.trace_id
    code: Any = shape.code
    if code is None:
        code = shape.code = _Code(shape)
    high, low = trace_id >> 64, trace_id & _LOW_64_BITS
    if above is None:
        ids = _root(b"\x0a\x10", high, low, b"\x12\x08", span.span_id, HERE)
    else:
        flags = REMOTE if above.is_remote else HERE
        ids = _child(b"\x0a\x10", high, low, b"\x12\x08", span.span_id, b"\x22\x08", above.span_id, flags)
    parts = [ids, _times(b"\x39", span._start_time, b"\x41", span._end_time or 0), code.constant]
    more = span.more
    if more:
        # Values that the shape has, too, `attributes` of the whole would have once.
        own = {name: value for name, value in zip(shape.names, span.values, strict=False) if value is not None}
        parts.append(attributes({**own, **more}, 9))
    else:
        for of, value in zip(code.of_values, span.values):  # noqa: B905 - there may be fewer values
            kind = type(value)
            if kind is float:
                parts += (of.before_double, _double(value))
            elif kind is str:
                parts.append(of.known.get(value) or of.of_text(value))
            elif kind is int:
                upper = of.high
                if value >> 7 == upper[0]:
                    parts += (upper[1], _LOW[value & 127], upper[2])
                else:
                    parts.append(of.known.get(value) or of.of_int(value))
            elif value is not None:
                parts.append(attributes({of.key.text: value}, 9))
    for to in span.given_links:
        parts.append(_link_to(to))
    if span.read_state is not None and (state := span.read_state()):
        parts.append(state_of(state))
    body = b"".join(parts)
    return b"\x12" + varint(len(body)) + body


def _link_to(to: Any) -> bytes:
    if type(to) is LightSpan:
        span, held = to, b""
    elif isinstance(to, LightLink) and type(to.span) is LightSpan:
        span, held = to.span, attributes(to.attributes, 4)
    else:
        return link(LightLink(to) if isinstance(to, LightSpan) else to)
    trace_id, flags = span.trace_id, LINK_REMOTE if span.is_remote else LINK_HERE
    body = _link(b"\x0a\x10", trace_id >> 64, trace_id & _LOW_64_BITS, b"\x12\x08", span.span_id, flags) + held
    return b"\x6a" + varint(len(body)) + body
