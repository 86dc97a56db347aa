"""The `pipeline_flow` fixture: after a test has run its pipeline, was the data fresh, in order, complete, as agreed?"""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from otel_pipeline import duration, semconv
from otel_pipeline.contracts.measures import FILE, checked
from otel_pipeline.detectors.decisions import DECISION_AGE
from otel_pipeline.detectors.freshness import DATA_AGE, DELIVERY_AGE, NEGATIVE_AGES
from otel_pipeline.detectors.order import BY_DESTINATION, DUPLICATE, LEFT_OPEN, MISSING, REORDERED, UNNUMBERED
from otel_pipeline.detectors.partition import HEADER_MISSING, HEADER_OK, HEADER_RELAYED, HEADER_UNREADABLE, MESSAGES
from otel_pipeline.detectors.shared import SHARED
from otel_pipeline.detectors.times import EVENT_TIME_REGRESSION
from otel_pipeline.engine.measures import Sums
from otel_pipeline.verdict.case import Minimums
from otel_pipeline.verdict.contract import broken
from otel_pipeline.verdict.environment import of_policy
from otel_pipeline.verdict.sends import SENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.contracts.measures import Side
    from otel_pipeline.detectors.watched_flow import WatchedFlow
    from otel_pipeline.engine.totals import HistogramCell
    from otel_pipeline.pipeline import Pipeline
    from otel_pipeline.testing.telemetry import Telemetry
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.monitoring import Monitoring
    from otel_pipeline.verdict.report import Health

_DISORDER = (REORDERED, DUPLICATE, EVENT_TIME_REGRESSION)
_AGES = {"data": DATA_AGE, "delivery": DELIVERY_AGE, "decision": DECISION_AGE}


