"""What a message brought of `tracestate` and `baggage`, kept in the context of the code that handles it.

Without it, what was copied along from the message in hand could not be told from what the application has set itself,
and the properties of baggage, for which OpenTelemetry has no place, would be lost.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from opentelemetry.baggage import set_baggage
from opentelemetry.context import Context, create_key, set_value

from otel_pipeline.engine.w3c import BaggageMember, parse_baggage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEY = create_key("otel_pipeline.brought")


class Brought(NamedTuple):
    """The headers of the message in hand, as they came."""

    tracestates: Sequence[Any] = ()
    baggages: Sequence[Any] = ()
    members: Mapping[str, BaggageMember] = MappingProxyType({})
    """Of its baggage, by their keys."""


_NOTHING = Brought()


def brought(context: Context) -> Brought:
    """Return what the message in hand brought."""
    return cast("Brought", context.get(_KEY, _NOTHING))


def with_brought(context: Context, tracestates: Sequence[Any], baggages: Sequence[Any]) -> Context | None:
    """Put the baggage into the context, and what came with it beside it; None when the baggage is too long."""
    members = parse_baggage(baggages) if baggages else []
    if members is None:
        return None
    for member in members:
        context = set_baggage(member.key, member.value, context)
    return set_value(_KEY, Brought(tracestates, baggages, {member.key: member for member in members}), context)


def with_states(context: Context, tracestates: Sequence[Any]) -> Context:
    """Put what came of `tracestate` into the context, where no baggage came."""
    return Context({**context, _KEY: Brought(tracestates)})
