"""What the SDK recorded as OTLP JSON: camelCase, ids in hex, 64-bit integers as text (OTLP, JSON encoding)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUSES = {"UNSET": 0, "OK": 1, "ERROR": 2}
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200

Json = dict[str, Any]


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def double(of: float) -> float | str:
    """Write a number, or the word that protobuf's JSON, and so OTLP's readers, have for what JSON has no number for."""
    return _NO_NUMBERS.get(str(of), of)


def value(of: Any) -> Json:  # noqa: PLR0911 - one return per type
    """Write an attribute's value; what has no type of its own becomes text."""
    if isinstance(of, str):
        return {"stringValue": of}
    if isinstance(of, bool):
        return {"boolValue": of}
    if isinstance(of, int):
        return {"intValue": str(of)}
    if isinstance(of, float):
        return {"doubleValue": double(of)}
    if isinstance(of, (bytes, bytearray)):
        return {"bytesValue": base64.b64encode(of).decode()}
    if isinstance(of, Mapping):
        return {"kvlistValue": {"values": attributes(of)}}
    if isinstance(of, Sequence):
        return {"arrayValue": {"values": [value(each) for each in of]}}
    return {} if of is None else {"stringValue": str(of)}


def attributes(of: Mapping[str, Any] | None) -> list[Json]:
    """Write attributes as a list of keys and values."""
    return [{"key": str(key), "value": value(each)} for key, each in (of or {}).items()]


def _grouped(
    items: Iterable[Any], scope_of: Any, resource_of: Any
) -> Iterable[tuple[Any, list[tuple[Any, list[Any]]]]]:
    """Group items by resource, and within it by scope."""
    resources: dict[int, tuple[Any, dict[int, tuple[Any, list[Any]]]]] = {}
    for item in items:
        resource, scope = resource_of(item), scope_of(item)
        _, scopes = resources.setdefault(id(resource), (resource, {}))
        scopes.setdefault(id(scope), (scope, []))[1].append(item)
    return [(resource, list(scopes.values())) for resource, scopes in resources.values()]


def _resource(of: Any) -> Json:
    return {"attributes": attributes(of.attributes)} if of is not None else {}


def _scope(of: Any) -> Json:
    if of is None:
        return {}
    found = {"name": of.name or ""}
    if of.version:
        found["version"] = of.version
    return found


def _schema(of: Any) -> Json:
    url = getattr(of, "schema_url", None)
    return {"schemaUrl": url} if url else {}


def spans(batch: Sequence[Any]) -> Json:
    """Make an ExportTraceServiceRequest."""
    return {
        "resourceSpans": [
            {
                "resource": _resource(resource),
                "scopeSpans": [
                    {"scope": _scope(scope), "spans": [_span(each) for each in of_scope], **_schema(scope)}
                    for scope, of_scope in scopes
                ],
                **_schema(resource),
            }
            for resource, scopes in _grouped(batch, lambda span: span.instrumentation_scope, lambda span: span.resource)
        ]
    }


def _span(span: Any) -> Json:
    context = span.context
    parent = span.parent
    flags = int(context.trace_flags) & 0xFF | _REMOTE_KNOWN
    if parent is not None and parent.is_remote:
        flags |= _REMOTE
    found: Json = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "flags": flags,
        "name": span.name,
        "kind": _KINDS[span.kind.name],
        "startTimeUnixNano": str(span.start_time or 0),
        "endTimeUnixNano": str(span.end_time or 0),
        "attributes": attributes(span.attributes),
        "status": {"code": _STATUSES[span.status.status_code.name]} if span.status.status_code.value else {},
    }
    if parent is not None:
        found["parentSpanId"] = f"{parent.span_id:016x}"
    if context.trace_state:
        found["traceState"] = context.trace_state.to_header()
    if span.status.description:
        found["status"]["message"] = span.status.description
    if span.events:
        found["events"] = [
            {"timeUnixNano": str(event.timestamp), "name": event.name, "attributes": attributes(event.attributes)}
            for event in span.events
        ]
    if span.links:
        found["links"] = [_link(link) for link in span.links]
    for name, count in (
        ("droppedAttributesCount", getattr(span, "dropped_attributes", 0)),
        ("droppedEventsCount", getattr(span, "dropped_events", 0)),
        ("droppedLinksCount", getattr(span, "dropped_links", 0)),
    ):
        if count:
            found[name] = count
    return found


def _link(link: Any) -> Json:
    context = link.context
    found: Json = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "flags": int(context.trace_flags) & 0xFF | _REMOTE_KNOWN | (_REMOTE if context.is_remote else 0),
        "attributes": attributes(link.attributes),
    }
    if context.trace_state:
        found["traceState"] = context.trace_state.to_header()
    return found


