"""Spans of the SDK as OTLP's bytes."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from otel_pipeline.export.otlp.wire import attributes, length_delimited, varint

if TYPE_CHECKING:
    from opentelemetry.trace.span import TraceState

_LOW_64_BITS = (1 << 64) - 1
_ids = Struct(">2sQQ2sQ").pack
_parent_id = Struct(">2sQ").pack
_times = Struct("<6ssQsQ").pack
_time = Struct("<sQ").pack
_link_ids, _plain_link = Struct(">2sQQ2sQ5s").pack, Struct(">4sQQ2sQ5s").pack
_PLAIN_LINK = b"\x6a\x21\x0a\x10"
HERE, REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Flags: whether the parent is of another process, which is known."""
LINK_HERE, LINK_REMOTE = b"\x35\x00\x01\x00\x00", b"\x35\x00\x03\x00\x00"
KINDS = {id(kind): b"\x30" + varint(kind.value + 1) + b"\x2a" for kind in SpanKind}
"""Kind and the tag of the name, by what costs no call of Python's."""
_UNSET, _OK, _ERROR = StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR
_CODE_ERROR = b"\x18\x02"
STATUS_UNSET, _STATUS_OK = b"\x7a\x00", b"\x7a\x02\x18\x01"


def encode(span: Any) -> bytes:  # noqa: C901 - one place a field
    """Return a span as a field of ScopeSpans, equal to what the SDK's encoder makes of it.

    Raises what `wire.any_value` raises, and whatever else comes of what is no span.
    """
    if type(span) is ReadableSpan:
        # As kept: the properties make copies, and their iterators cost more than all else here.
        of = span.__dict__
        context, parent, name, kind = of["_context"], of["_parent"], of["_name"], of["_kind"]
        start_ns, end_ns, status = of["_start_time"], of["_end_time"], of["_status"]
        held, events, links = of["_attributes"], of["_events"], of["_links"]
        dropped = (getattr(held, "dropped", 0), getattr(events, "dropped", 0), getattr(links, "dropped", 0))
        if type(held) is BoundedAttributes:
            held = held._dict
        if type(events) is BoundedList:
            events = events._dq  # type: ignore[attr-defined]
        if type(links) is BoundedList:
            links = links._dq  # type: ignore[attr-defined]
    else:
        # Somebody's own class, which may show less than it keeps.
        context, parent, name, kind = span.context, span.parent, span.name, span.kind
        start_ns, end_ns, status = span.start_time, span.end_time, span.status
        held, events, links = span.attributes, span.events, span.links
        dropped = (span.dropped_attributes, span.dropped_events, span.dropped_links)
    trace_id, span_id, _, _, state, _ = context
    ids, raw = _ids(b"\x0a\x10", trace_id >> 64, trace_id & _LOW_64_BITS, b"\x12\x08", span_id), name.encode()
    flags = HERE
    if parent:
        _, parent_id, is_remote, _, _, _ = parent
        ids += _parent_id(b"\x22\x08", parent_id)
        if is_remote:
            flags = REMOTE
    times = _times(flags, b"\x39", start_ns or 0, b"\x41", end_ns or 0)
    parts = [ids, times, KINDS[id(kind)], varint(len(raw)), raw, _status(status)]
    if held:
        parts.append(attributes(held, 9))
    if events:
        parts += map(_event, events)
    if links:
        parts += map(link, links)
    if state is not DEFAULT_TRACE_STATE and state:  # Whether one is empty is a call of Python's.
        parts.append(state_of(state))
    if dropped != (0, 0, 0):
        parts += [tag + varint(count) for tag, count in zip((b"\x50", b"\x60", b"\x70"), dropped, strict=True) if count]
    body = b"".join(parts)
    return b"\x12" + varint(len(body)) + body


def _event(event: Any) -> bytes:
    if type(event) is Event:
        of = event.__dict__
        name, within, timestamp = of["_name"], of["_attributes"], of["_timestamp"]
        dropped = getattr(within, "dropped", 0)
    else:
        name, within, timestamp, dropped = event.name, event.attributes, event.timestamp, event.dropped_attributes
    raw, held = name.encode(), attributes(within, 3)
    time, length, lost = _time(b"\x09", timestamp or 0), varint(len(raw)), b""
    if dropped:
        lost = b"\x20" + varint(dropped)
    body_bytes = len(time) + 1 + len(length) + len(raw) + len(held) + len(lost)
    return b"".join((b"\x5a", varint(body_bytes), time, b"\x12", length, raw, held, lost))


def state_of(state: TraceState) -> bytes:
    """Return a tracestate as a field of a span."""
    return length_delimited(3, ",".join([f"{key}={value}" for key, value in state.items()]).encode())


def link(to: Any) -> bytes:
    """Return a link as a field of a span; raise what `wire.any_value` raises."""
    if type(to) is Link:
        of = to.__dict__
        (trace_id, span_id, is_remote, _, _, _), held = of["_context"], of["_attributes"]
        dropped = getattr(held, "dropped", 0)
    else:
        (trace_id, span_id, is_remote, _, _, _), held = to.context, to.attributes
        dropped = to.dropped_attributes
    remote, high, low = LINK_REMOTE if is_remote else LINK_HERE, trace_id >> 64, trace_id & _LOW_64_BITS
    if type(held) is BoundedAttributes:
        held = held._dict
    if not held and not dropped:
        return _plain_link(_PLAIN_LINK, high, low, b"\x12\x08", span_id, remote)
    body = _link_ids(b"\x0a\x10", high, low, b"\x12\x08", span_id, remote) + attributes(held, 4)
    if dropped:
        body += b"\x28" + varint(dropped)
    return b"\x6a" + varint(len(body)) + body


def _status(status: Any) -> bytes:
    if status is None:
        return b""
    if type(status) is Status:
        of = status.__dict__
        code, description = of["_status_code"], of["_description"]
    else:
        code, description = status.status_code, status.description
    if not description:
        if code is _UNSET:
            return STATUS_UNSET
        if code is _OK:
            return _STATUS_OK
    body = _CODE_ERROR if code is _ERROR else b"\x18" + varint(code.value)
    if description:
        raw = description.encode()
        body += b"\x12" + varint(len(raw)) + raw
    return b"\x7a" + varint(len(body)) + body
