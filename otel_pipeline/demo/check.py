"""Judges the demo: is every message there, is every trace whole, how long did each hop take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.cli.traces import Trace, environment, group, service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_pipeline.export.otlp_reader import SpanRecord

SERVICES = {"ingest": "local", "features": "staging", "scorer": "production"}
RAW, FEATURES, PREDICTIONS = TOPICS = ("digits.raw", "digits.features", "digits.predictions")


@dataclass(frozen=True)
class Step:
    """A span that every message's trace must have, and whose child it must be."""

    title: str
    service: str
    kind: str
    topic: str = ""
    parent: Step | None = None

    def is_met_by(self, span: SpanRecord, prefix: str) -> bool:
        """Tell whether the span is this step's."""
        if span.kind != self.kind or service(span) != self.service:
            return False
        if not self.topic:
            return semconv.OTEL_PIPELINE_MODEL_NAME in span.attributes
        return span.attributes.get(semconv.MESSAGING_DESTINATION_NAME) == prefix + self.topic


SENT = Step("send of ingest", "ingest", "PRODUCER", RAW)
CLEANED = Step("process of features", "features", "CONSUMER", RAW, SENT)
FORWARDED = Step("send of features", "features", "PRODUCER", FEATURES, CLEANED)
SCORED = Step("process of scorer", "scorer", "CONSUMER", FEATURES, FORWARDED)
PREDICTED = Step("model call of scorer", "scorer", "INTERNAL", "", SCORED)
ANSWERED = Step("send of scorer", "scorer", "PRODUCER", PREDICTIONS, SCORED)
STEPS = (SENT, CLEANED, FORWARDED, SCORED, PREDICTED, ANSWERED)
_HOPS = (("ingest", CLEANED), ("features", SCORED))


@dataclass(frozen=True)
class Hop:
    """One topic from one service to the next; times in seconds, None where nothing was measured."""

    sender: str
    receiver: str
    messages: int
    age_p50: float | None
    age_p99: float | None
    process_p99: float | None


@dataclass(frozen=True)
class Verdict:
    """What the telemetry says about the run."""

    whole: tuple[Trace, ...]
    broken: Mapping[str, str]
    """Reason by trace id."""
    untraced: int
    """Messages without any trace."""
    hops: tuple[Hop, ...]

    @property
    def broken_traces(self) -> int:
        """How many messages have no whole trace, and how many traces belong to no message."""
        return len(self.broken) + self.untraced

    @property
    def typical(self) -> Trace | None:
        """A whole trace of middling duration, for the screen."""
        by_duration = sorted(self.whole, key=lambda trace: trace.seconds)
        return by_duration[len(by_duration) // 2] if by_duration else None


def check(spans: Iterable[SpanRecord], messages: int, prefix: str = "") -> Verdict:
    """Judge the spans of a run with that many messages, over topics that begin with `prefix`."""
    traces = [trace for trace in group(spans).values() if not trace.only_receives]
    reasons = {trace.trace_id: _reason(trace, prefix) for trace in traces}
    begun = sum(any(SENT.is_met_by(span, prefix) for span in trace.spans) for trace in traces)
    return Verdict(
        whole=tuple(trace for trace in traces if not reasons[trace.trace_id]),
        broken={trace_id: reason for trace_id, reason in reasons.items() if reason},
        untraced=max(messages - begun, 0),
        hops=tuple(_hop(sender, step, traces, prefix) for sender, step in _HOPS),
    )


def _reason(trace: Trace, prefix: str) -> str:
    """Say what is wrong with a trace; empty when it is whole."""
    found = {step: [span for span in trace.spans if step.is_met_by(span, prefix)] for step in STEPS}
    if not any(found.values()):
        return ""  # Nothing of a message's way: a service's other work.
    if len(found[SENT]) != 1:
        return "two messages in one trace" if found[SENT] else "a trace of its own, without the send of ingest"
    for step in STEPS:
        if not found[step]:
            return f"no {step.title}"
        parents = {span.span_id for span in found[step.parent]} if step.parent else {""}
        if any(span.parent_span_id not in parents for span in found[step]):
            return f"{step.title} is not a child of {step.parent.title}" if step.parent else f"{step.title} is no root"
        for span in found[step]:
            if environment(span) != SERVICES[step.service]:
                return f"{step.title} says environment {environment(span) or 'nothing'}, not {SERVICES[step.service]}"
    return ""


def _hop(sender: str, step: Step, traces: Iterable[Trace], prefix: str) -> Hop:
    handled = [span for trace in traces for span in trace.spans if step.is_met_by(span, prefix)]
    ages = [
        float(span.attributes[semconv.OTEL_PIPELINE_DELIVERY_AGE])
        for span in handled
        if semconv.OTEL_PIPELINE_DELIVERY_AGE in span.attributes
    ]
    durations = [(span.end_ns - span.start_ns) / 1e9 for span in handled]
    return Hop(
        sender, step.service, len(handled), percentile(ages, 50), percentile(ages, 99), percentile(durations, 99)
    )


def percentile(values: Sequence[float], rank: int) -> float | None:
    """Return the nearest-rank percentile; None without values."""
    if not values:
        return None
    at = -(-len(values) * rank // 100)
    return sorted(values)[max(at, 1) - 1]
