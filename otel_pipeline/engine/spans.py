"""The seam behind which spans can be replaced: the engine makes spans only through `Spans`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from opentelemetry.trace import INVALID_SPAN, SpanContext, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.trace.propagation import _SPAN_KEY

from otel_pipeline.engine.span_shape import ShapedSpan
from otel_pipeline.engine.trace_context import LightLink, LightSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

    from otel_pipeline.engine.span_shape import SpanShape, Values
    from otel_pipeline.engine.totals import AttributeValue
    from otel_pipeline.engine.trace_context import Ids

SPAN_KEY = _SPAN_KEY
"""The key under which the API keeps the current span: a context of ours gets span and delivery in one copy, not two."""


RootDecision: TypeAlias = "Callable[..., bool]"
"""(trace id, name, kind, context, function, *arguments) -> whether the sampler would record such a span as a root; the
function, called with the arguments, returns the attributes where the sampler looks at them."""


class Spans(Protocol):
    """Makes spans; they are not yet current."""

    @property
    def lane(self) -> str:
        """Which way spans take now, for people."""

    @property
    def samples_root(self) -> RootDecision:
        """Whether a root with this trace id would be recorded: what the local sampler says, whoever the parent is."""

    @property
    def follows_parents(self) -> bool:
        """Whether it is never known of a span under a sampled parent that it is not recorded."""

    @property
    def drops_unsampled(self) -> bool:
        """Whether it is known of a span under a parent that is not sampled that it is not recorded."""

    def dropped_ids(self, parent: Span | None) -> Ids | None:
        """Return the ids of a span under this parent, if it is already known that it is not recorded."""

    def dropped(self, parent: Span | None) -> LightSpan | None:
        """Return the same as a span, to be made current."""

    def start(
        self,
        shape: SpanShape,
        values: Values,
        parent: Span | None,
        context: Context,
        links: Sequence[Link | LightSpan] = (),
        start_time_ns: int | None = None,
        more: dict[str, AttributeValue] | None = None,
    ) -> Span:
        """Start a span under the parent, None for a root.

        `context` is what samplers and span processors see, for example its baggage. Of `links` a span of nothing but
        ids stands for a link to it. `start_time_ns` is ns since the epoch, now when left out. `more` are attributes
        that only some spans of this shape have.
        """
        ...

    def end_all(self, ended: Iterable[tuple[ShapedSpan, Values, int]]) -> None:
        """Set the values of each that are not None, and end it at ns since the epoch; safe in any thread."""


def _samples_no_root(*_span: object) -> bool:
    """Answer for a sampler that cannot be asked."""
    return False


class TracerSpans:
    """Spans of any OpenTelemetry tracer, whatever its sampler."""

    follows_parents = True
    drops_unsampled = False
    lane = "sdk"

    def __init__(self, tracer: Tracer, samples_root: RootDecision | None = None) -> None:
        self._tracer = tracer
        self.samples_root: RootDecision = samples_root or _samples_no_root

    def dropped_ids(self, parent: Span | None) -> Ids | None:
        """Return None: only the tracer knows."""
        del parent
        return None

    def dropped(self, parent: Span | None) -> LightSpan | None:
        """Return None: only the tracer knows."""
        del parent
        return None

    def start(
        self,
        shape: SpanShape,
        values: Values,
        parent: Span | None,
        context: Context,
        links: Sequence[Link | LightSpan] = (),
        start_time_ns: int | None = None,
        more: dict[str, AttributeValue] | None = None,
    ) -> Span:
        """Start a span as the protocol says."""
        if get_current_span(context) is not (parent or INVALID_SPAN):
            context = set_span_in_context(parent or INVALID_SPAN, context)
        attributes = shape.all(values, more)
        whole = [LightLink(each) if isinstance(each, LightSpan) else each for each in links]
        return self._tracer.start_span(shape.name, context, shape.kind, attributes, whole, start_time_ns)

    def end_all(self, ended: Iterable[tuple[ShapedSpan, Values, int]]) -> None:
        """End what others have made."""
        for span, values, end_ns in ended:
            span.end_with(values, end_ns)


def discard(span: Span) -> None:
    """End a span of what did not come about: span processors see that it is over, and nobody exports it."""
    if isinstance(span, ShapedSpan):
        span.discard()
        return
    own = span.get_span_context()
    made: Any = span
    if getattr(made, "_context", None) is own:
        flags = TraceFlags(own.trace_flags & ~TraceFlags.SAMPLED)
        made._context = SpanContext(own.trace_id, own.span_id, own.is_remote, flags, own.trace_state)
        span.end()
