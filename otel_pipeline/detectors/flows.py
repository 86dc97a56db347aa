"""Everything that is watched in this process: one flow for each (cluster, destination, group), and what is known of it.

Detectors count in plain integers of their own. Whoever reads metrics, or the verdict, brings the sums up to date here:
nothing is pushed per message. What a closed consumer has counted is kept, so that no sum ever falls.
"""

from __future__ import annotations

import threading
import time
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from otel_pipeline import semconv
from otel_pipeline.contracts.contracts import Contracts
from otel_pipeline.detectors.environments import KNOWN, PartitionEnvironments, policy_of
from otel_pipeline.detectors.flow_pace import FlowPace
from otel_pipeline.detectors.freshness import ObjectiveCounts, PartitionFreshness
from otel_pipeline.detectors.instruments import Instruments
from otel_pipeline.detectors.keys_in_hand import KeysInHand
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.detectors.pace import PartitionPace
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.detectors.timed_partition import TimedWatch, wanted
from otel_pipeline.detectors.watched_flow import Watched, WatchedFlow
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.engine import OTHER
from otel_pipeline.verdict.evidence import (
    Coverage,
    Environments,
    Evidence,
    FlowKey,
    Freshness,
    ObjectiveEvidence,
    Order,
    Pace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.detectors.watched_flow import Label
    from otel_pipeline.engine.clients import Consumer, PartitionState
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Counter, CounterCell, HistogramCell, Totals

MAX_FLOWS = 200
MAX_GROUPS = 20


class Flows:
    """The flows of a pipeline. Partitions are added by consumers' threads, sums are read by any.

    Args:
        clock_ms: wall clock, ms since the epoch.
        monotonic_s: clock for what is waited for, s.
        work_ns: clock that the engine measures durations with, ns.
    """

    def __init__(
        self,
        totals: Totals,
        settings: HealthSettings,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic_s: Callable[[], float] = time.monotonic,
        work_ns: Callable[[], int] = time.perf_counter_ns,
        problem: Callable[[str, str], None] = lambda _key, _message: None,
        load_contract: Callable[[str], Contract | None] = lambda _destination: None,
    ) -> None:
        self.contracts = Contracts(totals, settings, load=load_contract, problem=problem)
        self.instruments = Instruments(totals)
        self.settings = settings
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._work_ns = work_ns
        self._problem = problem
        self._engine: Engine | None = None
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

    def attach(self, engine: Engine) -> None:
        """Watch what goes through this engine."""
        self._engine = engine
        engine.observe = self.watch
        engine.observe_fetches = self.pace
        engine.check_sent = self._check_sent
        engine.unreadable = self.contracts.unreadable
        self.instruments.delivery_age.refresh = self.instruments.data_age.refresh = engine.exemplars.show

    def renew(self) -> None:
        """A forked child must not wait for a thread that only its parent has."""
        self._lock = threading.RLock()
        self.contracts.renew()

    def every(self) -> list[WatchedFlow]:
        """All flows."""
        with self._lock:
            return list(self._flows.values())

    def of_models(self) -> tuple[ObjectiveCounts, ...]:
        """The objectives that look at decisions."""
        return tuple(counts for counts in self._objectives.values() if counts.objective.model is not None)

    def watch(self, consumer: Consumer, state: PartitionState) -> PartitionWatch:
        """Begin to watch one partition at one consumer."""
        flow = self._flow_of(consumer.engine, consumer, state.destination)
        settings, own = flow.settings, self.settings.environment
        original = self.settings.mirrors.get(state.destination, state.destination)
        instruments = self.instruments
        by_delivery = tuple(each for each in flow.objectives if each.objective.age == "delivery")
        by_data = tuple(each for each in flow.objectives if each.objective.age == "data")
        timing = wanted(consumer, flow, instruments, self.settings, self._work_ns)
        # Decided once a partition: where nothing more is asked for, nothing more is done for a message.
        make = PartitionWatch if timing is None else partial(TimedWatch, wanted=timing)
        watch = make(
            consumer.fields,
            order=PartitionOrder(
                pipeline_header.tag_of(original, state.partition),
                self._monotonic_s,
                pipeline_header.tag_of(original, None),
            ),
            freshness=PartitionFreshness(
                flow.delivery_age_of(consumer, instruments),
                instruments.data_age.local(flow.attributes),
                by_delivery,
                by_data,
            ),
            environments=PartitionEnvironments(own, settings.foreign, raises=self.settings.on_reject == "raise"),
            contract=self.contracts.of(state.destination, "consumer"),
            keys=KeysInHand(consumer.fields.key) if settings.same_key else None,
            flow=flow,
        )
        pace = consumer.fetches.get((state.destination, state.partition))
        if isinstance(pace, PartitionPace):
            pace.watched_by(watch.order)
        with self._lock:
            flow.process_attributes = state.process_attributes
            flow.fold()
            # Before it is added: what no consumer observes with is folded.
            state.observer = watch
            flow.watched.append(Watched(ref(consumer), state.partition, watch))
        return watch

    def pace(self, consumer: Consumer, destination: str, partition: int) -> PartitionPace:
        """Begin to follow the fetches of one partition at one consumer."""
        flow = self._flow_of(consumer.engine, consumer, destination)
        with self._lock:
            pace = PartitionPace(self._monotonic_s())
            consumer.fetches[destination, partition] = pace
            flow.pace.add(consumer, partition, pace)
        state = consumer.partitions.get((destination, partition))
        watch = None if state is None else state.observer
        if isinstance(watch, PartitionWatch):
            pace.watched_by(watch.order)
        return pace

    def look(self) -> None:
        """To be called once a second: rates, and what stands still."""
        now_s, now_ns = self._monotonic_s(), self._work_ns()
        for flow in self.every():
            flow.pace.look(now_s, now_ns)

    def paces(self) -> list[tuple[WatchedFlow, Pace]]:
        """How each flow keeps up now."""
        now_s, now_ns = self._monotonic_s(), self._work_ns()
        return [(flow, flow.pace.read(now_s, now_ns)) for flow in self.every()]

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
        refused, queued = self._refused_sends(), self._queued()
        found = [self._evidence_of(flow, pace, refused.get(flow.key.destination, {})) for flow, pace in self.paces()]
        for each in found:
            each.order.queued = queued.get(each.key.destination, 0)
        read = {each.key.destination for each in found}
        found += [
            Evidence(FlowKey(None, name, None), contract=self.contracts.evidence(name, "producer"), only_sent=True)
            for name in self.contracts.sent_to()
            if name not in read
        ]
        return found

    def _refused_sends(self) -> dict[str, dict[str, int]]:
        """Failed sends of this process by destination and error type."""
        refused: dict[str, dict[str, int]] = {}
        if self._engine is not None:
            for attributes, count in self._engine.sent.points():
                error = attributes.get(semconv.ERROR_TYPE)
                if error is not None:
                    errors = refused.setdefault(str(attributes.get(semconv.MESSAGING_DESTINATION_NAME)), {})
                    errors[str(error)] = errors.get(str(error), 0) + int(count)
        return refused

    def _queued(self) -> dict[str, int]:
        """Messages of this process, by destination, that clients have been given and of which nothing is known yet."""
        queued: dict[str, int] = {}
        for tell in self._engine.queued if self._engine is not None else ():
            for destination, count in tell().items():
                queued[destination] = queued.get(destination, 0) + count
        return queued

    def _check_sent(self, destination: str) -> Callable[[object, int], None] | None:
        watch = self.contracts.of(destination, "producer")
        return None if watch is None else watch.check

    def _flow_of(self, engine: Engine, consumer: Consumer, destination: str) -> WatchedFlow:
        attributes = consumer.metric_attributes
        cluster, group = (
            None if (value := attributes.get(name)) is None else str(value)
            for name in (semconv.KAFKA_CLUSTER_ID, semconv.MESSAGING_CONSUMER_GROUP_NAME)
        )
        key = FlowKey(cluster, destination, group)
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
            semconv.MESSAGING_SYSTEM_NAME: consumer.metric_attributes.get(semconv.MESSAGING_SYSTEM_NAME, OTHER),
            semconv.MESSAGING_DESTINATION_NAME: engine.metric_destination(key.destination),
        }
        if key.group is not None:
            if key.group not in self._groups and len(self._groups) >= MAX_GROUPS:
                labels[semconv.MESSAGING_CONSUMER_GROUP_NAME] = OTHER
            else:
                self._groups.add(key.group)
                labels[semconv.MESSAGING_CONSUMER_GROUP_NAME] = key.group
        settings = self.settings
        pace = FlowPace(key.destination, stuck_after_s=settings.stuck_after_s, lost_after_s=settings.lost_after_s)
        return WatchedFlow(
            key,
            labels,
            settings.destination(key.destination),
            self._objectives_of(key),
            pace,
            foreign=() if settings.environment is None else tuple(KNOWN - {settings.environment}),
        )

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

    def _evidence_of(self, flow: WatchedFlow, pace: Pace, refused: dict[str, int]) -> Evidence:
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
                objectives=[_objective_evidence(each) for each in (*flow.objectives, *list(flow.decisions))],
                age_p99_s=_quantile(self.instruments.data_age.total(flow.attributes), 0.99),
                staleness_s=(now_ms - flow.newest_origin_ms) / 1000 if flow.newest_origin_ms else None,
                quiet_s=max(0.0, (now_ms - flow.last_ms) / 1000) if flow.last_ms else None,
                expect_every_s=flow.settings.expect_every_s,
            ),
            order=Order(
                violations=named("violation"),
                missing=named("cause"),
                open_gaps=counts["open", ""],
                by_destination=counts["by_destination", ""],
                unnumbered=counts["unnumbered", ""],
                commits_ahead=counts["commit_ahead", ""],
                at_risk=flow.at_risk(),
                refused_sends=refused,
            ),
            pace=self._with_processing(flow, pace),
            contract=self.contracts.evidence(flow.key.destination, "consumer"),
            environments=Environments(
                own=self.settings.environment,
                foreign={(origin, policy_of(foreign, origin)): count for origin, count in named("foreign").items()},
                unlabelled=counts["unlabelled", ""],
            ),
        )

    def _with_processing(self, flow: WatchedFlow, pace: Pace) -> Pace:
        """The pace with the median of the processing spans, which an iterator's messages have."""
        if self._engine is not None and flow.process_attributes:
            median_s = _quantile(self._engine.process_duration.total(flow.process_attributes), 0.5)
            if median_s is not None:
                pace.processing_median_s = max(median_s, pace.processing_median_s or 0.0)
        return pace

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
    return {name: value for name, value in flow.attributes.items() if name != semconv.MESSAGING_SYSTEM_NAME}


def _objective_evidence(counts: ObjectiveCounts) -> ObjectiveEvidence:
    met, missed, unknown = counts.values()
    objective = counts.objective
    subject = "messages" if objective.model is None else "decisions"
    return ObjectiveEvidence(objective.name, objective.threshold_s, objective.objective, subject, met, missed, unknown)


def _quantile(cell: HistogramCell, share: float) -> float | None:
    """The upper bound of the bucket that the quantile is in, but not above the highest value, s."""
    counts = cell.bucket_counts
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip((*cell.bounds, cell.max), counts, strict=True):
        seen += count
        if seen >= share * total:
            return min(bound, cell.max)
    return cell.max
