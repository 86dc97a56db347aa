"""Exporters of spans, log records and metrics over HTTP, to stand behind a border: they tell the attempt what came."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_pipeline.export import attempt, causes
from otel_pipeline.export.otlp.encoder import encode
from otel_pipeline.export.otlp.http import Outcome, Transport
from otel_pipeline.export.otlp_lines import LOG_EXPORT_RESULT, LogExporter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_pipeline.export.collector_clock import Answers
    from otel_pipeline.export.destination import Signal
    from otel_pipeline.export.otlp.variables import HttpSettings

MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Not compressed, as OTLP counts it."""
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
_DELTAS: dict[str, tuple[type, ...]] = {
    "DELTA": (Counter, Histogram, ObservableCounter),
    "LOWMEMORY": (Counter, Histogram),
}
"""Instruments whose points say what was added since the last time."""
_INSTRUMENTS = (Counter, UpDownCounter, Histogram, ObservableCounter, ObservableUpDownCounter, ObservableGauge)


class Sender:
    """Encodes batches of one signal and sends them. Safe in any thread, as far as its transport is."""

    def __init__(self, signal: Signal, settings: HttpSettings, answers: Answers | None = None) -> None:
        self._signal: Signal = signal
        self.transport = Transport(settings, answers, _tell_attempt)
        """For who encodes, and waits between tries, himself."""
        self._is_stopped = False
        self.endpoint = settings.endpoint

    def send(self, batch: Any, timeout_s: float) -> bool:
        """Send a batch, within the time or that of the settings; return whether it was taken."""
        trying = attempt.current() or attempt.Attempt()
        if self._is_stopped:
            trying.says = causes.ENDED
            return False
        encoded = encode(self._signal, batch)
        trying.repaired, trying.left_out = encoded.repaired, encoded.left_out
        if encoded.left_out and not encoded.items:
            trying.says = causes.NOT_ENCODED
            return False
        if len(encoded.body) > MAX_REQUEST_BYTES:
            trying.says = causes.TOO_LARGE
            return False
        return self.transport.post(encoded.body, min(timeout_s, self.transport.settings.timeout_s)).is_taken

    def stop(self) -> None:
        """Send nothing more; what waits for another try goes no further."""
        self._is_stopped = True
        self.transport.close()


def _tell_attempt(outcome: Outcome) -> None:
    trying = attempt.current()
    if trying is None:
        return
    if outcome.status is not None:
        trying.answered(outcome.status, outcome.body)
    elif outcome.error is not None:
        trying.note_failure(outcome.error)


class _Sends:
    """What the three have in common."""

    _sender: Sender

    @property
    def endpoint(self) -> str:
        """The whole address."""
        return self._sender.endpoint

    @property
    def transport(self) -> Transport:
        """What sends the requests."""
        return self._sender.transport


class OtlpSpans(_Sends, SpanExporter):
    """Exports spans."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send a batch."""
        return SpanExportResult.SUCCESS if self._sender.send(spans, float("inf")) else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Send nothing more."""
        self._sender.stop()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True


class OtlpLogs(_Sends, LogExporter):
    """Exports log records."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def export(self, batch: Sequence[Any]) -> Any:
        """Send a batch."""
        return LOG_EXPORT_RESULT.SUCCESS if self._sender.send(batch, float("inf")) else LOG_EXPORT_RESULT.FAILURE

    def shutdown(self) -> None:
        """Send nothing more."""
        self._sender.stop()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True


class OtlpMetrics(_Sends, MetricExporter):
    """Exports metrics, with the temporality and buckets that OpenTelemetry's variables prefer."""

    def __init__(self, sender: Sender, environ: Mapping[str, str] = os.environ) -> None:
        preferred = environ.get(_TEMPORALITY, "").strip().upper()
        deltas = _DELTAS.get(preferred, ())
        exponential = environ.get(_AGGREGATION, "").strip().lower() == "base2_exponential_bucket_histogram"
        super().__init__(
            preferred_temporality={
                kind: AggregationTemporality.DELTA if kind in deltas else AggregationTemporality.CUMULATIVE
                for kind in _INSTRUMENTS
            },
            preferred_aggregation={
                Histogram: ExponentialBucketHistogramAggregation()
                if exponential
                else ExplicitBucketHistogramAggregation()
            },
        )
        self._sender = sender

    def export(self, metrics_data: Any, timeout_millis: float | None = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send a collection, within the time."""
        del kwargs
        timeout_s = float("inf") if timeout_millis is None else timeout_millis / 1000
        taken = self._sender.send(metrics_data, timeout_s)
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return true: nothing waits."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Send nothing more."""
        del timeout_millis, kwargs
        self._sender.stop()


_KINDS: dict[str, Any] = {"traces": OtlpSpans, "logs": OtlpLogs, "metrics": OtlpMetrics}


def make(signal: Signal, settings: HttpSettings, answers: Answers | None = None) -> Any:
    """Return the exporter of a signal."""
    return _KINDS[signal](Sender(signal, settings, answers))
