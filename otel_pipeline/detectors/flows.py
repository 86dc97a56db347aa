"""Everything that is watched in this process: one flow per (cluster, destination, group), and what is known of it.

Detectors count in plain integers of their own. Whoever reads metrics, or the verdict, brings the sums up to date here:
nothing is pushed per message. What a closed consumer has counted is kept, so that no sum ever falls.
"""

from __future__ import annotations

import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_pipeline import semconv
from otel_pipeline.detectors import environments, freshness, order, partition
from otel_pipeline.detectors.extended_watch import watch_with
from otel_pipeline.detectors.flow_pace import FlowPace
from otel_pipeline.detectors.freshness import DATA_AGE, DELIVERY_AGE
from otel_pipeline.detectors.headers_only import counting as headers_only_counts
from otel_pipeline.detectors.instruments import Instruments
from otel_pipeline.detectors.measures import detectors
from otel_pipeline.detectors.objectives import Objectives
from otel_pipeline.detectors.pace import PartitionPace
from otel_pipeline.detectors.partition import PartitionWatch
from otel_pipeline.detectors.producer_numbers import MAX_ALL_GAPPED, MAX_ALL_PRODUCERS, MAX_PRODUCERS, Room
from otel_pipeline.detectors.wall_clock import WallClock
from otel_pipeline.detectors.watched_flow import FlowKey, FlowNow, Watched, WatchedFlow
from otel_pipeline.detectors.watched_partition import WatchedPartition
from otel_pipeline.engine.engine import OTHER
from otel_pipeline.engine.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otel_pipeline.detectors.measures import Detector
    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.detectors.watched_partition import Values
    from otel_pipeline.engine.clients import Consumer, PartitionState
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.measures import Label, Measure
    from otel_pipeline.engine.totals import Attributes, AttributeValue, Histogram, Totals

MAX_FLOWS = 200
MAX_GROUPS = 20
_IN_PLACE = (order.DETECTOR, freshness.DETECTOR, environments.DETECTOR)
"""Detectors whose parts the watch calls itself."""


