"""Header pairs of any client: read whatever they are, copied before anything is added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from otel_pipeline.engine.guard import raise_theirs
from otel_pipeline.engine.origin_state import in_headers
from otel_pipeline.engine.pipeline_header import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.messages import Message

TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"
_LENGTHS = frozenset(map(len, (TRACEPARENT, TRACESTATE, BAGGAGE)))

HeaderPairs: TypeAlias = Sequence[tuple[str, bytes | str | None]]
Headers: TypeAlias = HeaderPairs | Mapping[str, bytes | str]


def pairs(headers: Headers) -> Iterable[tuple[Any, Any]]:
    """Give the pairs of a list, or of a mapping."""
    return headers.items() if isinstance(headers, Mapping) else headers


def tolerant(headers: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Collect the values of these names; a header that is no pair, or whose name is no text, is passed over."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    try:
        for pair in pairs(headers):
            try:
                name, value = pair
                lower = name.lower() if isinstance(name, str) else bytes(name).decode("ascii").lower()
            except Exception:
                raise_theirs()
                continue
            if lower in found:
                found[lower].append(value)
    except Exception:
        raise_theirs()
        return {name: [] for name in names}
    return found


def without(headers: Any, names: frozenset[str]) -> list[tuple[str, bytes]]:
    """Copy the list without the pairs that have one of these names, in upper or lower case."""
    if not headers:
        return []
    # The application's own pairs, not copies of them: what is wrong with one the client says in its own words.
    try:
        return [
            pair
            for pair in pairs(headers)
            if (name := pair[0]) not in names and (not isinstance(name, str) or name.lower() not in names)
        ]
    except Exception:
        raise_theirs()
        return [pair for pair in pairs(headers) if not (type(pair) is tuple and pair and pair[0] in names)]


class ContextHeaders(NamedTuple):
    """All values of the three standard headers, in their order."""

    parents: list[Any]
    states: list[Any]
    baggages: list[Any]


def context_headers(headers: Any) -> ContextHeaders:
    """Find what a list or a mapping has of them, with names in any case. Never raises."""
    found: dict[str, list[Any]] = {TRACEPARENT: [], TRACESTATE: [], BAGGAGE: []}
    try:
        for name, value in pairs(headers):
            if len(name) in _LENGTHS and (values := found.get(name.lower())) is not None:
                values.append(value)
    except Exception:
        raise_theirs()
        found = tolerant(headers, (TRACEPARENT, TRACESTATE, BAGGAGE))
    return ContextHeaders(found[TRACEPARENT], found[TRACESTATE], found[BAGGAGE])


def own_header(headers: Any) -> Any:
    """Return the data-flow header of a message, None without one: the last of that name, in any case.

    A producer of ours writes it last; who sends a message on may have put headers behind it. Behind a service that does
    not hand it on, what `tracestate` has of it (`origin_state.py`). Never raises.
    """
    if not headers:
        return None
    try:
        name, value = headers[-1]
        if name == NAME:
            return value
        states = []
        for name, value in reversed(headers):
            if len(name) == len(NAME) and name.lower() == NAME:
                return value
            if len(name) == len(TRACESTATE) and name.lower() == TRACESTATE:
                states.append(value)
    except Exception:
        raise_theirs()
        found = tolerant(headers, (NAME, TRACESTATE))  # A mapping, or not pairs alone.
        return found[NAME][-1] if found[NAME] else in_headers(found[TRACESTATE])
    return in_headers(states) if states else None


def own_headers(headers_of: Callable[[Message], Any], messages: Sequence[Message]) -> Sequence[Any]:
    """Return the data-flow header of each message of a batch, which mostly all have, as their last."""
    own = NAME
    try:
        values = [value for headers in map(headers_of, messages) for name, value in (headers[-1],) if name == own]
    except Exception:
        raise_theirs()
        values = []  # Some have none.
    return values if len(values) == len(messages) else [own_header(headers_of(message)) for message in messages]
