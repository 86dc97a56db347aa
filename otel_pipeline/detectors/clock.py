"""How far this machine's clock may be off. Computed when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.detectors import kernel_clock
from otel_pipeline.detectors.clock_bound import Interval
from otel_pipeline.detectors.measures import BOUND, Detector
from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.detectors.clock_bound import ClockBound
    from otel_pipeline.engine.totals import Attributes, Totals

_REFERENCE = Attribute("otel_pipeline.reference", "What a clock is compared with.", ("collector", "kernel"))
OFFSET_BOUND = Measure(
    "otel_pipeline.clock.offset_bound",
    "gauge",
    "s",
    "How far this clock is from the reference, as an interval that contains it.",
    (_REFERENCE, BOUND),
)
DETECTOR = Detector("clock", recorded=(OFFSET_BOUND,))


def define(totals: Totals, clock: ClockBound) -> None:
    """Define the gauge of both ends of the interval, for each reference that there is evidence of."""

    def read() -> Iterator[tuple[Attributes, float]]:
        error_s = kernel_clock.error_s()
        kernel = None if error_s is None else Interval(-error_s, error_s)
        for reference, interval in zip(_REFERENCE.values, (clock.interval(), kernel), strict=True):
            for bound, value in zip(BOUND.values, interval or (), strict=False):
                yield OFFSET_BOUND.label(reference, bound).attributes, value

    OFFSET_BOUND.gauge(totals, read)