class PipelineFlow:
    """What flowed through this process since the test began. Each assertion fails where there is no evidence."""

    def __init__(self, telemetry: Telemetry) -> None:
        telemetry.real_time()
        self.telemetry = telemetry
        """Spans, metrics and logs of the same test."""
        self.pipeline: Pipeline = telemetry.instrument()
        monitoring = self.pipeline._monitoring
        if monitoring is None:
            raise RuntimeError(f"nothing is instrumented: {self.pipeline.status()}")
        self._monitoring: Monitoring = monitoring
        monitoring.judge_anew(Minimums(fresh=1, order=1))

    def health(self) -> Health:
        """Return the lights, which judge from one message on."""
        self._monitoring.flows.look()
        return self._monitoring.judge()

    def wait_for_messages(self, count: int, destination: str = "*", *, timeout: str = "10s") -> None:
        """Wait until so many messages have reached consumers, for a pipeline that runs in threads.

        Raises:
            AssertionError: they have not in time; the text says how many have.
        """
        deadline = time.monotonic() + duration.seconds(timeout)
        while True:
            seen = sum(flow.counts()[MESSAGES] for flow in self._flows(destination))
            if seen >= count:
                return
            _require(time.monotonic() < deadline, f"{seen} of {count} messages of {destination} came in {timeout}")
            time.sleep(0.01)

    def assert_fresh(
        self,
        threshold: str,
        destination: str = "*",
        *,
        share: float = 1.0,
        age: Literal["data", "delivery", "decision"] = "data",
    ) -> None:
        """Assert that the data was younger than `threshold`.

        Args:
            threshold: a duration such as 500ms.
            destination: a name or pattern.
            share: of the cases. Below 1 it is counted in the buckets of the age metrics: those that end above the
                threshold count as too old.
            age: data: from the oldest origin to the end of processing; delivery: of the last hop; decision: from the
                oldest origin to the model call.

        Raises:
            AssertionError: too many were older, the age of some is not known, or there was none.
        """
        limit_s = duration.seconds(threshold)
        cells = [cell for label, cell in self._ages(_AGES[age].name) if fnmatchcase(label, destination)]
        total = sum(sum(cell.bucket_counts) for cell in cells)
        _require(total, f"no {age} age was measured for {destination}: nothing was processed, or no clock is known")
        negative = sum(each.counts()[NEGATIVE_AGES] for each in self._flows(destination))
        _require(not negative, f"{negative} messages came before they were sent: a clock is wrong")
        worst_s = max(cell.max for cell in cells if sum(cell.bucket_counts))
        if worst_s <= limit_s:
            return
        young = sum(
            count
            for cell in cells
            for bound, count in zip(cell.bounds, cell.bucket_counts, strict=False)
            if bound <= limit_s
        )
        _require(
            share < 1 and young >= share * total,
            f"the oldest of {total} {age} ages was {worst_s:.3g} s, and {young} were surely below {threshold}",
        )

    def assert_in_order(self, destination: str = "*") -> None:
        """Assert that each message came once, and none after a later one.

        Raises:
            AssertionError: some did not, or producers gave no numbers, so that nobody knows.
        """
        for evidence in self._evidence(destination):
            self._assert_numbered(evidence)
            unnumbered = evidence.counts[UNNUMBERED]
            _require(not unnumbered, f"{_named(evidence)}: {unnumbered} of {evidence.messages} messages have no number")
            found = {str(label): count for label in _DISORDER if (count := evidence.counts[label])}
            _require(not found, f"{_named(evidence)}: {_listed(found)} of {evidence.messages} messages")

    def assert_delivered(self, destination: str = "*") -> None:
        """Assert that each message that was sent has been acknowledged; to be called when all of them should be.

        Raises:
            AssertionError: a send failed, or has no answer yet, or the brokers are not asked for one, or nothing was
                sent.
        """
        found = [each for each in self._monitoring.sends() if fnmatchcase(each.key.destination, destination)]
        sent = sum(each.counts[SENT] + each.sends.open for each in found)
        _require(sent, f"nothing was sent to {destination}")
        for evidence in found:
            name, sends = evidence.key.destination, evidence.sends
            errors = sends.errors
            _require(not errors, f"{name}: {sum(errors.values())} of {evidence.counts[SENT]} failed: {_listed(errors)}")
            _require(not sends.open, f"{name}: {sends.open} messages have no answer yet: flush() them")
            _require(sends.confirmed, f"{name}: acks=0, so nobody says whether the brokers have the messages")

    def assert_nothing_lost(self, destination: str = "*") -> None:
        """Assert that every message that was sent has come; to be called when all of them should have.

        Gaps count as losses now, and what producers of this process sent last is looked for too.

        Raises:
            AssertionError: something is missing or has not been read, is still in a producer's queue, or producers gave
                no numbers that would tell.
        """
        flows = self._flows(destination)
        for flow in flows:
            for watch in flow.watches():
                watch.order.close()
        for evidence in self._evidence(destination):
            self._assert_numbered(evidence)
            _require(
                not evidence.queued,
                f"{_named(evidence)}: {evidence.queued} messages are still in producers' queues: flush() them",
            )
            unjudged = evidence.counts[BY_DESTINATION] + evidence.counts[UNNUMBERED]
            _require(
                not unjudged,
                f"{_named(evidence)}: whether any is missing is not known: {unjudged} of {evidence.messages} "
                "messages have no number of their partition",
            )
            found = {cause: count for (cause,), count in evidence.counts.of(MISSING).items() if count}
            if left_open := evidence.counts[LEFT_OPEN]:
                found["not come when their consumer closed"] = left_open
            refused = evidence.refused_sends
            told = f"; sends that were refused: {_listed(refused)}" if refused else ""
            _require(
                not found, f"{_named(evidence)}: {sum(found.values())} messages are missing: {_listed(found)}{told}"
            )
        for flow in flows:
            tail = self._not_come(flow)
            _require(not tail, f"{flow.key.destination}: the last {tail} messages sent have not come")

    def assert_contract(self, destination: str) -> None:
        """Assert that values had the shape that `contracts/<destination>.json` gives.

        Raises:
            AssertionError: some had not, none was looked at, or there is no such file.
        """
        contracts = self._monitoring.contracts
        sides: tuple[Side, ...] = ("consumer", "producer")
        known = {side: found for side in sides if (found := contracts.evidence(destination, side)).source == FILE}
        _require(
            known,
            f"{destination} has no contract file; `otel-pipeline contract record {destination}` writes it, and "
            "contracts: {directory: ...} says where it lies",
        )
        counts = Sums()
        for side in known:
            counts.update(contracts.counts(destination, side))
        _require(checked(counts), f"no value of {destination} was looked at")
        differing = sorted({str(departure) for each in known.values() for departure in each.departures})
        breaks = broken(counts)
        _require(not breaks, f"{destination}: {_listed(breaks)}: {', '.join(differing)}")

    def assert_environment_clean(self, destination: str = "*") -> None:
        """Assert that no message began in an environment that the configuration does not allow.

        Raises:
            AssertionError: one did, or the environment is not known.
        """
        for evidence in self._evidence(destination):
            _require(evidence.environment is not None, "the environment of this process is not known")
            foreign = of_policy(evidence.counts, "flag") | of_policy(evidence.counts, "reject")
            _require(not foreign, f"{_named(evidence)}: messages of other environments: {_listed(foreign)}")

    def _flows(self, destination: str) -> list[WatchedFlow]:
        return [flow for flow in self._monitoring.flows.every() if fnmatchcase(flow.key.destination, destination)]

    def _evidence(self, destination: str) -> list[Evidence]:
        found = [
            each
            for each in self._monitoring.evidence()
            if each.messages and fnmatchcase(each.key.destination, destination)
        ]
        _require(found, f"no message of {destination} reached a consumer")
        return found

    @staticmethod
    def _assert_numbered(evidence: Evidence) -> None:
        counts, ok = evidence.counts, evidence.counts[HEADER_OK]
        shared = counts[SHARED]
        _require(
            not shared,
            f"{_named(evidence)}: not known: a share group has handed out {shared} of {evidence.messages} messages, in "
            "no order",
        )
        _require(
            ok == evidence.messages,
            f"{_named(evidence)}: only {ok} of {evidence.messages} messages say which number they have "
            f"({counts[HEADER_MISSING]} without header, {counts[HEADER_UNREADABLE]} unreadable, "
            f"{counts[HEADER_RELAYED]} relayed)",
        )

    def _ages(self, name: str) -> Iterable[tuple[str, HistogramCell]]:
        for histogram in self.pipeline._engine.totals.histograms if self.pipeline._engine else ():
            if histogram.name == name:
                for attributes, _ in histogram.points():
                    yield str(attributes.get(semconv.MESSAGING_DESTINATION_NAME, "")), histogram.total(attributes)

    def _not_come(self, flow: WatchedFlow) -> int:
        """Count numbers that producers of this process gave beyond the newest that came, in partitions it has read."""
        engine = self.pipeline._engine
        come = flow.numbers()
        read = {partition for partition, _ in come} | {
            each.partition for live in flow.pace.live().values() for each in live
        }
        given: dict[tuple[int, int], int] = {}
        for tell in engine.given if engine is not None else ():
            for (producer, topic, partition), number in tell().items():
                if topic == flow.key.destination and partition in read:
                    given[partition, producer] = number
        return sum(max(0, number - come.get(key, 0)) for key, number in given.items())


def _require(condition: object, otherwise: str) -> None:
    """Assert, also under an optimized Python, which leaves `assert` out."""
    if not condition:
        raise AssertionError(otherwise)


def _named(evidence: Evidence) -> str:
    destination, group = evidence.key.destination, evidence.key.group
    return f"{destination} -> {group}" if group else destination


def _listed(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
