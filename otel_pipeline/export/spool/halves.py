"""An export request that a server takes no more of is sent in halves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_pipeline.export.destination import Signal


def halves(signal: Signal, payload: bytes) -> list[tuple[bytes, int]]:
    """Return an encoded request as two of half the items each, with their counts; as one where it has only one.

    Raises whatever the decoder raises for what is no request.
    """
    request = _request(signal)
    whole = request.FromString(payload)
    total = len(_items(signal, whole))
    if total < 2:  # noqa: PLR2004 - one cannot be halved
        return [(payload, total)]
    return [
        (_only(signal, request.FromString(payload), range(total // 2)), total // 2),
        (_only(signal, whole, range(total // 2, total)), total - total // 2),
    ]


def count(signal: Signal, payload: bytes) -> int:
    """Return how many items an encoded request has. Raises whatever the decoder raises for what is no request."""
    return len(_items(signal, _request(signal).FromString(payload)))


def only(signal: Signal, payload: bytes, wanted: range) -> bytes:
    """Return an encoded request with these of its items, counted from 0; raises as `count` does."""
    return _only(signal, _request(signal).FromString(payload), wanted)


def _request(signal: Signal) -> Any:
    # Imported when it is needed: what they stand on takes 60 ms.
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        return ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    return ExportMetricsServiceRequest


def _lists(signal: Signal, request: Any) -> list[Any]:
    """Return the lists that the items are in."""
    if signal == "traces":
        return [scope.spans for of in request.resource_spans for scope in of.scope_spans]
    if signal == "logs":
        return [scope.log_records for of in request.resource_logs for scope in of.scope_logs]
    return [
        getattr(metric, metric.WhichOneof("data")).data_points
        for of in request.resource_metrics
        for scope in of.scope_metrics
        for metric in scope.metrics
        if metric.WhichOneof("data")
    ]


def _items(signal: Signal, request: Any) -> list[Any]:
    return [item for each in _lists(signal, request) for item in each]


def _only(signal: Signal, request: Any, wanted: range) -> bytes:
    at = 0
    for each in _lists(signal, request):
        begin, at = at, at + len(each)
        first, last = max(wanted.start - begin, 0), max(wanted.stop - begin, 0)
        del each[last:]
        del each[:first]
    return bytes(request.SerializeToString())
