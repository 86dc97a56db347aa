"""Everything that is watched in this process: one flow for each (cluster, destination, group), and what is known of it.

Detectors count in plain integers of their own. Whoever reads metrics, or the verdict, brings the sums up to date here:
nothing is pushed per message. What a closed consumer has counted is kept, so that no sum ever falls.
"""

from __future__ import annotations

import threading
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline import semconv
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.engine import OTHER
from otel_pipeline.health.environments import PartitionEnvironments, policy_of
from otel_pipeline.health.evidence import (
    Coverage,
    Environments,
    Evidence,
    FlowKey,
    Freshness,
    ObjectiveEvidence,
    Order,
)
from otel_pipeline.health.freshness import ObjectiveCounts, PartitionFreshness
from otel_pipeline.health.order import CAUSES, VIOLATIONS, PartitionOrder
from otel_pipeline.health.watch import PartitionWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.receive import Consumer, PartitionState
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Counter, CounterCell, HistogramCell, Totals
    from otel_pipeline.health.settings import DestinationSettings, HealthSettings

MAX_FLOWS = 200
MAX_GROUPS = 20
_HEADER_STATES = ("ok", "missing", "unreadable", "relayed")


class Instruments:
    """The metrics of the detectors (docs/telemetry.md)."""

    def __init__(self, totals: Totals) -> None:
        self.delivery_age = totals.histogram(
            semconv.OTEL_PIPELINE_DELIVERY_AGE, "s", "Produced to delivered to the application.", semconv.AGE_BUCKETS_S
        )
        self.data_age = totals.histogram(
            semconv.OTEL_PIPELINE_DATA_AGE, "s", "Oldest origin to the end of processing.", semconv.AGE_BUCKETS_S
        )
        self.objectives = totals.counter(
            semconv.OTEL_PIPELINE_SLO_EVENTS, "{event}", "Cases that met a freshness objective, or did not."
        )
        self.violations = totals.counter(
            semconv.OTEL_PIPELINE_ORDER_VIOLATIONS, "{message}", "Messages that came out of order, or again."
        )
        self.missing = totals.counter(
            semconv.OTEL_PIPELINE_MESSAGES_MISSING, "{message}", "Messages that never came, by where they were lost."
        )
        self.commit_ahead = totals.counter(
            semconv.OTEL_PIPELINE_COMMIT_AHEAD, "{message}", "Offsets committed before their processing had ended."
        )
        self.coverage = totals.counter(
            semconv.OTEL_PIPELINE_HEADER_COVERAGE, "{message}", "Messages by what their data-flow header was like."
        )
        self.foreign = totals.counter(
            semconv.OTEL_PIPELINE_MESSAGES_FOREIGN_ENVIRONMENT,
            "{message}",
            "Messages that began in another environment.",
        )
        self.negative_ages = totals.counter(
            semconv.OTEL_PIPELINE_CLOCK_NEGATIVE_AGES, "{message}", "Messages that came before they were sent."
        )

    def counters(self) -> tuple[Counter, ...]:
        """Those whose values are summed up when they are read."""
        return (
            self.violations,
            self.missing,
            self.commit_ahead,
            self.coverage,
            self.foreign,
            self.negative_ages,
        )


class _Watched(NamedTuple):
    """A watch, and what tells whether it is still in use."""

    consumer: ref[Consumer]
    partition: int
    watch: PartitionWatch

    def in_use(self, destination: str) -> bool:
        consumer = self.consumer()
        if consumer is None:
            return False
        state = consumer.partitions.get((destination, self.partition))
        return state is not None and state.observer is self.watch


Label = tuple[str, str]
"""Metric, and the value of its one own attribute."""


