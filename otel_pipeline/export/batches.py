"""What one call of an exporter is given, as a list of items that can be counted, halved and put together again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.export.repair import Repair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.export.destination import Signal


class Point(NamedTuple):
    """One point of a metric, with what stands above it."""

    resource: Any
    resource_schema: str
    scope: Any
    scope_schema: str
    metric: Any
    data: Any


def items_of(signal: Signal, batch: Any) -> Sequence[Any]:
    """Return spans, log records, or points of metrics."""
    if signal != "metrics":
        return batch if isinstance(batch, (list, tuple)) else list(batch)
    return [
        Point(of.resource, of.schema_url, scoped.scope, scoped.schema_url, metric, data)
        for of in batch.resource_metrics
        for scoped in of.scope_metrics
        for metric in scoped.metrics
        for data in metric.data.data_points
    ]


def count(signal: Signal, batch: Any) -> int:
    """Return how many spans, log records, or points of metrics there are."""
    if signal != "metrics":
        return len(batch)
    return sum(
        len(metric.data.data_points)
        for of in batch.resource_metrics
        for scoped in of.scope_metrics
        for metric in scoped.metrics
    )


def batch_of(signal: Signal, items: Sequence[Any]) -> Any:
    """Return what an exporter takes: the way back from `items_of`."""
    if signal != "metrics":
        return items
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics

    resources: dict[int, tuple[Point, dict[int, tuple[Point, dict[int, tuple[Point, list[Any]]]]]]] = {}
    for item in items:
        _, scopes = resources.setdefault(id(item.resource), (item, {}))
        _, metrics = scopes.setdefault(id(item.scope), (item, {}))
        metrics.setdefault(id(item.metric), (item, []))[1].append(item.data)
    return MetricsData(
        [
            ResourceMetrics(
                of.resource,
                [
                    ScopeMetrics(
                        scoped.scope,
                        [_metric(item.metric, data) for item, data in metrics.values()],
                        scoped.scope_schema,
                    )
                    for scoped, metrics in scopes.values()
                ],
                of.resource_schema,
            )
            for of, scopes in resources.values()
        ]
    )


def _metric(metric: Any, points: list[Any]) -> Any:
    return replace(metric, data=replace(metric.data, data_points=points))


def repaired(signal: Signal, items: Sequence[Any]) -> tuple[Sequence[Any], int]:
    """Return items that can be encoded, and how many had to be changed for it."""
    repair = Repair()
    kinds = {"traces": repair.spans, "logs": repair.logs, "metrics": repair.points}
    return kinds[signal](items), repair.changed
