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
    from collections.abc import Callable, Sequence

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


MAX_COUNTED = 10_000
"""Models and versions whose counts are kept; those of more are made at each decision."""


class Decisions:
    """Counts decisions by model, version and destination. Safe in any thread."""

    def __init__(
        self,
        totals: Totals,
        objectives: Objectives,
        bounded_destination: Callable[[str], str],
        clock: OwnClock = RIGHT_CLOCK,
    ) -> None:
        self.clock = clock
        self.ages = DECISION_AGE.histogram(totals)
        self.totals = totals
        self.bounded = bounded_destination
        self.counter = objectives.counter
        self._counted: dict[tuple[str, str | None], ModelDecisions] = {}
        self._by_model: dict[str, list[ObjectiveCounts]] = {}
        """Those of decisions that rest on no message."""
        for counts in objectives.of_models():
            self._by_model.setdefault(counts.objective.model or "", []).append(counts)

    def of(self, model: str, version: str | None) -> ModelDecisions:
        """Return what counts the decisions of one model and version."""
        found = self._counted.get((model, version))
        if found is None:
            found = ModelDecisions(self, model, version, tuple(self._by_model.get(model, ())))
            if len(self._counted) < MAX_COUNTED:
                self._counted[model, version] = found
        return found


class ModelDecisions:
    """Counts the decisions of one model and version. Safe in any thread."""

    __slots__ = ("_all", "_attributes", "_cells", "_elsewhere", "is_plain")

    def __init__(
        self, every: Decisions, model: str, version: str | None, elsewhere: tuple[ObjectiveCounts, ...]
    ) -> None:
        self._all = every
        self._elsewhere = elsewhere
        self.is_plain = not elsewhere
        """Whether it counts ages alone, no objective."""
        self._attributes: dict[str, AttributeValue] = {semconv.OTEL_PIPELINE_MODEL_NAME: model}
        if version is not None:
            self._attributes[semconv.OTEL_PIPELINE_MODEL_VERSION] = version
        self._cells: dict[str | None, ThreadCells[HistogramCell]] = {}

    def cells_of(self, destination: str | None) -> ThreadCells[HistogramCell]:
        """Return the cells of the ages, s, of decisions on messages of a destination; None for those on no message."""
        cells = self._cells.get(destination)
        if cells is None:
            attributes = dict(self._attributes)
            if destination is not None:
                attributes[semconv.MESSAGING_DESTINATION_NAME] = self._all.bounded(destination)
            cells = self._all.ages.local(attributes)
            if len(self._cells) < MAX_COUNTED:
                self._cells[destination] = cells
        return cells

    def decided(
        self, delivery: OpenDelivery | None, origins_ms: Sequence[int], now_ns: int, span: Span | None = None
    ) -> None:
        """Count one decision on each of these origins, as `Origin.told_ms` has them: made at `now_ns`, with this span.

        Several are those of the messages of a batch, in their order.
        """
        now_ms = now_ns // 1_000_000
        ages_ms = [_age_ms(without_doubt(origin_ms), now_ms) for origin_ms in origins_ms]
        known_s = [age_ms / 1000 for age_ms in ages_ms if age_ms is not None]
        if known_s:
            cell = self.cells_of(None if delivery is None else delivery.destination).cell
            low, high = min(known_s), max(known_s)
            if len(known_s) == 1 or not cell.record_alike(len(known_s), sum(known_s), low, high):
                for age_s in known_s:
                    cell.record(age_s)
            if span is not None and self._all.totals.exemplars and span.is_recording():
                cell.exemplify(high, now_ns, span.get_span_context())
        for elsewhere in self._elsewhere:
            counts = self._of_flow(elsewhere.objective, delivery) or elsewhere
            for judged_ms in self._judged(elsewhere.objective, delivery, origins_ms, ages_ms, now_ms):
                counts.count(judged_ms)

    def _judged(
        self,
        objective: Objective,
        delivery: OpenDelivery | None,
        origins_ms: Sequence[int],
        ages_ms: Sequence[int | None],
        now_ms: int,
    ) -> Sequence[int | None]:
        """Return by which age each decision is judged; None is unknown."""
        if self._all.clock.off:
            return [None] * len(ages_ms)
        if objective.age == "event":
            times_ms = _event_times_ms(delivery)
            if len(times_ms) == len(ages_ms):
                return [_age_ms(time_ms, now_ms) for time_ms in times_ms]
            return [_age_ms(min(times_ms, default=0), now_ms)] * len(ages_ms)  # Unknown is 0, the least.
        pairs = zip(origins_ms, ages_ms, strict=True)
        return [None if is_doubted(origin_ms) else age_ms for origin_ms, age_ms in pairs]

    def _of_flow(self, objective: Objective, delivery: OpenDelivery | None) -> ObjectiveCounts | None:
        """Find the counts of the flow whose messages are decided on; None where that is not known."""
        observer = None if delivery is None else delivery.state.observer
        flow = None if observer is None else observer.flow
        if flow is None:
            return None
        found: ObjectiveCounts | None = flow.decisions.get(objective.name)
        if found is None:
            made = ObjectiveCounts(objective, self._all.counter, flow.attributes)
            found = flow.decisions.setdefault(objective.name, made)
        return found


def _age_ms(time_ms: int, now_ms: int) -> int | None:
    """Return how long ago that was; None where it cannot be when the data began, or happened."""
    known = 0 < time_ms <= now_ms + TOLERANCE_MS and now_ms - time_ms <= MAX_AGE_MS
    return max(0, now_ms - time_ms) if known else None


def _event_times_ms(delivery: OpenDelivery | None) -> list[int]:
    """Return when the event of each message in hand was, 0 where unknown; none where something else is in hand, too."""
    if delivery is None:
        return []
    observed = [(delivery.state.observer, delivery.offset)]
    if delivery.members is not None:
        observed = [(observer, offset) for observer, offset, _ in delivery.members]
    if delivery.origin.inputs > len(observed):
        return []  # Joined with data from elsewhere.
    return [0 if observer is None else observer.event_ms(offset) for observer, offset in observed]