class WatchedFlow:
    """One flow: its settings, the partitions that are watched, and the sums of those that no longer are."""

    def __init__(
        self,
        key: FlowKey,
        attributes: Attributes,
        settings: DestinationSettings,
        objectives: tuple[ObjectiveCounts, ...],
    ) -> None:
        self.key = key
        self.attributes = dict(attributes)
        """System, destination and group, as metrics have them."""
        self.settings = settings
        self.objectives = objectives
        self.decisions: set[ObjectiveCounts] = set()
        """Objectives of models that decided on messages of this flow."""
        self.watched: list[_Watched] = []
        self.gone: dict[Label, int] = {}
        self.newest_gone: dict[tuple[int, int], int] = {}
        """Newest number by (partition, producer), of what is no longer watched."""
        self.newest_origin_ms = 0
        self.last_ms = 0
        self.cells: dict[Label, CounterCell] = {}
        self._delivery_ages: WeakKeyDictionary[Consumer, HistogramCell] = WeakKeyDictionary()

    def delivery_age_of(self, consumer: Consumer, instruments: Instruments) -> HistogramCell:
        """The consumer's own cell: its thread alone records."""
        cell = self._delivery_ages.get(consumer)
        if cell is None:
            cell = self._delivery_ages[consumer] = instruments.delivery_age.cell(self.attributes, owner=consumer)
        return cell

    def watches(self) -> list[PartitionWatch]:
        """Those in use."""
        return [each.watch for each in self.watched]

    def fold(self) -> None:
        """Keep what was counted by watches that are no longer used, but not them."""
        left = []
        for each in self.watched:
            self.last_ms = max(self.last_ms, each.watch.last_ms)
            self.newest_origin_ms = max(self.newest_origin_ms, each.watch.freshness.newest_origin_ms)
            if each.in_use(self.key.destination):
                left.append(each)
                continue
            for label, count in self._counts_of(each.watch):
                self.gone[label] = self.gone.get(label, 0) + count
            for producer, number in each.watch.order.numbers().items():
                if len(self.newest_gone) < 10_000:  # noqa: PLR2004 - producers come and go: bounded
                    self.newest_gone[each.partition, producer] = number
        self.watched = left

    def counts(self) -> dict[Label, int]:
        """All sums, those of the past included."""
        total = dict.fromkeys(_BORN_AT_ZERO, 0)
        for label, count in self.gone.items():
            total[label] = total.get(label, 0) + count
        for watch in self.watches():
            for label, count in self._counts_of(watch):
                total[label] = total.get(label, 0) + count
        return total

    def numbers(self) -> dict[tuple[int, int], int]:
        """The newest number of each (partition, producer): what was given beyond it has not come."""
        newest = dict(self.newest_gone)
        for each in self.watched:
            for producer, number in each.watch.order.numbers().items():
                newest[each.partition, producer] = number
        return newest

    def _counts_of(self, watch: PartitionWatch) -> Iterator[tuple[Label, int]]:
        order = watch.order
        yield ("messages", ""), watch.messages
        yield ("open", ""), order.open
        yield ("violation", "reordered"), order.reordered
        yield ("violation", "duplicate"), order.duplicate
        yield ("violation", "redelivered"), order.redelivered
        yield ("violation", "rewound"), order.rewound
        yield ("cause", "before_broker"), order.missing_before_broker
        yield ("cause", "skipped"), order.missing_skipped
        yield ("cause", "expired"), order.missing_expired
        yield ("cause", "offset_reset"), order.missing_offset_reset
        yield ("commit_ahead", ""), watch.ahead
        yield ("header", "ok"), watch.readable - order.relayed
        yield ("header", "relayed"), order.relayed
        yield ("header", "missing"), watch.without_header
        yield ("header", "unreadable"), watch.unreadable
        yield ("negative_ages", ""), watch.freshness.negative_ages
        yield ("unlabelled", ""), watch.environments.unlabelled
        for origin, count in list(watch.environments.visitors.items()):
            yield ("foreign", origin), count


_BORN_AT_ZERO: tuple[Label, ...] = (
    *(("violation", name) for name in VIOLATIONS),
    *(("cause", name) for name in CAUSES),
    *(("header", name) for name in _HEADER_STATES),
    ("commit_ahead", ""),
    ("negative_ages", ""),
    ("messages", ""),
    ("open", ""),
    ("unlabelled", ""),
)


