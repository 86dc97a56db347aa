"""What the SDK recorded in memory, as the records that are read from OTLP JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.export.otlp_reader import EventRecord, LinkRecord, LogRecord, MetricRecord, PointRecord, SpanRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in sorted((attributes or {}).items())
    }


def span_record(span: ReadableSpan) -> SpanRecord:
    """Convert one ended span."""
    context: Any = span.get_span_context()
    scope = span.instrumentation_scope
    return SpanRecord(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=f"{span.parent.span_id:016x}" if span.parent is not None else "",
        name=span.name,
        kind=span.kind.name,
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        attributes=_plain(span.attributes),
        links=tuple(
            LinkRecord(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}", _plain(link.attributes))
            for link in span.links
        ),
        events=tuple(EventRecord(event.name, event.timestamp, _plain(event.attributes)) for event in span.events),
        status=span.status.status_code.name,
        status_message=span.status.description or "",
        resource=_plain(span.resource.attributes),
        scope=scope.name if scope is not None else "",
        trace_state=context.trace_state.to_header() if context.trace_state else "",
        flags=int(context.trace_flags),
    )


def metric_records(data: MetricsData | None) -> Iterator[MetricRecord]:
    """Convert all metrics of one collection."""
    for of_resource in data.resource_metrics if data is not None else ():
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                points: Any = metric.data
                yield MetricRecord(
                    name=metric.name,
                    unit=metric.unit or "",
                    description=metric.description or "",
                    kind=type(points).__name__.lower(),
                    points=tuple(_point(point) for point in points.data_points),
                    monotonic=bool(getattr(points, "is_monotonic", False)),
                    temporality=getattr(getattr(points, "aggregation_temporality", None), "name", "UNSPECIFIED"),
                    resource=_plain(of_resource.resource.attributes),
                    scope=of_scope.scope.name,
                )


def _point(point: Any) -> PointRecord:
    return PointRecord(
        attributes=_plain(point.attributes),
        start_ns=point.start_time_unix_nano or 0,
        time_ns=point.time_unix_nano,
        value=getattr(point, "value", None),
        count=getattr(point, "count", 0),
        sum=getattr(point, "sum", None),
        bounds=tuple(getattr(point, "explicit_bounds", ())),
        bucket_counts=tuple(getattr(point, "bucket_counts", ())),
    )


def log_record(data: Any) -> LogRecord:
    """Convert one log record; the SDK's classes have moved, their fields have not."""
    record = data.log_record
    scope = getattr(data, "instrumentation_scope", None)
    resource = getattr(data, "resource", None) or getattr(record, "resource", None)
    severity = record.severity_number
    return LogRecord(
        time_ns=record.timestamp or record.observed_timestamp or 0,
        severity=record.severity_text or "",
        severity_number=severity.value if severity is not None else 0,
        body=record.body,
        attributes=_plain(record.attributes),
        trace_id=f"{record.trace_id:032x}" if record.trace_id else "",
        span_id=f"{record.span_id:016x}" if record.span_id else "",
        flags=int(record.trace_flags or 0),
        resource=_plain(resource.attributes if resource is not None else None),
        scope=scope.name if scope is not None else "",
    )
