"""Client settings that can lose, repeat or reorder data, told before anything has happened. Adapters find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors.measures import Detector
from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.totals import Attributes

HAZARD = Measure(
    "otel_pipeline.client.hazard",
    "gauge",
    "{hazard}",
    "1 for a client setting that can lose or reorder data.",
    (
        Attribute("otel_pipeline.hazard", "A client setting that can lose or reorder data."),
        Attribute("otel_pipeline.client_library", "The client library, by its package's name."),
    ),
)


def _hazards(engine: Engine) -> Iterator[tuple[Attributes, float]]:
    for hazard, library in sorted(engine.hazards):
        yield HAZARD.label(hazard, library).attributes, 1.0


DETECTOR = Detector("hazards", gauges={HAZARD: _hazards})