class Flows:
    """The flows of a pipeline. Partitions are added by consumers' threads, sums are read by any.

    Args:
        clock_ms: wall clock, ms since the epoch.
        monotonic_s: clock for what is waited for, s.
    """

    def __init__(
        self,
        totals: Totals,
        settings: HealthSettings,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic_s: Callable[[], float] = time.monotonic,
        problem: Callable[[str, str], None] = lambda _key, _message: None,
    ) -> None:
        self.instruments = Instruments(totals)
        self.settings = settings
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._problem = problem
        self._lock = threading.RLock()
        self._flows: dict[FlowKey, WatchedFlow] = {}
        self._groups: set[str] = set()
        self._objectives: dict[str, ObjectiveCounts] = {
            objective.name: ObjectiveCounts(objective, self.instruments.objectives) for objective in settings.objectives
        }
        for counter in self.instruments.counters():
            counter.refresh = self.refresh
        totals.gauge(
            semconv.OTEL_PIPELINE_DATA_STALENESS, "s", "Since the newest origin that was processed.", self._staleness
        )
        totals.gauge(
            semconv.OTEL_PIPELINE_SLO_OBJECTIVE, "1", "The share that an objective asks for.", self._objective_shares
        )

    def renew(self) -> None:
        """A forked child must not wait for a thread that only its parent has."""
        self._lock = threading.RLock()

    def every(self) -> list[WatchedFlow]:
        """All flows."""
        with self._lock:
            return list(self._flows.values())

    def of_models(self) -> tuple[ObjectiveCounts, ...]:
        """The objectives that look at decisions."""
        return tuple(counts for counts in self._objectives.values() if counts.objective.model is not None)

    def watch(self, consumer: Consumer, state: PartitionState) -> PartitionWatch:
        """Begin to watch one partition at one consumer."""
        flow = self._flow_of(consumer.engine, consumer, state)
        settings, own = flow.settings, self.settings.environment
        original = self.settings.mirrors.get(state.destination, state.destination)
        instruments = self.instruments
        by_delivery = tuple(each for each in flow.objectives if each.objective.age == "delivery")
        by_data = tuple(each for each in flow.objectives if each.objective.age == "data")
        watch = PartitionWatch(
            consumer.fields,
            order=PartitionOrder(pipeline_header.tag_of(original, state.partition), self._monotonic_s),
            freshness=PartitionFreshness(
                flow.delivery_age_of(consumer, instruments),
                instruments.data_age.local(flow.attributes),
                by_delivery,
                by_data,
            ),
            environments=PartitionEnvironments(own, settings.foreign, raises=self.settings.on_reject == "raise"),
            flow=flow,
        )
        with self._lock:
            flow.fold()
            flow.watched.append(_Watched(ref(consumer), state.partition, watch))
        return watch

    def refresh(self) -> None:
        """Bring the metrics' sums up to date."""
        with self._lock:
            for flow in self._flows.values():
                flow.fold()
                for label, count in flow.counts().items():
                    cell = self._cell(flow, label)
                    if cell is not None:
                        cell.value = count

    def evidence(self) -> list[Evidence]:
        """What is known of each flow now."""
        self.refresh()
        return [self._evidence_of(flow) for flow in self.every()]

    def _flow_of(self, engine: Engine, consumer: Consumer, state: PartitionState) -> WatchedFlow:
        attributes = consumer.metric_attributes
        cluster, group = (
            None if (value := attributes.get(name)) is None else str(value)
            for name in (semconv.MESSAGING_KAFKA_CLUSTER_ID, semconv.MESSAGING_CONSUMER_GROUP_NAME)
        )
        key = FlowKey(cluster, state.destination, group)
        with self._lock:
            known = self._flows.get(key)
            if known is None and len(self._flows) >= MAX_FLOWS:
                self._problem(
                    "flows", f"more than {MAX_FLOWS} pairs of destination and group: health of the rest is {OTHER!r}"
                )
                key = FlowKey(None, OTHER, OTHER)
                known = self._flows.get(key)
            if known is None:
                known = self._flows[key] = self._new_flow(engine, consumer, key)
            return known

    def _new_flow(self, engine: Engine, consumer: Consumer, key: FlowKey) -> WatchedFlow:
        labels: dict[str, AttributeValue] = {
            semconv.MESSAGING_SYSTEM: consumer.metric_attributes.get(semconv.MESSAGING_SYSTEM, OTHER),
            semconv.MESSAGING_DESTINATION_NAME: engine.metric_destination(key.destination),
        }
        if key.group is not None:
            if key.group not in self._groups and len(self._groups) >= MAX_GROUPS:
                labels[semconv.MESSAGING_CONSUMER_GROUP_NAME] = OTHER
            else:
                self._groups.add(key.group)
                labels[semconv.MESSAGING_CONSUMER_GROUP_NAME] = key.group
        return WatchedFlow(key, labels, self.settings.destination(key.destination), self._objectives_of(key))

    def _objectives_of(self, key: FlowKey) -> tuple[ObjectiveCounts, ...]:
        return tuple(
            counts
            for counts in self._objectives.values()
            if counts.objective.destination is not None
            and fnmatchcase(key.destination, counts.objective.destination)
            and counts.objective.group in {None, key.group}
        )

    def _cell(self, flow: WatchedFlow, label: Label) -> CounterCell | None:
        """The flow's own cell of a sum; made, at 0, when the destination is first seen."""
        cell = flow.cells.get(label)
        if cell is not None:
            return cell
        kind, value = label
        place = self._places(flow).get(kind)
        if place is None:
            return None
        counter, attributes, name = place
        named = {**attributes, name: value} if name else dict(attributes)
        if kind == "foreign":
            named[semconv.OTEL_PIPELINE_POLICY] = policy_of(flow.settings.foreign, value)
        cell = flow.cells[label] = counter.cell(named, owner=flow)
        return cell

    def _places(self, flow: WatchedFlow) -> dict[str, tuple[Counter, Attributes, str]]:
        """Which counter a sum belongs to, with which attributes beside its own one."""
        instruments = self.instruments
        group = semconv.MESSAGING_CONSUMER_GROUP_NAME
        both = {
            name: flow.attributes[name]
            for name in (semconv.MESSAGING_DESTINATION_NAME, group)
            if name in flow.attributes
        }
        destination = {semconv.MESSAGING_DESTINATION_NAME: flow.attributes[semconv.MESSAGING_DESTINATION_NAME]}
        return {
            "violation": (instruments.violations, both, semconv.OTEL_PIPELINE_VIOLATION),
            "cause": (instruments.missing, both, semconv.OTEL_PIPELINE_CAUSE),
            "commit_ahead": (instruments.commit_ahead, both, ""),
            "header": (instruments.coverage, destination, semconv.OTEL_PIPELINE_HEADER_STATE),
            "foreign": (instruments.foreign, destination, semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT),
            "negative_ages": (instruments.negative_ages, destination, ""),
        }

    def _evidence_of(self, flow: WatchedFlow) -> Evidence:
        counts = flow.counts()
        now_ms = self._clock_ms()

        def named(kind: str) -> dict[str, int]:
            return {value: count for (name, value), count in counts.items() if name == kind}

        headers = named("header")
        foreign = flow.settings.foreign
        return Evidence(
            key=flow.key,
            messages=counts["messages", ""],
            coverage=Coverage(**headers),
            freshness=Freshness(
                objectives=[_objective_evidence(each) for each in (*flow.objectives, *flow.decisions)],
                age_p99_s=_p99(self.instruments.data_age.total(flow.attributes)),
                staleness_s=(now_ms - flow.newest_origin_ms) / 1000 if flow.newest_origin_ms else None,
                quiet_s=max(0.0, (now_ms - flow.last_ms) / 1000) if flow.last_ms else None,
                expect_every_s=flow.settings.expect_every_s,
            ),
            order=Order(
                violations=named("violation"),
                missing=named("cause"),
                open_gaps=counts["open", ""],
                commits_ahead=counts["commit_ahead", ""],
            ),
            environments=Environments(
                own=self.settings.environment,
                foreign={(origin, policy_of(foreign, origin)): count for origin, count in named("foreign").items()},
                unlabelled=counts["unlabelled", ""],
            ),
        )

    def _staleness(self) -> Iterable[tuple[Attributes, float]]:
        now_ms = self._clock_ms()
        for flow in self.every():
            with self._lock:
                flow.fold()
            if flow.newest_origin_ms:
                yield _labels(flow), (now_ms - flow.newest_origin_ms) / 1000

    def _objective_shares(self) -> Iterable[tuple[Attributes, float]]:
        for name, counts in self._objectives.items():
            yield {semconv.OTEL_PIPELINE_SLO_NAME: name}, counts.objective.objective


def _labels(flow: WatchedFlow) -> Attributes:
    return {name: value for name, value in flow.attributes.items() if name != semconv.MESSAGING_SYSTEM}


def _objective_evidence(counts: ObjectiveCounts) -> ObjectiveEvidence:
    met, missed, unknown = counts.values()
    objective = counts.objective
    return ObjectiveEvidence(objective.name, objective.threshold_s, objective.objective, met, missed, unknown)


def _p99(cell: HistogramCell) -> float | None:
    """The upper bound of the bucket that the 99th percentile is in, but not above the highest value, s."""
    counts = cell.bucket_counts
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip((*cell.bounds, cell.max), counts, strict=True):
        seen += count
        if seen >= 0.99 * total:
            return min(bound, cell.max)
    return cell.max
