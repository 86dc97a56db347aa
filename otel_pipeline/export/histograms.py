"""Our histograms, appended to what the SDK collects, so that they reach every reader without a call per value.

The SDK has neither a MetricProducer nor asynchronous histograms. Its own aggregations are never written to.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Exemplar, MeterProvider
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics._internal.aggregation import _DropAggregation, _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricReader,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource

from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.totals import Attributes, Histogram, HistogramPoint, Problem, Totals, newest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

Key: TypeAlias = frozenset[tuple[str, Any]]
Points: TypeAlias = dict[Key, tuple[Attributes, HistogramPoint]]
DELTA = AggregationTemporality.DELTA


class CollectedHistograms:
    """Stands in for `collect` of one provider, for its present readers and those added later."""

    def __init__(self, provider: MeterProvider, problem: Problem, collected: Callable[[], None] = lambda: None) -> None:
        self._sdk_config = provider._sdk_config
        self._problem = problem
        self._collected = collected
        self._consumer: Any = provider._measurement_consumer
        self._original: Callable[..., MetricsData | None] = self._consumer.collect
        self._histograms: list[tuple[Histogram, Any]] = []
        self._previous: weakref.WeakKeyDictionary[MetricReader, dict[tuple[str, int], tuple[int, Points]]] = (
            weakref.WeakKeyDictionary()
        )
        self._attached = False
        self._begin_anew()
        forks.add(self._begin_anew, Step.ZERO)

    @property
    def exemplars(self) -> bool:
        """Whether the provider's filter, `OTEL_METRICS_EXEMPLAR_FILTER` unless it was given one, lets any pass.

        `always_on` gets those of recorded spans too, and no more: any other leads nowhere.
        """
        return not isinstance(getattr(self._sdk_config, "exemplar_filter", None), AlwaysOffExemplarFilter)

    def _begin_anew(self) -> None:
        """Wait for no thread of a parent's, and subtract nothing that it has exported."""
        self._lock = threading.Lock()
        self._previous.clear()

    def attach(self) -> None:
        """Take the place of the SDK's collect."""
        self._attached = True
        vars(self._consumer)["collect"] = self.collect
        for reader in list(self._consumer._reader_storages):
            if reader._collect == self._original:
                reader._set_collect_callback(self.collect)

    def detach(self) -> None:
        """Give the place back. Where somebody has wrapped ours meanwhile, ours only passes calls on from now."""
        self._attached = False
        for reader in list(self._consumer._reader_storages):
            if reader._collect == self.collect:
                reader._set_collect_callback(self._original)
        if vars(self._consumer).get("collect") == self.collect:
            del vars(self._consumer)["collect"]
            if self._consumer.collect != self._original:
                vars(self._consumer)["collect"] = self._original

    def add(self, histogram: Histogram, instrument: Any) -> None:
        """Append this histogram. The SDK's own of the same name is never recorded: it tells which views apply."""
        self._histograms.append((histogram, instrument))

    def collect(self, reader: MetricReader, *args: Any, **kwargs: Any) -> MetricsData | None:
        """Collect what the SDK has for this reader, and our histograms."""
        data = self._original(reader, *args, **kwargs)
        if not self._attached:
            return data
        try:
            self._collected()
            with self._lock:
                metrics = [metric for pair in self._histograms[:] for metric in self._streams(reader, *pair)]
            return self._appended(data, metrics) if metrics else data
        except Exception as error:
            self._problem("metrics.collect", f"our histograms are missing from a collection: {type(error).__name__}")
            return data

    def _streams(self, reader: MetricReader, histogram: Histogram, instrument: Any) -> Iterable[Metric]:
        if not getattr(instrument, "_is_enabled", lambda: True)():
            return
        temporality = reader._instrument_class_temporality[type(instrument)]
        points, now_ns = histogram.points(), time.time_ns()
        storage = self._consumer._reader_storages[reader]
        for number, match in enumerate(storage._get_or_init_view_instrument_match(instrument)):
            if isinstance(match._aggregation, _DropAggregation):
                continue
            self._check_aggregation(match)
            visible = _visible(points, match._view._attribute_keys)
            start_ns = histogram.start_ns
            if temporality is DELTA:
                previous = self._previous.setdefault(reader, {})
                start_ns, before = previous.get((histogram.name, number), (start_ns, {}))
                previous[histogram.name, number] = now_ns, visible
                visible = _since(before, visible)
            if visible:
                yield Metric(
                    name=match._name,
                    description=match._description,
                    unit=match._instrument.unit,
                    data=_data(histogram.bounds, visible, (start_ns, now_ns), temporality),
                )

    def _check_aggregation(self, match: Any) -> None:
        if not isinstance(match._aggregation, _ExplicitBucketHistogramAggregation):
            self._problem(
                f"metrics.aggregation.{match._name}",
                f"{match._name} keeps its explicit buckets: it cannot be exported with another aggregation",
            )

    def _appended(self, data: MetricsData | None, metrics: list[Metric]) -> MetricsData:
        scope = self._histograms[0][1].instrumentation_scope
        ours = ScopeMetrics(scope=scope, metrics=metrics, schema_url=scope.schema_url)
        if data is None or not data.resource_metrics:
            resource = self._sdk_config.resource
            return MetricsData([ResourceMetrics(resource, [ours], resource.schema_url)])
        first, *others = data.resource_metrics
        known = [found for found in first.scope_metrics if found.scope == scope]
        if known:
            ours = replace(known[0], metrics=[*known[0].metrics, *metrics])
        scopes = [found for found in first.scope_metrics if found.scope != scope]
        return MetricsData([replace(first, scope_metrics=[*scopes, ours]), *others])


