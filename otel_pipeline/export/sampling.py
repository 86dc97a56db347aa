"""Which traces are recorded: the configured share of new ones; a parent's decision is followed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

    from otel_pipeline.config import Config


def make(config: Config) -> Sampler | None:
    """The sampler; None where `OTEL_TRACES_SAMPLER` decides, which the SDK reads itself."""
    if config.sample_rate is None and os.environ.get("OTEL_TRACES_SAMPLER", "").strip():
        return None
    return ParentBased(TraceIdRatioBased(1.0 if config.sample_rate is None else config.sample_rate))


class KeepsTraceState(Sampler):
    """Hands the parent's tracestate on, which composite samplers lose (opentelemetry-python #5578)."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(self, parent_context: Context | None, *args: Any, **kwargs: Any) -> SamplingResult:
        """As the wrapped one, with the parent's members behind its own."""
        result = self._sampler.should_sample(parent_context, *args, **kwargs)
        parent = get_current_span(parent_context).get_span_context()
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
        """As the wrapped one's."""
        return self._sampler.get_description()


def keep_tracestate(provider: TracerProvider) -> None:
    """Wrap a composite sampler that the variables chose."""
    if "composite" in type(provider.sampler).__name__.lower():
        provider.sampler = KeepsTraceState(provider.sampler)
