"""For tests: a Collector that fails on request, fixtures, the checker, the embedded broker."""

from otel_pipeline.testing.collector import Collector
from otel_pipeline.testing.collector_faults import CollectorError

__all__ = ["Collector", "CollectorError"]
