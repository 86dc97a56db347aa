"""The seam behind which spans can be replaced: the engine starts spans only through `StartSpan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Tracer

    from otel_pipeline.engine.totals import AttributeValue


class StartSpan(Protocol):
    """Starts a span that is not yet current. `start_time_ns` is ns since the epoch, now when left out."""

    def __call__(
        self,
        name: str,
        kind: SpanKind,
        context: Context | None,
        attributes: Mapping[str, AttributeValue],
        links: Sequence[Link] = (),
        start_time_ns: int | None = None,
    ) -> Span:
        """Start it."""
        ...


def from_tracer(tracer: Tracer) -> StartSpan:
    """Spans of an OpenTelemetry tracer."""
    start = tracer.start_span

    def start_span(
        name: str,
        kind: SpanKind,
        context: Context | None,
        attributes: Mapping[str, AttributeValue],
        links: Sequence[Link] = (),
        start_time_ns: int | None = None,
    ) -> Span:
        return start(name, context, kind, attributes, links, start_time_ns)

    return start_span
