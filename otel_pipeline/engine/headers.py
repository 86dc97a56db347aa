"""Header pairs of any client: read whatever they are, copied before anything is added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.messages import Message

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
            except Exception:  # noqa: S112 - no pair, or no text: passed over
                continue
            if lower in found:
                found[lower].append(value)
    except Exception:
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
        return [pair for pair in pairs(headers) if not (type(pair) is tuple and pair and pair[0] in names)]


def own_header(headers: Any) -> Any:
    """Return the data-flow header of a message, which a producer of ours writes last; None without one."""
    if not headers:
        return None
    try:
        name, value = headers[-1]
        if name == pipeline_header.NAME:
            return value
        return next((value for name, value in reversed(headers) if name == pipeline_header.NAME), None)
    except Exception:
        return None  # No pairs: there is nothing to read.


def own_headers(headers_of: Callable[[Message], Any], messages: Sequence[Message]) -> Sequence[Any]:
    """Return the data-flow header of each message of a batch; mostly all have one, as their last."""
    own = pipeline_header.NAME
    try:
        values = [value for headers in map(headers_of, messages) for name, value in (headers[-1],) if name == own]
    except Exception:
        values = []  # Some have none.
    return values if len(values) == len(messages) else [own_header(headers_of(message)) for message in messages]
