"""A batch of spans, log records or metrics as one request for OTLP; what cannot be encoded costs itself alone."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.engine.span_shape import ShapedSpan
from otel_pipeline.export import batches
from otel_pipeline.export.otlp import logs, metrics, recorded, spans, wire
from otel_pipeline.export.repair import Repair, repaired_resource, repaired_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.export.destination import Signal


_NONE = object()


class Encoded(NamedTuple):
    """A request, and what became of the items that were to be in it."""

    body: bytes
    """Protobuf; empty where nothing is left."""
    items: int
    """Spans, log records, or points of metrics that are in it."""
    repaired: int = 0
    """Of these, how many were changed so that they could be encoded."""
    left_out: int = 0
    """How many are not in it, since nothing can encode them."""


def encode(signal: Signal, batch: Any) -> Encoded:
    """Encode what an exporter of this signal is given. Safe in any thread; never raises for what an item holds."""
    return Encoder(signal).encode(batch)


class Encoder:
    """Encodes one batch."""

    def __init__(self, signal: Signal) -> None:
        self._signal: Signal = signal
        self._repaired = self._left_out = self._count = 0

    def encode(self, batch: Any) -> Encoded:
        """Return the request."""
        grouped: dict[bytes, dict[bytes, list[bytes]]] = {}
        for resource, scope, items in self._metrics(batch) if self._signal == "metrics" else self._items(batch):
            if items:
                self._count += 0 if self._signal == "metrics" else len(items)
                of_resource = self._shared(wire.resource_of, repaired_resource, resource)
                of_scope = self._shared(wire.scope_of, repaired_scope, scope)
                grouped.setdefault(of_resource, {}).setdefault(of_scope, []).extend(items)
        body = wire.request([(resource, list(scopes.items())) for resource, scopes in grouped.items()])
        return Encoded(body, self._count, self._repaired, self._left_out)

    def _items(self, batch: Any) -> Iterator[tuple[Any, Any, list[bytes]]]:
        """Yield spans or log records as bytes, those together that have one resource and scope object."""
        encode_one = spans.encode if self._signal == "traces" else logs.encode
        resource_of = attrgetter("resource") if self._signal == "traces" else logs.resource_of
        last_resource: Any = _NONE
        last_scope: Any = _NONE
        found: list[bytes] = []
        shaped: type | None = None
        for item in batch:
            if type(item) is shaped:  # The class has resource and scope: they are those of the one before.
                try:
                    found.append(recorded.encode(item))
                except Exception:
                    found += self._again(item, spans.encode)
                continue
            try:
                resource, scope = resource_of(item), item.instrumentation_scope
            except Exception:
                self._left_out += 1
                continue
            if scope is not last_scope or resource is not last_resource:
                yield last_resource, last_scope, found
                last_resource, last_scope, found = resource, scope, []
            shaped = type(item) if isinstance(item, ShapedSpan) else None
            try:
                found.append(encode_one(item) if shaped is None else recorded.encode(item))
            except Exception:
                found += self._again(item, encode_one)
        yield last_resource, last_scope, found

    def _metrics(self, batch: Any) -> Iterator[tuple[Any, Any, list[bytes]]]:
        for of in batch.resource_metrics:
            for scoped in of.scope_metrics:
                yield of.resource, scoped.scope, [found for each in scoped.metrics for found in self._metric(each)]

    def _metric(self, metric: Any) -> list[bytes]:
        """Return a metric as bytes; or nothing, where no point of it is left."""
        points: list[bytes] = []
        held = metric.data.data_points
        try:
            encode_point = metrics.point_encoder(metric.data)
        except TypeError:
            self._left_out += len(held)
            return []
        for point in held:
            try:
                points.append(encode_point(point))
            except Exception:
                of_it = batches.Point(None, "", None, "", metric, point)
                points += self._again(of_it, lambda repaired: encode_point(repaired.data))
        if held and not points:
            return []
        self._count += len(points)
        try:
            return [metrics.metric_of(metric, points)]
        except Exception:
            named = Repair().points([batches.Point(None, "", None, "", metric, held[0])])[0].metric
            self._repaired += len(points)
            return [metrics.metric_of(named, points)]

    def _again(self, item: Any, encode_one: Callable[[Any], bytes]) -> list[bytes]:
        """Encode what could not be, repaired; return nothing where that does not help."""
        try:
            repaired, changed = batches.repaired(self._signal, [item])
            found = [encode_one(repaired[0])] if changed else []
        except Exception:
            found = []
        self._repaired += len(found)
        self._left_out += 1 - len(found)
        return found

    def _shared(self, write: Callable[[Any], bytes], repaired: Callable[[Any], Any], of: Any) -> bytes:
        """Return a resource or scope as bytes, repaired where that is needed."""
        try:
            return write(of)
        except Exception:
            self._repaired = max(self._repaired, 1)
            return write(repaired(of))
