"""Measures how old the data was that a model decided on: at each inference, whatever is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.detectors.freshness import TOLERANCE_MS
from otel_pipeline.detectors.measures import Detector
from otel_pipeline.detectors.objectives import ObjectiveCounts
from otel_pipeline.engine.measures import Attribute, Measure
from otel_pipeline.engine.origin import MAX_AGE_MS, is_doubted, without_doubt
from otel_pipeline.engine.pipeline_header import RIGHT_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from otel_pipeline.detectors.objectives import Objectives
    from otel_pipeline.detectors.settings import Objective
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.pipeline_header import OwnClock
    from otel_pipeline.engine.totals import AttributeValue, HistogramCell, ThreadCells, Totals

DECISION_AGE = Measure(
    "otel_pipeline.decision.age",
    "histogram",
    "s",
    "From the oldest origin to the end of the model call that used it, where that succeeded.",
    (
        Attribute(semconv.OTEL_PIPELINE_MODEL_NAME),
        Attribute(semconv.OTEL_PIPELINE_MODEL_VERSION),
        semconv.MESSAGING_DESTINATION_NAME,
    ),
)
DETECTOR = Detector("decisions", recorded=(DECISION_AGE,))


class Decisions:
    """Counts decisions by model and destination. Safe in any thread."""

    def __init__(
        self,
        totals: Totals,
        objectives: Objectives,
        bounded_destination: Callable[[str], str],
        clock: OwnClock = RIGHT_CLOCK,
    ) -> None:
        self._clock = clock
        self._ages = DECISION_AGE.histogram(totals)
        self._totals = totals
        self._bounded = bounded_destination
        self._cells: dict[tuple[str, str | None, str | None], ThreadCells[HistogramCell]] = {}
        self._counter = objectives.counter
        self._by_model: dict[str, list[ObjectiveCounts]] = {}
        """Those of decisions that rest on no message."""
        for counts in objectives.of_models():
            self._by_model.setdefault(counts.objective.model or "", []).append(counts)

    def decided(
        self,
        model: str,
        version: str | None,
        delivery: OpenDelivery | None,
        origin_ms: int,
        now_ns: int,
        span: Span | None = None,
    ) -> None:
        """Count a model's call, with this span, on data whose oldest origin is this: `Origin.told_ms`."""
        now_ms = now_ns // 1_000_000
        destination = None if delivery is None else delivery.destination
        age_ms: int | None = None
        doubted, origin_ms = is_doubted(origin_ms) or self._clock.off, without_doubt(origin_ms)
        if 0 < origin_ms <= now_ms + TOLERANCE_MS and now_ms - origin_ms <= MAX_AGE_MS:
            age_ms = max(0, now_ms - origin_ms)
            cells = self._cells.get((model, version, destination))
            if cells is None:
                cells = self._cells_of(model, version, destination)
            cells.cell.record(age_ms / 1000)
            if span is not None and self._totals.exemplars and span.is_recording():
                cells.cell.exemplify(age_ms / 1000, now_ns, span.get_span_context())
        for elsewhere in self._by_model.get(model, ()):
            objective = elsewhere.objective
            counts = self._of_flow(objective, delivery) or elsewhere
            judged_ms = _event_age_ms(delivery, now_ms) if objective.age == "event" else None if doubted else age_ms
            counts.count(None if self._clock.off else judged_ms)

    def _of_flow(self, objective: Objective, delivery: OpenDelivery | None) -> ObjectiveCounts | None:
        """Find the counts of the flow whose messages are decided on; None where that is not known."""
        observer = None if delivery is None else delivery.state.observer
        flow = None if observer is None else observer.flow
        if flow is None:
            return None
        found: ObjectiveCounts | None = flow.decisions.get(objective.name)
        if found is None:
            made = ObjectiveCounts(objective, self._counter, flow.attributes)
            found = flow.decisions.setdefault(objective.name, made)
        return found

    def _cells_of(self, model: str, version: str | None, destination: str | None) -> ThreadCells[HistogramCell]:
        attributes: dict[str, AttributeValue] = {semconv.OTEL_PIPELINE_MODEL_NAME: model}
        if version is not None:
            attributes[semconv.OTEL_PIPELINE_MODEL_VERSION] = version
        if destination is not None:
            attributes[semconv.MESSAGING_DESTINATION_NAME] = self._bounded(destination)
        cells = self._ages.local(attributes)
        if len(self._cells) < 10_000:  # noqa: PLR2004 - names are the application's: bounded
            self._cells[model, version, destination] = cells
        return cells


def _event_age_ms(delivery: OpenDelivery | None, now_ms: int) -> int | None:
    """Return the age of the oldest event in hand; None where the event of one of the messages is not known."""
    if delivery is None:
        return None
    observed = [(delivery.state.observer, delivery.offset)]
    if delivery.members is not None:
        observed = [(observer, offset) for observer, offset, _ in delivery.members]
    if delivery.origin.inputs > len(observed):
        return None  # Joined with data from elsewhere.
    times_ms = [0 if observer is None else observer.event_ms(offset) for observer, offset in observed]
    oldest_ms = min(times_ms, default=0)
    known = 0 < oldest_ms <= now_ms + TOLERANCE_MS and now_ms - oldest_ms <= MAX_AGE_MS
    return max(0, now_ms - oldest_ms) if known else None
