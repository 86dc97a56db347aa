"""Spans of official gen_ai instrumentations get what our inference spans have: age and origin of the data in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

from otel_pipeline.engine.delivery import in_hand
from otel_pipeline.engine.inference import describe

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

_MARK = "gen_ai.operation.name"


class DataAge(SpanProcessor):
    """Added to the provider only where such an instrumentation is switched on, by us or by the application.

    It stamps what is recorded and counts nothing: that is done where the spans are started (`generative.py`).
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp what is a model call inside of a delivery."""
        if span.attributes is None or _MARK not in span.attributes:
            return
        delivery = in_hand(parent_context)
        if delivery is None:
            return
        if span.start_time:
            span.set_attributes(describe(delivery.origin, span.start_time))
