"""What spans are made of: a shape, which many have in common, and the values that differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from otel_pipeline import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.span import TraceState

    from otel_pipeline.engine.totals import AttributeValue

ORIGIN_NAMES = (
    semconv.OTEL_PIPELINE_HOPS,
    semconv.OTEL_PIPELINE_DATA_AGE,
    semconv.OTEL_PIPELINE_DELIVERY_AGE,
    semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT,
)
"""Of what spans say about where data began."""

Values: TypeAlias = "tuple[AttributeValue | None, ...]"
"""Values of attributes, in the order of a shape's names; None where a span has none of that name."""


class SpanShape:
    """What spans of one operation at one place have in common; made once, not per span. Not to be changed."""

    __slots__ = ("attributes", "code", "kind", "name", "names")

    def __init__(
        self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue], names: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.names = names
        """Of attributes whose values differ from span to span; none of them is in `attributes`."""
        self.code: object = None
        """What whoever exports such spans keeps of them, encoded."""

    def all(self, values: Values, more: Mapping[str, AttributeValue] | None = None) -> dict[str, AttributeValue]:
        """Return all attributes of a span with these values."""
        named = zip(self.names, values, strict=False)
        return {**self.attributes, **{name: value for name, value in named if value is not None}, **(more or {})}


class KnownIds:
    """A span whose ids are plain numbers, so that no SpanContext has to be made to read them. They are valid."""

    __slots__ = ()

    trace_id: int
    span_id: int
    flags: int
    read_state: Callable[[], TraceState | None] | None
    """How to read the tracestate, where there is one."""


class ShapedSpan(KnownIds):
    """A recorded span that keeps its attributes as a shape and values."""

    __slots__ = ()

    def end_with(self, values: Values, end_time: int) -> None:
        """Set the values that are not None, and end it at ns since the epoch."""
        raise NotImplementedError

    def discard(self) -> None:
        """End it; nobody exports it."""
        raise NotImplementedError
