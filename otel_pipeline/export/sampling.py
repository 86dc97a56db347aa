"""Which traces are recorded: the configured share of new ones; a parent's decision is followed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import INVALID_SPAN, get_current_span, set_span_in_context

from otel_pipeline.export.settings import ExportSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind

    from otel_pipeline.config.config import Config
    from otel_pipeline.engine.spans import RootDecision
    from otel_pipeline.engine.totals import AttributeValue

_TRACE_STATE_AT = 6
"""Its place among the arguments of `should_sample`, behind the context."""


def make(config: Config) -> Sampler | None:
    """Make the sampler; None where `OTEL_TRACES_SAMPLER` decides, which the SDK reads itself."""
    rate = config.of(ExportSettings).sample_rate
    if rate is None and os.environ.get("OTEL_TRACES_SAMPLER", "").strip():
        return None
    return ParentBased(TraceIdRatioBased(1.0 if rate is None else rate))


class KeepsTraceState(Sampler):
    """Tells a composite sampler of the parent's tracestate, of which the SDK's tracer says nothing.

    Its thresholds stand there, and what others have in it would be lost (opentelemetry-python #5578).
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._takes_state = type(sampler).__module__.startswith("opentelemetry.sdk.")

    def should_sample(self, parent_context: Context | None, *args: Any, **kwargs: Any) -> SamplingResult:
        """Decide as the wrapped sampler does, with the parent's members behind its own."""
        parent = get_current_span(parent_context).get_span_context()
        if self._takes_state and parent.is_valid and len(args) < _TRACE_STATE_AT:
            kwargs["trace_state"] = parent.trace_state
        result = self._sampler.should_sample(parent_context, *args, **kwargs)
        if parent.is_valid and parent.trace_state:
            kept = result.trace_state
            for key, value in parent.trace_state.items():
                if kept is None:
                    kept = parent.trace_state
                    break
                if key not in kept:
                    kept = type(kept)([*kept.items(), (key, value)])
            result.trace_state = kept
        return result

    def get_description(self) -> str:
        """Describe the wrapped sampler."""
        return self._sampler.get_description()


def keep_tracestate(provider: TracerProvider) -> None:
    """Wrap a composite sampler that the variables chose."""
    if "composite" in type(provider.sampler).__name__.lower():
        provider.sampler = KeepsTraceState(provider.sampler)


def root_decision(tracer: Any) -> RootDecision | None:
    """Return what asks the tracer's sampler, of any kind, about roots; None where it has none that can be asked.

    Links are left out: a sampler that follows sampled links would else follow the very flag that is in question.
    """
    if not isinstance(getattr(tracer, "sampler", None), Sampler):
        return None

    def samples_root(
        trace_id: int,
        name: str,
        kind: SpanKind,
        context: Context,
        attributes: Callable[..., Mapping[str, AttributeValue]],
        *arguments: Any,
    ) -> bool:
        sampler: Sampler = tracer.sampler
        root = set_span_in_context(INVALID_SPAN, context)
        return (
            sampler.should_sample(root, trace_id, name, kind, attributes(*arguments), ()).decision
            is Decision.RECORD_AND_SAMPLE
        )

    return samples_root
