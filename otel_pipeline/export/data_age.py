"""Spans of official gen_ai instrumentations get what our inference spans have: age and origin of the data in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

from otel_pipeline import semconv
from otel_pipeline.engine.flow import in_hand

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

_MARK = "gen_ai.operation.name"


class DataAge(SpanProcessor):
    """Added to the provider only where such an instrumentation is switched on."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp what is a model call inside of a delivery."""
        if span.attributes is None or _MARK not in span.attributes:
            return
        delivery = in_hand(parent_context)
        if delivery is None:
            return
        flow = delivery.flow
        span.set_attribute(semconv.OTEL_PIPELINE_DATA_INPUTS, flow.inputs)
        if flow.origin_ms > 0 and span.start_time:
            span.set_attribute(semconv.OTEL_PIPELINE_DATA_AGE, span.start_time / 1e9 - flow.origin_ms / 1e3)
        if flow.environment is not None:
            span.set_attribute(semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT, flow.environment)