def _visible(points: Iterable[tuple[Attributes, HistogramPoint]], keys: Collection[str] | None) -> Points:
    """Show the points as a view with these attribute keys does: points that are then equal become one."""
    visible: Points = {}
    for attributes, point in points:
        shown = attributes if keys is None else {name: attributes[name] for name in attributes if name in keys}
        key = frozenset((name, tuple(v) if isinstance(v, list) else v) for name, v in shown.items())
        visible[key] = shown, _sum(visible[key][1], point) if key in visible else point
    return visible


def _sum(a: HistogramPoint, b: HistogramPoint) -> HistogramPoint:
    buckets = tuple(map(sum, zip(a.bucket_counts, b.bucket_counts, strict=True)))
    examples = newest(a.exemplars, b.exemplars)
    return HistogramPoint(a.count + b.count, a.sum + b.sum, min(a.min, b.min), max(a.max, b.max), buckets, examples)


def _since(before: Points, now: Points) -> Points:
    """Return what has been added since; the extremes of an interval are not known."""
    added: Points = {}
    for key, (attributes, point) in now.items():
        if key in before:
            old = before[key][1]
            buckets = tuple(new - gone for new, gone in zip(point.bucket_counts, old.bucket_counts, strict=True))
            point = replace(point, count=point.count - old.count, sum=point.sum - old.sum, bucket_counts=buckets)  # noqa: PLW2901
        if point.count:
            added[key] = attributes, point
    return added


def _data(
    bounds: tuple[float, ...], points: Points, times_ns: tuple[int, int], temporality: AggregationTemporality
) -> HistogramData:
    unknown: Any = None  # OTLP has min and max optional; the SDK's annotation has not
    return HistogramData(
        aggregation_temporality=temporality,
        data_points=[
            HistogramDataPoint(
                attributes=dict(attributes),
                start_time_unix_nano=times_ns[0],
                time_unix_nano=times_ns[1],
                count=point.count,
                sum=point.sum,
                bucket_counts=point.bucket_counts,
                explicit_bounds=bounds,
                min=unknown if temporality is DELTA else point.min,
                max=unknown if temporality is DELTA else point.max,
                exemplars=[
                    Exemplar({}, value, time_ns, span.span_id, span.trace_id)
                    for value, time_ns, span in filter(None, point.exemplars)
                    if temporality is not DELTA or times_ns[0] <= time_ns
                ],
            )
            for attributes, point in points.values()
        ],
    )


@cache
def fits() -> bool:
    """Tell whether this SDK works inside as we know it: tried on a provider of our own, with a view and two readers."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality={SdkHistogram: DELTA})]
    view = View(instrument_name="probe", name="renamed", attribute_keys={"kept"})
    provider = MeterProvider(readers, Resource({}), shutdown_on_exit=False, views=[view])
    problems: list[str] = []
    collected = CollectedHistograms(provider, lambda _, message: problems.append(message))
    histogram = Totals().histogram("probe", "s", "", (1, 2))
    collected.add(histogram, provider.get_meter("probe").create_histogram("probe", "s"))
    collected.attach()
    seen = []
    for _ in range(2):
        histogram.cell({"kept": 1, "hidden": 2}).record(1.5)
        seen += [_points(reader.get_metrics_data()) for reader in readers]
    collected.detach()
    seen += [_points(reader.get_metrics_data()) for reader in readers]
    provider.shutdown()
    once, twice = [("renamed", {"kept": 1}, 1, (0, 1, 0))], [("renamed", {"kept": 1}, 2, (0, 2, 0))]
    return not problems and seen == [once, once, twice, once, [], []]


def _points(data: MetricsData | None) -> list[tuple[object, ...]]:
    metrics = [m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics]
    return [
        (metric.name, point.attributes, point.count, point.bucket_counts)
        for metric in metrics
        for point in metric.data.data_points
        if metric.name in {"probe", "renamed"} and isinstance(point, HistogramDataPoint)
    ]
