"""Holds back the baggage that came from another environment, where nobody has permitted it to go on.

Whatever is in the baggage of a message goes on to each message, request and model call that its handler makes. The
rules and their reasons are in docs/design/trust.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.baggage import _BAGGAGE_KEY, get_all, remove_baggage, set_baggage

from otel_pipeline.engine.brought import brought
from otel_pipeline.engine.settings import matcher
from otel_pipeline.engine.trust import comes_from_elsewhere
from otel_pipeline.engine.w3c import encode_baggage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.settings import EngineSettings
    from otel_pipeline.engine.trust import OfHeader
    from otel_pipeline.engine.w3c import BaggageMember

MAX_BYTES = 1_024
"""Of another environment's baggage that is handed on, as it is written."""


def foreign_baggage(settings: EngineSettings, guard: Guard, destination: str) -> ForeignBaggage | None:
    """Make what holds back another environment's baggage; None where none of the destination's messages is foreign."""
    is_foreign = comes_from_elsewhere(settings, destination)
    if is_foreign is None:
        return None
    permitted = settings.foreign_baggage
    if permitted is None:
        permitted = ("*",) if settings.trust(destination) == "all" else ()
    return ForeignBaggage(is_foreign, matcher(permitted), guard)


class ForeignBaggage:
    """What is permitted of the baggage of one destination's messages. Safe in any thread."""

    __slots__ = ("_guard", "_is_foreign", "_permits")

    def __init__(self, is_foreign: OfHeader, permits: Callable[[str], bool], guard: Guard) -> None:
        self._is_foreign, self._permits, self._guard = is_foreign, permits, guard

    def hold_back(self, inside: Context, around: Context, header: Any) -> Context:
        """Return the context of the handler with what is permitted of the message's baggage.

        Args:
            inside: with all that the message brought.
            around: without.
            header: the message's data-flow header as it came, None without one.
        """
        if _BAGGAGE_KEY not in inside:
            return inside
        own = get_all(around)
        came = {key: value for key, value in get_all(inside).items() if key not in own or own[key] != value}
        if not came or not self._is_foreign(header):
            return inside
        for key in came.keys() - self._permitted(came, brought(inside).members):
            inside = set_baggage(key, own[key], inside) if key in own else remove_baggage(key, inside)
        return inside

    def _permitted(self, came: Mapping[str, object], members: Mapping[str, BaggageMember]) -> set[str]:
        length, permitted = -1, set()
        for key, value in came.items():
            if not self._permits(key):
                continue
            written = len(encode_baggage({key: value}, members)) + 1
            if length + written > MAX_BYTES:
                self._guard.problem(
                    "baggage",
                    f"a message of another environment came with more than {MAX_BYTES:,} bytes of baggage: the rest is "
                    "not handed on; baggage.from_other_environments says which keys are",
                )
                continue
            length += written
            permitted.add(key)
        return permitted
