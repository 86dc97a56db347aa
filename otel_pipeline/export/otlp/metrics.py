"""Metrics of the SDK as OTLP's bytes: each point by itself, and a metric around its points."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import ExponentialHistogram, Gauge, Histogram, Sum

from otel_pipeline.export.otlp.wire import attributes, length_delimited, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_METRICS = 1_024
"""Whose names, descriptions and units are kept as bytes."""
MAX_BOUNDS = 64
"""Of sets of buckets that are kept as bytes."""
_times = Struct("<sQsQ").pack
_whole = Struct("<sq").pack
_double = Struct("<sd").pack
_count_and_sum = Struct("<sQsd").pack
_count = Struct("<sQ").pack
_packs: dict[tuple[str, int], Callable[..., bytes]] = {}
_names: dict[tuple[str, str, str], bytes] = {}
_bounds: dict[int, tuple[tuple[float, ...], bytes]] = {}


def point_encoder(data: Any) -> Callable[[Any], bytes]:
    """Return what encodes the points of a metric's data, each as a field of that data.

    What it returns raises what `wire.any_value` raises, and whatever else comes of what is no point.

    Raises:
        TypeError: for data of a kind that is not known.
    """
    for kind, encode in _POINTS.items():
        if isinstance(data, kind):
            return encode
    raise TypeError(f"OTLP has no metric that is a {type(data).__name__}")


def metric_of(metric: Any, points: Sequence[bytes]) -> bytes:
    """Return a metric as a field of ScopeMetrics, around points as `point_encoder` makes them.

    Raises UnicodeEncodeError for half of a surrogate pair in its name, description or unit.
    """
    named, data = (metric.name, metric.description, metric.unit), metric.data
    head = _names.get(named)
    if head is None:
        head = b"".join([length_delimited(at, text.encode()) for at, text in enumerate(named, 1) if text])
        if len(_names) >= MAX_METRICS:
            _names.clear()
        _names[named] = head
    of_data, inside = b"", b"".join(points)
    if points and isinstance(data, Gauge):
        of_data = length_delimited(5, inside)
    elif points:
        inside += b"\x10" + varint(int(data.aggregation_temporality))
        if isinstance(data, Sum):
            of_data = length_delimited(7, inside + b"\x18\x01" if data.is_monotonic else inside)
        else:
            of_data = length_delimited(9 if isinstance(data, Histogram) else 10, inside)
    return length_delimited(2, head + of_data)


def _gauge_point(point: Any) -> bytes:
    return _number(point, 0)


def _sum_point(point: Any) -> bytes:
    return _number(point, point.start_time_unix_nano or 0)


def _number(point: Any, start_ns: int) -> bytes:
    value = point.value
    body = b"".join(
        (
            _times(b"\x11", start_ns, b"\x19", point.time_unix_nano or 0),
            _whole(b"\x31", value) if isinstance(value, int) else _double(b"\x21", value),
            attributes(point.attributes, 7),
            _exemplars(point, b"\x2a"),
        )
    )
    return b"\x0a" + varint(len(body)) + body


def _histogram_point(point: Any) -> bytes:
    counts, bounds = point.bucket_counts, point.explicit_bounds
    body = b"".join(
        (
            _head(point),
            _extremes(point, b"\x59", b"\x61"),
            b"\x32" + varint(8 * len(counts)) + _pack("Q", counts) if counts else b"",
            _bounds_of(bounds) if bounds else b"",
            attributes(point.attributes, 9),
            _exemplars(point, b"\x42"),
        )
    )
    return b"\x0a" + varint(len(body)) + body


def _exponential_point(point: Any) -> bytes:
    body = b"".join(
        (
            _head(point),
            _extremes(point, b"\x61", b"\x69"),
            b"\x30" + varint(_zigzag(point.scale)),
            _count(b"\x39", point.zero_count),
            _buckets(8, point.positive),
            _buckets(9, point.negative),
            b"\x50" + varint(point.flags) if point.flags else b"",
            attributes(point.attributes, 1),
            _exemplars(point, b"\x5a"),
        )
    )
    return b"\x0a" + varint(len(body)) + body


_POINTS: dict[type, Callable[[Any], bytes]] = {
    Gauge: _gauge_point,
    Sum: _sum_point,
    Histogram: _histogram_point,
    ExponentialHistogram: _exponential_point,
}


def _head(point: Any) -> bytes:
    times = _times(b"\x11", point.start_time_unix_nano or 0, b"\x19", point.time_unix_nano or 0)
    if point.sum is None:
        return times + _count(b"\x21", point.count)
    return times + _count_and_sum(b"\x21", point.count, b"\x29", point.sum)


def _extremes(point: Any, minimum: bytes, maximum: bytes) -> bytes:
    found = b"" if point.min is None else _double(minimum, point.min)
    return found if point.max is None else found + _double(maximum, point.max)


def _buckets(field: int, buckets: Any) -> bytes:
    counts = buckets.bucket_counts
    if not counts:
        return b""
    packed = b"".join(map(varint, counts))
    return length_delimited(field, b"\x08" + varint(_zigzag(buckets.offset)) + length_delimited(2, packed))


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _pack(kind: str, numbers: Sequence[float]) -> bytes:
    key = kind, len(numbers)
    pack = _packs.get(key)
    if pack is None:
        pack = _packs[key] = Struct(f"<{len(numbers)}{kind}").pack
    return pack(*numbers)


def _bounds_of(bounds: Sequence[float]) -> bytes:
    known = _bounds.get(id(bounds))
    if known is not None and known[0] is bounds:
        return known[1]
    made = b"\x3a" + varint(8 * len(bounds)) + _pack("d", bounds)
    if isinstance(bounds, tuple):
        if len(_bounds) >= MAX_BOUNDS:
            _bounds.clear()
        _bounds[id(bounds)] = bounds, made
    return made


def _exemplars(point: Any, tag: bytes) -> bytes:
    found = getattr(point, "exemplars", None)
    return b"".join([tag + varint(len(body)) + body for body in map(_exemplar, found)]) if found else b""


def _exemplar(exemplar: Any) -> bytes:
    value = exemplar.value
    if not isinstance(value, (float, int)):
        raise TypeError("an exemplar is no number")
    body = _count(b"\x11", exemplar.time_unix_nano or 0)
    body += _double(b"\x19", value) if isinstance(value, float) else _whole(b"\x31", value)
    if exemplar.span_id is not None and exemplar.trace_id is not None:
        body += b"\x22\x08" + exemplar.span_id.to_bytes(8, "big") + b"\x2a\x10" + exemplar.trace_id.to_bytes(16, "big")
    return body + attributes(exemplar.filtered_attributes, 7)