def logs(batch: Sequence[Any]) -> Json:
    """Make an ExportLogsServiceRequest; the SDK's classes have moved, their fields have not."""

    def resource_of(data: Any) -> Any:
        return getattr(data, "resource", None) or getattr(data.log_record, "resource", None)

    return {
        "resourceLogs": [
            {
                "resource": _resource(resource),
                "scopeLogs": [
                    {
                        "scope": _scope(scope),
                        "logRecords": [_log(each.log_record) for each in of_scope],
                        **_schema(scope),
                    }
                    for scope, of_scope in scopes
                ],
                **_schema(resource),
            }
            for resource, scopes in _grouped(batch, lambda data: data.instrumentation_scope, resource_of)
        ]
    }


def _log(record: Any) -> Json:
    found: Json = {
        "timeUnixNano": str(record.timestamp or 0),
        "observedTimeUnixNano": str(record.observed_timestamp or record.timestamp or 0),
        "severityText": record.severity_text or "",
        "body": value(record.body),
        "attributes": attributes(record.attributes),
    }
    if record.severity_number is not None:
        found["severityNumber"] = record.severity_number.value
    if record.trace_id:
        found["traceId"] = f"{record.trace_id:032x}"
        found["flags"] = int(record.trace_flags or 0)
    if record.span_id:
        found["spanId"] = f"{record.span_id:016x}"
    return found


def metrics(data: Any) -> Json:
    """Make an ExportMetricsServiceRequest."""
    return {
        "resourceMetrics": [
            {
                "resource": _resource(of_resource.resource),
                "scopeMetrics": [
                    {
                        "scope": _scope(of_scope.scope),
                        "metrics": [_metric(metric) for metric in of_scope.metrics],
                        **_schema(of_scope),
                    }
                    for of_scope in of_resource.scope_metrics
                ],
                **_schema(of_resource),
            }
            for of_resource in data.resource_metrics
        ]
    }


def _metric(metric: Any) -> Json:
    data = metric.data
    kind = type(data).__name__
    found: Json = {"name": metric.name, "description": metric.description or "", "unit": metric.unit or ""}
    points = [_point(point, kind) for point in data.data_points]
    if kind == "Sum":
        found["sum"] = {
            "dataPoints": points,
            "aggregationTemporality": int(data.aggregation_temporality),
            "isMonotonic": data.is_monotonic,
        }
    elif kind == "Gauge":
        found["gauge"] = {"dataPoints": points}
    elif kind == "Histogram":
        found["histogram"] = {"dataPoints": points, "aggregationTemporality": int(data.aggregation_temporality)}
    else:
        found["exponentialHistogram"] = {
            "dataPoints": points,
            "aggregationTemporality": int(data.aggregation_temporality),
        }
    return found


def _point(point: Any, kind: str) -> Json:
    found: Json = {"attributes": attributes(point.attributes), "timeUnixNano": str(point.time_unix_nano)}
    if point.start_time_unix_nano:
        found["startTimeUnixNano"] = str(point.start_time_unix_nano)
    if kind in ("Sum", "Gauge"):
        found["asInt" if isinstance(point.value, int) else "asDouble"] = (
            str(point.value) if isinstance(point.value, int) else point.value
        )
    else:
        found |= {"count": str(point.count), "sum": point.sum}
        for name in ("min", "max"):
            bound = getattr(point, name)
            if bound is not None and abs(bound) != float("inf"):
                found[name] = bound
        if kind == "Histogram":
            found["bucketCounts"] = [str(count) for count in point.bucket_counts]
            found["explicitBounds"] = list(point.explicit_bounds)
        else:
            found |= {"scale": point.scale, "zeroCount": str(point.zero_count)}
            for name, buckets in (("positive", point.positive), ("negative", point.negative)):
                counts = [str(count) for count in buckets.bucket_counts]
                found[name] = {"offset": buckets.offset, "bucketCounts": counts}
    if getattr(point, "exemplars", None):
        found["exemplars"] = [_exemplar(each) for each in point.exemplars]
    return found


def _exemplar(exemplar: Any) -> Json:
    whole = isinstance(exemplar.value, int)
    found: Json = {
        "timeUnixNano": str(exemplar.time_unix_nano),
        "asInt" if whole else "asDouble": str(exemplar.value) if whole else exemplar.value,
        "filteredAttributes": attributes(exemplar.filtered_attributes),
    }
    if exemplar.trace_id:
        found["traceId"] = f"{exemplar.trace_id:032x}"
    if exemplar.span_id:
        found["spanId"] = f"{exemplar.span_id:016x}"
    return found
