"""Our own spans as OTLP's bytes, where nobody has looked at them: what their shape says is encoded once."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.trace_context import LightLink, LightSpan
from otel_pipeline.export.otlp.spans import HERE, KINDS, LINK_HERE, LINK_REMOTE, REMOTE, STATUS_UNSET, link, state_of
from otel_pipeline.export.otlp.wire import attributes, varint

if TYPE_CHECKING:
    from otel_pipeline.engine.span_shape import SpanShape

_LOW_64_BITS = (1 << 64) - 1
_root = Struct(">2sQQ2sQ6s").pack
_child = Struct(">2sQQ2sQ2sQ6s").pack
_times = Struct("<sQsQ").pack
_link = Struct(">2sQQ2sQ5s").pack


def is_encodable(span: Any) -> bool:
    """Tell whether `encode` says all that there is of a `RecordedSpan`."""
    return bool(span.is_plain and len(span.given_links) <= span.parts.most_links)


def encode(span: Any) -> bytes:
    """Return a span as a field of ScopeSpans; raise what `wire.any_value` raises."""
    shape, above, trace_id = span.shape, span.above, span.trace_id
    constant: Any = shape.constant
    if constant is None:
        constant = shape.constant = _constant(shape)
    high, low = trace_id >> 64, trace_id & _LOW_64_BITS
    if above is None:
        ids = _root(b"\x0a\x10", high, low, b"\x12\x08", span.span_id, HERE)
    else:
        flags = REMOTE if above.is_remote else HERE
        ids = _child(b"\x0a\x10", high, low, b"\x12\x08", span.span_id, b"\x22\x08", above.span_id, flags)
    parts = [ids, _times(b"\x39", span._start_time, b"\x41", span._end_time or 0), constant]
    own = {name: value for name, value in zip(shape.names, span.values, strict=False) if value is not None}
    if span.more:
        own.update(span.more)  # Values that the shape has, too, `attributes` of the whole would have once.
    if own:
        parts.append(attributes(own, 9))
    parts += map(_link_to, span.given_links)
    if span.read_state is not None and (state := span.read_state()):
        parts.append(state_of(state))
    body = b"".join(parts)
    return b"\x12" + varint(len(body)) + body


def _constant(shape: SpanShape) -> bytes:
    raw = shape.name.encode()
    return b"".join((KINDS[id(shape.kind)], varint(len(raw)), raw, STATUS_UNSET, attributes(shape.attributes, 9)))


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
