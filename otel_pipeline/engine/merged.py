"""Headers with our context in them: the application's own `tracestate` and `baggage` are merged, never dropped.

Where both have a member of the same name, the application's is written. Where we have nothing to add, its header stays
where it was and as it was, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from otel_pipeline.engine.headers import BAGGAGE, TRACESTATE, context_headers, without
from otel_pipeline.engine.w3c import (
    MAX_BAGGAGE_BYTES,
    MAX_BAGGAGE_MEMBERS,
    MAX_TRACESTATE_MEMBERS,
    parse_baggage,
    parse_tracestate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_pipeline.engine.brought import Brought

Pair: TypeAlias = "tuple[str, bytes]"


def merged(headers: Any, names: frozenset[str], ours: Mapping[str, bytes], came: Brought) -> list[Pair]:
    """Copy the headers, with ours in place of older ones.

    Args:
        headers: the application's, some; never changed.
        names: of headers that are ours to write, in lower case.
        ours: what is to be written, by name.
        came: what the message in hand brought: where the application has copied that along, it is replaced.
    """
    found = context_headers(headers)
    if not found.states and not found.baggages:
        return [*without(headers, names), *ours.items()]
    written, staying = dict(ours), set()
    for name, values, copied, merge in (
        (TRACESTATE, found.states, came.tracestates, _merged_tracestate),
        (BAGGAGE, found.baggages, came.baggages, _merged_baggage),
    ):
        own = [value for value in values if value is not None and value not in copied]
        if name not in names or not own:
            continue
        both = merge(own, ours[name]) if name in ours else None
        if both is None and len(own) == len(values):
            staying.add(name)
            written.pop(name, None)
        else:
            written[name] = both or b",".join(map(_raw, own))
    return [*without(headers, names - staying), *written.items()]


def put_member(headers: list[Any], key: str, value: str) -> None:
    """Put a member into the `tracestate` of our copy, in front, as who has changed it last; the last header stays last.

    Nothing is changed where there is no `traceparent`, without which nobody reads it, nor where the application's own
    `tracestate` cannot be read.
    """
    found = context_headers(headers)
    members = parse_tracestate(found.states)
    if not found.parents or members is None:
        return
    kept = [f"{name}={held}" for name, held in members if name != key][: MAX_TRACESTATE_MEMBERS - 1]
    text = ",".join((f"{key}={value}", *kept)).encode("ascii")
    headers[:] = [*without(headers[:-1], frozenset({TRACESTATE})), (TRACESTATE, text), headers[-1]]


def _merged_tracestate(own: Sequence[Any], ours: bytes) -> bytes | None:
    """Merge both; None when the application's cannot be read, which is then left alone."""
    members, more = parse_tracestate(own), parse_tracestate([ours])
    if members is None:
        return None
    known = dict(members)
    members += [(key, value) for key, value in more or () if key not in known]
    return ",".join(f"{key}={value}" for key, value in members[:MAX_TRACESTATE_MEMBERS]).encode("ascii")


def _merged_baggage(own: Sequence[Any], ours: bytes) -> bytes | None:
    """Keep the application's as it is, and put behind it what it does not have of ours, as far as there is room."""
    members = parse_baggage(own)
    if members is None:
        return None
    text = b",".join(map(_raw, own)).strip(b" \t,")
    known, count = {member.key for member in members}, len(members)
    for part in ours.split(b","):
        (member,) = parse_baggage([part]) or (None,)
        if member is None or member.key in known or len(text) + 1 + len(part) > MAX_BAGGAGE_BYTES:
            continue
        if count >= MAX_BAGGAGE_MEMBERS:
            break
        text, count = text + b"," + part if text else part, count + 1
    return text


def _raw(value: Any) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
