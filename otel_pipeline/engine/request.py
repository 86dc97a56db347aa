"""What is known of the data of a request that is being served, where no message is in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from opentelemetry.context import create_key, set_value

from otel_pipeline.engine import origin_state
from otel_pipeline.engine.origin import Origin, origin_of
from otel_pipeline.engine.spans import SPAN_KEY
from otel_pipeline.engine.trace_context import LightSpan

if TYPE_CHECKING:
    from opentelemetry.context import Context

_KEY = create_key("otel_pipeline.request")


def with_request(context: Context, origin: Origin) -> Context:
    """Keep where the data of a request began in the context of who serves it."""
    return set_value(_KEY, origin, context)


def origin_of_request(context: Context) -> Origin | None:
    """Return where the data of the request in hand began; None where nothing is known of one.

    A propagator has read its header, or else the `tracestate` of the current span has the member.
    """
    if not context:
        return None
    known = context.get(_KEY)
    if known is not None:
        return cast("Origin", known)
    span: Any = context.get(SPAN_KEY)
    if span is None or (type(span) is LightSpan and span.read_state is None):
        return None
    state = span.get_span_context().trace_state
    said = state.get(origin_state.KEY) if state else None
    header = None if said is None else origin_state.read(said)
    return None if header is None else origin_of(header, 0)
