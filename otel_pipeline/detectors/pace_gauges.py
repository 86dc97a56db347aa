"""Gauges of how consumers keep up, and the offsets for a second opinion in the backend. Computed when they are read."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.detectors.flow_pace import STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.detectors.flows import Flows
    from otel_pipeline.detectors.watched_flow import WatchedFlow
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.totals import Attributes, AttributeValue, GaugeRead, Totals
    from otel_pipeline.verdict.evidence import Pace

    Points = Iterator[tuple[Attributes, float]]

MAX_PARTITIONS = 200
"""A flow; the metrics by partition are left out for the others."""
_PLAIN: tuple[tuple[str, str, str, Callable[[Pace], float | None]], ...] = (
    (semconv.OTEL_PIPELINE_CONSUMER_LAG, "{message}", "Records behind.", lambda pace: pace.lag),
    (
        semconv.OTEL_PIPELINE_CONSUMER_CAUGHT_UP_AGE,
        "s",
        "How long ago this consumer was provably caught up; needs no broker call.",
        lambda pace: pace.caught_up_age_s,
    ),
    (
        semconv.OTEL_PIPELINE_CONSUMER_DRAIN_TIME,
        "s",
        "Until the backlog is worked off at this pace; absent when it is not draining.",
        lambda pace: pace.drain_time_s,
    ),
    (
        semconv.OTEL_PIPELINE_CONSUMER_UTILIZATION,
        "1",
        "Share of time not spent waiting for messages.",
        lambda pace: pace.utilization,
    ),
    (
        semconv.OTEL_PIPELINE_CONSUMER_IN_RATE,
        "{message}/s",
        "Messages appended to the partitions that this consumer reads.",
        lambda pace: pace.in_rate,
    ),
    (
        semconv.OTEL_PIPELINE_CONSUMER_OUT_RATE,
        "{message}/s",
        "Messages that this consumer processes.",
        lambda pace: pace.out_rate,
    ),
)


class PaceGauges:
    """Defines the gauges, to be read from these flows and this engine by whoever collects."""

    def __init__(self, totals: Totals, flows: Flows, engine: Engine) -> None:
        self._flows = flows
        self._engine = engine
        for name, unit, description, of in _PLAIN:
            totals.gauge(name, unit, description, self._plain(of))
        for name, unit, description, read in (
            (
                semconv.OTEL_PIPELINE_CONSUMER_TIME_LAG,
                "s",
                "Age of the next message, as an interval that contains it.",
                self._time_lag,
            ),
            (
                semconv.OTEL_PIPELINE_CONSUMER_STATUS,
                "{state}",
                "1 for the state that the consumer is in.",
                self._status,
            ),
            (
                semconv.OTEL_PIPELINE_PRODUCER_OFFSET,
                "{message}",
                "Newest acknowledged offset.",
                self._acknowledged,
            ),
            (semconv.OTEL_PIPELINE_CONSUMER_OFFSET, "{message}", "Newest processed offset.", self._processed),
            (
                semconv.OTEL_PIPELINE_CLIENT_HAZARD,
                "{hazard}",
                "1 for a client setting that can lose or reorder data.",
                self._hazards,
            ),
        ):
            totals.gauge(name, unit, description, read)

    def _plain(self, of: Callable[[Pace], float | None]) -> GaugeRead:
        def read() -> Points:
            for flow, pace in self._flows.paces():
                value = of(pace)
                if value is not None:
                    yield _attributes(flow), value

        return read

    def _time_lag(self) -> Points:
        for flow, pace in self._flows.paces():
            if pace.time_lag_s is not None:
                for bound, value in zip(("lower", "upper"), pace.time_lag_s, strict=True):
                    if isfinite(value):
                        yield {**_attributes(flow), semconv.OTEL_PIPELINE_BOUND: bound}, value

    def _status(self) -> Points:
        for flow, pace in self._flows.paces():
            if pace.assigned:
                for state in STATES:
                    yield {**_attributes(flow), semconv.OTEL_PIPELINE_STATE: state}, float(pace.status == state)

    def _acknowledged(self) -> Points:
        for where, offsets in list(self._engine.acknowledged.items()):
            attributes: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: where.destination}
            if where.cluster is not None:
                attributes[semconv.KAFKA_CLUSTER_ID] = where.cluster
            yield from _by_partition(attributes, dict(offsets))

    def _processed(self) -> Points:
        for flow in self._flows.every():
            yield from _by_partition(_attributes(flow), flow.processed_offsets())

    def _hazards(self) -> Points:
        for hazard, library in sorted(self._engine.hazards):
            yield {semconv.OTEL_PIPELINE_HAZARD: hazard, semconv.OTEL_PIPELINE_CLIENT_LIBRARY: library}, 1.0


def _attributes(flow: WatchedFlow) -> dict[str, AttributeValue]:
    named = {name: value for name, value in flow.attributes.items() if name != semconv.MESSAGING_SYSTEM_NAME}
    if flow.key.cluster is not None:
        named[semconv.KAFKA_CLUSTER_ID] = flow.key.cluster
    return named


def _by_partition(attributes: Attributes, offsets: dict[int, int]) -> Iterator[tuple[Attributes, float]]:
    if len(offsets) <= MAX_PARTITIONS:
        for partition, offset in sorted(offsets.items()):
            yield {**attributes, semconv.MESSAGING_DESTINATION_PARTITION_ID: str(partition)}, offset
