"""The gauge of how far this clock may be off. Computed when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.detectors import kernel_clock
from otel_pipeline.detectors.clock_bound import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.detectors.clock_bound import ClockBound
    from otel_pipeline.engine.totals import Attributes, Totals


def define(totals: Totals, clock: ClockBound) -> None:
    """Have whoever collects read both ends of the interval, for each reference that there is evidence of."""

    def read() -> Iterator[tuple[Attributes, float]]:
        error_s = kernel_clock.error_s()
        kernel = None if error_s is None else Interval(-error_s, error_s)
        for reference, interval in (("collector", clock.interval()), ("kernel", kernel)):
            if interval is not None:
                for bound, value in interval._asdict().items():
                    yield {semconv.OTEL_PIPELINE_REFERENCE: reference, semconv.OTEL_PIPELINE_BOUND: bound}, value

    totals.gauge(
        semconv.OTEL_PIPELINE_CLOCK_OFFSET_BOUND,
        "s",
        "How far this clock is from the reference, as an interval that contains it.",
        read,
    )
