"""Judges spans and metrics by the semantic conventions' requirement table and by our own registry.

    python -m otel_pipeline.testing.checker telemetry.jsonl

Weaver's live-check looks at attributes one by one and never matches a span to its definition; this one does: kind,
name, required attributes, types, parents and links.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from otel_pipeline import semconv
from otel_pipeline.export.otlp_reader import MetricRecord, SpanRecord, read
from otel_pipeline.testing import registry

_HERE = Path(__file__).parent
_KINDS = {"create": ("PRODUCER",), "send": ("PRODUCER", "CLIENT"), "receive": ("CLIENT",), "process": ("CONSUMER",)}
_SETTLE = "settle"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "enum": (str,),
    "int": (int,),
    "double": (float, int),
    "boolean": (bool,),
}
_FORBIDDEN_ON_METRICS = (
    semconv.KAFKA_MESSAGE_KEY,
    semconv.KAFKA_OFFSET,
    "messaging.message.id",
    "messaging.client.id",
)
_INSTRUMENTS = {"counter": "sum", "histogram": "histogram", "gauge": "gauge", "updowncounter": "sum"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a span or metric breaks."""

    name: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message} ({self.rule})"


@cache
def _table() -> Any:
    return json.loads((_HERE / "messaging-requirements.json").read_text("utf-8"))


def check(spans: Iterable[SpanRecord], metrics: Iterable[MetricRecord] = ()) -> list[Finding]:
    """Return all findings; none is a pass. Other instrumentations' spans are judged by rules on name prefixes only."""
    every = list(spans)
    by_id = {(span.trace_id, span.span_id): span for span in every}
    findings = [finding for span in every for finding in _check_span(span, by_id)]
    findings += [finding for metric in metrics for finding in _check_metric(metric)]
    return findings


def _check_span(span: SpanRecord, by_id: Mapping[tuple[str, str], SpanRecord]) -> Iterator[Finding]:
    def found(rule: str, message: str) -> Finding:
        return Finding(span.name, rule, message)

    yield from _status(span, found)
    yield from _own_names(span.attributes, found)
    operation = span.attributes.get(semconv.MESSAGING_OPERATION_TYPE)
    if operation is not None:
        yield from _messaging(span, operation, by_id, found)
    elif semconv.OTEL_PIPELINE_MODEL_NAME in span.attributes:
        yield from _inference(span, found)


Found = Callable[[str, str], Finding]


def _status(span: SpanRecord, found: Found) -> Iterator[Finding]:
    failed = span.status == "ERROR"
    if span.status == "OK":
        yield found("status", "status OK is the application's to set")
    ours = semconv.MESSAGING_OPERATION_TYPE in span.attributes or semconv.OTEL_PIPELINE_MODEL_NAME in span.attributes
    if ours and failed != (semconv.ERROR_TYPE in span.attributes):
        yield found("error.type", "stands on a span exactly when its status is ERROR")
    if span.end_ns < span.start_ns:
        yield found("time", "ends before it starts")


def _own_names(attributes: Mapping[str, Any], found: Found) -> Iterator[Finding]:
    for name, value in attributes.items():
        if not name.startswith("otel_pipeline."):
            continue
        known = registry.attributes().get(name)
        if known is None:
            yield found("registry", f"{name} is in no table")
        else:
            yield from _type(name, value, known.type, found)
            if known.values and value not in known.values:
                yield found("enum", f"{name} is {value!r}, known are {', '.join(known.values)}")


def _type(name: str, value: Any, kind: str, found: Found) -> Iterator[Finding]:
    allowed = _TYPES.get(kind)
    if allowed is None:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind != "boolean"):
        yield found("type", f"{name} is {value!r}, a {kind} is wanted")


def _messaging(
    span: SpanRecord, operation: str, by_id: Mapping[tuple[str, str], SpanRecord], found: Found
) -> Iterator[Finding]:
    if operation == _SETTLE:
        yield found("settle", "settling has a duration, no span")
        return
    kinds = _KINDS.get(operation)
    if kinds is None:
        yield found("operation", f"{operation!r} is no operation type of ours")
        return
    if span.kind not in kinds:
        yield found("kind", f"is {span.kind}, {' or '.join(kinds)} is wanted")
        return
    system = span.attributes.get(semconv.MESSAGING_SYSTEM_NAME)
    key = f"messaging.{system}.{operation}.{span.kind.lower()}"
    definition = _table()["spans"].get(key) or _table()["spans"][f"messaging.{operation}.{span.kind.lower()}"]
    yield from _required(span, definition["attributes"], found)
    yield from _name(span, found)
    yield from _batch(span, operation, found)
    if operation == "process":
        yield from _process(span, by_id, found)


def _required(span: SpanRecord, definition: Mapping[str, Any], found: Found) -> Iterator[Finding]:
    # Systems of one's own are allowed to have a name of their own, and operations are looked at by themselves.
    for name, requirement in definition.items():
        if requirement["level"] == "required" and name not in span.attributes:
            yield found("required", f"{name} is missing")
    for name, value in span.attributes.items():
        if name.startswith(("messaging.", "kafka.")):
            if name not in definition:
                yield found("unknown", f"{name} does not belong on this span")
                continue
            yield from _type(name, value, definition[name]["type"], found)
    if semconv.SERVER_PORT in span.attributes and semconv.SERVER_ADDRESS not in span.attributes:
        yield found("server", "server.port without server.address")
    if span.attributes.get(semconv.KAFKA_MESSAGE_TOMBSTONE) is False:
        yield found("tombstone", "is said only when true")


