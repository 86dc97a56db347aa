"""What is counted of messages of which only headers are known: a count that nothing could raise says nothing at 0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from otel_pipeline.detectors import environments
from otel_pipeline.detectors.order import UNPLACED
from otel_pipeline.detectors.partition import HEADER_MISSING, HEADER_OK, HEADER_UNREADABLE, MESSAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.detectors.measures import Detector

_COUNTED = frozenset((UNPLACED, HEADER_OK, HEADER_MISSING, HEADER_UNREADABLE, MESSAGES))


def counting(detectors: Iterable[Detector]) -> Iterator[tuple[Detector, Detector]]:
    """Yield the detectors that count something of such messages, each with its table of what it counts."""
    for detector in detectors:
        counts = {label: read for label, read in detector.counts.items() if label in _COUNTED}
        if detector is environments.DETECTOR:
            yield detector, detector
        elif counts:
            yield detector, replace(detector, counts=counts, open_counts={}, born=lambda _settings, _destination: ())
