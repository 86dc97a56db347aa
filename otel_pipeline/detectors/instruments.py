"""The metrics of the detectors that count (docs/telemetry.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv

if TYPE_CHECKING:
    from otel_pipeline.engine.totals import Counter, Totals


class Instruments:
    """Counters and histograms; gauges are read where they are computed."""

    def __init__(self, totals: Totals) -> None:
        self.delivery_age = totals.histogram(
            semconv.OTEL_PIPELINE_DELIVERY_AGE, "s", "Produced to delivered to the application.", semconv.AGE_BUCKETS_S
        )
        self.data_age = totals.histogram(
            semconv.OTEL_PIPELINE_DATA_AGE, "s", "Oldest origin to the end of processing.", semconv.AGE_BUCKETS_S
        )
        self.event_age = totals.histogram(
            semconv.OTEL_PIPELINE_EVENT_AGE, "s", "When it happened to the end of processing.", semconv.AGE_BUCKETS_S
        )
        self.process_wait = totals.histogram(
            semconv.OTEL_PIPELINE_PROCESS_WAIT,
            "s",
            "Delivered to the beginning of its processing.",
            semconv.AGE_BUCKETS_S,
        )
        self.lateness = totals.histogram(
            semconv.OTEL_PIPELINE_ORDER_LATENESS,
            "s",
            "How far behind the newest time a message's time is.",
            semconv.AGE_BUCKETS_S,
        )
        self.objectives = totals.counter(
            semconv.OTEL_PIPELINE_SLO_EVENTS, "{event}", "Cases that met a freshness objective, or did not."
        )
        self.violations = totals.counter(
            semconv.OTEL_PIPELINE_ORDER_VIOLATIONS, "{message}", "Messages that came out of order, or again."
        )
        self.missing = totals.counter(
            semconv.OTEL_PIPELINE_MESSAGES_MISSING, "{message}", "Messages that never came, by where they were lost."
        )
        self.commit_ahead = totals.counter(
            semconv.OTEL_PIPELINE_COMMIT_AHEAD, "{message}", "Offsets committed before their processing had ended."
        )
        self.coverage = totals.counter(
            semconv.OTEL_PIPELINE_HEADER_COVERAGE, "{message}", "Messages by what their data-flow header was like."
        )
        self.foreign = totals.counter(
            semconv.OTEL_PIPELINE_MESSAGES_FOREIGN_ENVIRONMENT,
            "{message}",
            "Messages that began in another environment.",
        )
        self.negative_ages = totals.counter(
            semconv.OTEL_PIPELINE_CLOCK_NEGATIVE_AGES, "{message}", "Messages that came before they were sent."
        )

    def counters(self) -> tuple[Counter, ...]:
        """Those whose values are summed up when they are read."""
        return (
            self.violations,
            self.missing,
            self.commit_ahead,
            self.coverage,
            self.foreign,
            self.negative_ages,
        )
