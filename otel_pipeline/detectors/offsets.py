"""The newest offsets, so that the backend knows the backlog even when the consumer is dead. Computed when read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.detectors.measures import Detector
from otel_pipeline.engine.measures import FLOW, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_pipeline.detectors.watched_flow import FlowNow
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.totals import Attributes, AttributeValue

MAX_PARTITIONS = 200
"""The most partitions of a flow or destination; where there are more, these metrics are left out."""

_PARTITION = (semconv.MESSAGING_DESTINATION_PARTITION_ID, semconv.KAFKA_CLUSTER_ID)
PRODUCER_OFFSET = Measure(
    "otel_pipeline.producer.offset",
    "gauge",
    "{message}",
    "Newest acknowledged offset.",
    (semconv.MESSAGING_DESTINATION_NAME, *_PARTITION),
)
CONSUMER_OFFSET = Measure(
    "otel_pipeline.consumer.offset", "gauge", "{message}", "Newest processed offset.", (*FLOW, *_PARTITION)
)


def _acknowledged(engine: Engine) -> Iterator[tuple[Attributes, float]]:
    for where, offsets in list(engine.acknowledged.items()):
        attributes: dict[str, AttributeValue] = {semconv.MESSAGING_DESTINATION_NAME: where.destination}
        if where.cluster is not None:
            attributes[semconv.KAFKA_CLUSTER_ID] = where.cluster
        yield from _by_partition(attributes, dict(offsets))


def _processed(now: FlowNow) -> Iterator[tuple[Attributes, float]]:
    return _by_partition({}, now.flow.processed_offsets())


def _by_partition(attributes: Attributes, offsets: Mapping[int, int]) -> Iterator[tuple[Attributes, float]]:
    if len(offsets) <= MAX_PARTITIONS:
        for partition, offset in sorted(offsets.items()):
            yield {**attributes, semconv.MESSAGING_DESTINATION_PARTITION_ID: str(partition)}, offset


DETECTOR = Detector("offsets", flow_gauges={CONSUMER_OFFSET: _processed}, gauges={PRODUCER_OFFSET: _acknowledged})