def _name(span: SpanRecord, found: Found) -> Iterator[Finding]:
    operation = span.attributes.get(semconv.MESSAGING_OPERATION_NAME)
    destination = span.attributes.get(semconv.MESSAGING_DESTINATION_NAME)
    wanted = f"{operation} {destination}" if destination else str(operation)
    if span.name != wanted:
        yield found("name", f"{wanted!r} is wanted")


def _batch(span: SpanRecord, operation: str, found: Found) -> Iterator[Finding]:
    """Check that a span of one message names its destination, and a span of several their number."""
    batch = semconv.MESSAGING_BATCH_MESSAGE_COUNT in span.attributes
    if operation == "receive" and not batch:
        yield found("batch", "messaging.batch.message_count is missing")
    if not batch and semconv.MESSAGING_DESTINATION_NAME not in span.attributes:
        yield found("destination", "messaging.destination.name is missing")
    if batch and semconv.KAFKA_OFFSET in span.attributes:
        yield found("batch", "a batch has no single offset")


def _process(span: SpanRecord, by_id: Mapping[tuple[str, str], SpanRecord], found: Found) -> Iterator[Finding]:
    linked = {(link.trace_id, link.span_id) for link in span.links}
    parent = by_id.get((span.trace_id, span.parent_span_id))
    if semconv.MESSAGING_BATCH_MESSAGE_COUNT in span.attributes:
        if parent is not None and parent.kind == "PRODUCER":
            yield found("parent", "a batch is never the child of a message")
        return
    if parent is not None and parent.kind == "PRODUCER" and (span.trace_id, span.parent_span_id) not in linked:
        yield found("link", "the creation context is the parent but not linked")


def _inference(span: SpanRecord, found: Found) -> Iterator[Finding]:
    definition = next(entry for entry in registry.written()["spans"] if entry["type"] == "otel_pipeline.inference")
    if span.kind != "INTERNAL":
        yield found("kind", f"is {span.kind}, INTERNAL is wanted")
    for name in definition["required"]:
        if name not in span.attributes:
            yield found("required", f"{name} is missing")
    wanted = f"predict {span.attributes.get(semconv.OTEL_PIPELINE_MODEL_NAME)}"
    if span.name != wanted:
        yield found("name", f"{wanted!r} is wanted")


_WHERE_KNOWN = {
    semconv.ERROR_TYPE,
    semconv.MESSAGING_CONSUMER_GROUP_NAME,
    semconv.KAFKA_CLUSTER_ID,
    semconv.MESSAGING_DESTINATION_NAME,
    semconv.OTEL_PIPELINE_MODEL_VERSION,
    semconv.OTEL_PIPELINE_INFERENCE_CLOCK,
}
"""What may be absent: not every consumer is in a group, not every client knows its cluster, not every decision is on a
message, not every model has a version, nor every one a device whose clock is another."""


def _check_metric(metric: MetricRecord) -> Iterator[Finding]:
    def found(rule: str, message: str) -> Finding:
        return Finding(metric.name, rule, message)

    wanted = _wanted(metric.name)
    if wanted is None:
        if metric.name.startswith(("otel_pipeline.", "messaging.")):
            yield found("registry", "is in no table")
        return
    if metric.unit != wanted.unit:
        yield found("unit", f"is {metric.unit!r}, {wanted.unit!r} is wanted")
    if metric.kind != _INSTRUMENTS[wanted.instrument]:
        yield found("instrument", f"is a {metric.kind}, a {wanted.instrument} is wanted")
    if wanted.instrument == "counter" and not metric.monotonic:
        yield found("instrument", "a counter only grows")
    for point in metric.points:
        if not point.attributes.get("otel.metric.overflow"):
            yield from _point_attributes(point.attributes, wanted, found)
        if metric.kind == "histogram" and tuple(point.bounds) != wanted.buckets:
            yield found("buckets", f"are {point.bounds}, the advised ones are wanted")


def _point_attributes(attributes: Mapping[str, Any], wanted: _Wanted, found: Found) -> Iterator[Finding]:
    for name in sorted(wanted.required - attributes.keys()):
        yield found("required", f"{name} is missing")
    for name in sorted(attributes.keys() - wanted.allowed):
        yield found("unknown", f"{name} does not belong on this metric")
    for name in sorted(attributes.keys() & set(_FORBIDDEN_ON_METRICS)):
        yield found("cardinality", f"{name} must not be on a metric")
    yield from _own_names(attributes, found)


class _Wanted(NamedTuple):
    """What a metric has to be like."""

    instrument: str
    unit: str
    required: AbstractSet[str]
    allowed: AbstractSet[str]
    buckets: tuple[float, ...]


def _wanted(name: str) -> _Wanted | None:
    standard = _table()["metrics"].get(name)
    if standard is not None:
        attributes = standard["attributes"]
        required = {each for each, requirement in attributes.items() if requirement["level"] == "required"}
        # Producers and consumers are joined on the cluster; the conventions do not have it on metrics yet.
        allowed = {*attributes, semconv.KAFKA_CLUSTER_ID}
        return _Wanted(standard["instrument"], standard["unit"], required, allowed, semconv.DURATION_BUCKETS_S)
    own = registry.metrics().get(name)
    if own is None:
        return None
    known = set(own.attributes)
    return _Wanted(own.instrument, own.unit, known - _WHERE_KNOWN, known, own.buckets)


def main(arguments: list[str]) -> int:
    """Check files of OTLP JSON lines; return 1 when there is a finding."""
    records = [record for name in arguments for record in read(Path(name))]
    spans = [record for record in records if isinstance(record, SpanRecord)]
    metrics = [record for record in records if isinstance(record, MetricRecord)]
    findings = check(spans, metrics)
    for finding in findings:
        sys.stderr.write(f"{finding}\n")
    sys.stderr.write(f"{len(spans)} spans, {len(metrics)} metrics, {len(findings)} findings\n")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