class Flows:
    """The flows of a pipeline. Partitions are added by consumers' threads, sums are read by any.

    Args:
        clock_ms: wall clock, ms since the epoch.
        monotonic_s: clock for waiting times, s.
        work_ns: clock that the engine measures durations with, ns.
        steady_s: clock that nobody sets and that counts while the machine sleeps, s; the machine's without it.
        values: what looks at values, for detectors that ask for them.
        tables: the detectors; all that are installed where none are given.
    """

    def __init__(
        self,
        totals: Totals,
        settings: HealthSettings,
        *,
        guard: Guard | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic_s: Callable[[], float] = time.monotonic,
        work_ns: Callable[[], int] = time.perf_counter_ns,
        steady_s: Callable[[], float] | None = None,
        values: Values | None = None,
        tables: Iterable[Detector] | None = None,
    ) -> None:
        self.settings = settings
        self._guard = guard or Guard()
        self._clock_ms = clock_ms
        self._monotonic_s = monotonic_s
        self._work_ns = work_ns
        self._values = values
        self.looked_at = False
        """Whether somebody looks once a second: then what is too old may wait to be explained."""
        self._lock = threading.RLock()
        self._flows: dict[FlowKey, WatchedFlow] = {}
        self._groups: set[str] = set()
        self._room = Room()
        self.objectives = Objectives(settings.objectives, totals)
        self.clock = WallClock(lambda: clock_ms() / 1000, steady_s)
        found = detectors(self._guard) if tables is None else tables
        self._instruments = Instruments(totals, found, self._guard, self.now, self.refresh)
        self.detectors = self._instruments.detectors

    def attach(self, engine: Engine) -> None:
        """Watch what goes through this engine."""
        engine.observe = self.watch
        engine.observe_fetches = self.pace
        engine.own_clock = self.clock
        for age in (DELIVERY_AGE, DATA_AGE):
            self.histogram(age).refresh = engine.exemplars.show
        self._instruments.attach(engine)

    def begin_anew(self) -> None:
        """Know no flow, in a forked child, and wait for no thread that only its parent has."""
        self._lock = threading.RLock()
        self._flows.clear()
        self._groups.clear()
        self.objectives.begin_anew()

    def every(self) -> list[WatchedFlow]:
        """List all flows."""
        with self._lock:
            return list(self._flows.values())

    def histogram(self, measure: Measure) -> Histogram:
        """Return the histogram that a detector records in."""
        return self._instruments.histogram(measure)

    def watch(self, consumer: Consumer, state: PartitionState) -> PartitionWatch | None:
        """Begin to watch one partition at one consumer; None where one of the watch's own parts could not be made."""
        headers_only = consumer.fields.headers_only
        flow = self._flow_of(consumer.engine, consumer, state.destination, headers_only=headers_only)
        of_values = None if headers_only else self._values
        values = None if of_values is None else of_values.of(state.destination, "consumer")
        parts = dict(self._parts(self._at(consumer, flow, state, None if values is None else self._values)))
        if not all(detector in parts for detector in _IN_PLACE):
            return None  # Counted where it failed.
        in_place = {detector: parts.pop(detector) for detector in _IN_PLACE}
        if headers_only:
            parts = {}  # Further detectors tell messages apart by their offsets.
        watch = watch_with(
            consumer.fields,
            [(detector.place(self._guard), part) for detector, part in parts.items()],
            order=in_place[order.DETECTOR],
            freshness=in_place[freshness.DETECTOR],
            environments=in_place[environments.DETECTOR],
            values=values,
            begins_here=flow.settings.origin == "message",
            flow=flow,
        )
        pace = consumer.fetches.get((state.destination, state.partition))
        if isinstance(pace, PartitionPace):
            pace.watched_by(watch.order)
            watch.freshness.replay_until = pace.began_at_end or -1
            watch.freshness.settled = not self.looked_at
        every_part = ((partition.DETECTOR, watch), *in_place.items(), *parts.items())
        if headers_only:
            held = dict(every_part)
            every_part = tuple((table, held[detector]) for detector, table in headers_only_counts(held))
        read = tuple((detector, detector.place(self._guard), part) for detector, part in every_part)
        with self._lock:
            flow.process_attributes = state.process_attributes
            # Before it is added: what no consumer observes with is folded.
            state.observer = watch
            flow.add(Watched(ref(consumer), state.partition, watch, self._monotonic_s(), read))
        return watch

    def _at(
        self, consumer: Consumer, flow: WatchedFlow, state: PartitionState, values: Values | None
    ) -> WatchedPartition:
        weak = ref(consumer)
        return WatchedPartition(
            destination=state.destination,
            partition=state.partition,
            group=flow.key.group,
            fields=consumer.fields,
            settings=self.settings,
            destination_settings=flow.settings,
            guard=self._guard,
            monotonic_s=self._monotonic_s,
            room=self._room,
            work_ns=self._work_ns,
            objectives=flow.objectives,
            clock=self.clock,
            values=values,
            cell=lambda measure: flow.own_cell(weak, self.histogram(measure), measure),
            cells=lambda measure: self.histogram(measure).local(measure.among(flow.attributes)),
        )

    def _parts(self, at: WatchedPartition) -> Iterator[tuple[Detector, Any]]:
        """Yield each detector's part for a partition, where it watches it."""
        for detector in self.detectors:
            part = None if detector.watch is None else self._instruments.ask(detector, detector.watch, at)
            if part is not None:
                yield detector, part

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
        """Update, once a second, rates, what stands still, who is followed, and whether the clock was set."""
        now_s, now_ns, now_ms = self._monotonic_s(), self._work_ns(), self._clock_ms()
        self.looked_at = True
        followed, gapped, newest_s = 0, 0, inf
        for flow in self.every():
            flow.pace.look(now_s, now_ns, flow.last_ms)
            newest_s = min(newest_s, flow.look(now_s, now_ms))
            for watch in flow.watches():
                watch.order.look(now_s)
                followed += watch.order.followed
                gapped += watch.order.holed
            if flow.latest.get(order.TURNED_AWAY):
                self._guard.problem(
                    "order.producers",
                    f"more than {MAX_PRODUCERS:,} producers in a partition, or {MAX_ALL_PRODUCERS:,} in the process: "
                    "whether messages of the rest are lost is not known",
                )
            if flow.latest.get(order.NOT_FOLLOWED):
                self._guard.problem(
                    "order.gaps",
                    f"numbers of more than {MAX_ALL_GAPPED:,} producers in the process have not come: "
                    "whether messages of the rest are lost is not known",
                )
        self._room.taken, self._room.gapped = followed, gapped
        self.clock.look(newest_s)

    def now(self) -> list[FlowNow]:
        """Return each flow as it is now."""
        now_ms, now_s, work_ns = self._clock_ms(), self._monotonic_s(), self._work_ns()
        return [FlowNow(flow, now_ms, now_s, work_ns) for flow in self.every()]

    def refresh(self) -> None:
        """Bring the metrics' sums up to date."""
        with self._lock:
            for flow in self._flows.values():
                self._refresh(flow)

    def refresh_one(self, flow: WatchedFlow) -> None:
        """Bring those of one flow up to date."""
        with self._lock:
            self._refresh(flow)

    def _refresh(self, flow: WatchedFlow) -> None:
        flow.fold()
        self._instruments.write(flow)

    def _flow_of(
        self, engine: Engine, consumer: Consumer, destination: str, *, headers_only: bool = False
    ) -> WatchedFlow:
        attributes = consumer.metric_attributes
        cluster, group = (
            None if (value := attributes.get(name)) is None else str(value)
            for name in (semconv.KAFKA_CLUSTER_ID, semconv.MESSAGING_CONSUMER_GROUP_NAME)
        )
        key = FlowKey(cluster, destination, group)
        with self._lock:
            known = self._flows.get(key)
            if known is None and len(self._flows) >= MAX_FLOWS:
                self._guard.problem(
                    "flows", f"more than {MAX_FLOWS} pairs of destination and group: health of the rest is {OTHER!r}"
                )
                key = FlowKey(None, OTHER, OTHER)
                known = self._flows.get(key)
            if known is None:
                tables = self.detectors
                if headers_only:
                    tables = tuple(table for _, table in headers_only_counts(tables))
                known = self._flows[key] = self._new_flow(key, self._attributes_of(engine, attributes, key), tables)
            return known

    def _attributes_of(
        self, engine: Engine, client: Mapping[str, AttributeValue], key: FlowKey
    ) -> dict[str, AttributeValue]:
        """Collect all attributes that measures of a flow may carry; only the first groups keep their names."""
        attributes: dict[str, AttributeValue] = {
            semconv.MESSAGING_SYSTEM_NAME: client.get(semconv.MESSAGING_SYSTEM_NAME, OTHER),
            semconv.MESSAGING_DESTINATION_NAME: engine.metric_destination(key.destination),
        }
        if key.cluster is not None:
            attributes[semconv.KAFKA_CLUSTER_ID] = key.cluster
        if key.group is not None:
            if key.group in self._groups or len(self._groups) < MAX_GROUPS:
                self._groups.add(key.group)
                attributes[semconv.MESSAGING_CONSUMER_GROUP_NAME] = key.group
            else:
                attributes[semconv.MESSAGING_CONSUMER_GROUP_NAME] = OTHER
        return attributes

    def _new_flow(self, key: FlowKey, attributes: Attributes, tables: Iterable[Detector]) -> WatchedFlow:
        settings, said = self.settings, self.settings.destination(key.destination)
        born: list[Label] = []
        for detector in tables:
            born += (*detector.counts, *self._instruments.all(detector, detector.born, settings, said))
        return WatchedFlow(
            key,
            attributes,
            said,
            self.objectives.of_flow(key.destination, key.group, attributes),
            FlowPace(key.destination, lost_after_s=settings.lost_after_s),
            born,
        )
