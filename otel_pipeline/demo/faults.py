"""`otel-pipeline demo --faults`: relays between the services do harm; all of it must be found, none invented."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_pipeline import semconv
from otel_pipeline.cli.errors import CommandError
from otel_pipeline.demo.check import FEATURES, RAW, SERVICES
from otel_pipeline.demo.fault_plan import EXPECT_EVERY_SECONDS, FAULTS, FREEZE, FREEZE_AT, SEED
from otel_pipeline.demo.faults_screen import Classic, FaultsResult
from otel_pipeline.demo.findings import Decisions, Findings
from otel_pipeline.demo.lights import documents, hops
from otel_pipeline.demo.metrics import Metrics
from otel_pipeline.demo.services import RELAYED, START_SECONDS, environment
from otel_pipeline.demo.topics import PARTITIONS, Broker, Witness
from otel_pipeline.testing.faults import FaultsError, Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_pipeline.demo.fault_plan import Fault
    from otel_pipeline.demo.screen import Progress

RELAYED_TOPICS = (RAW + RELAYED, FEATURES + RELAYED)
PAUSE_SECONDS = 0.02
VARIABLES = {
    "RELAYED_SUFFIX": RELAYED,
    "PAUSE_SECONDS": str(PAUSE_SECONDS),
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
}
"""Metrics every second, and a stream that leaves a slow machine time."""
_STUCK_SECONDS = 20.0
"""Shorter than the services wait for a message: their health is looked at while they run."""
_EXPORTS_SECONDS = 2.5
_BASELINE = """
import json
from digits import clean, scans
from train import train
known = scans()
digits = train().predict([clean(scan) for scan in known])
print(json.dumps([[scan["label"], int(digit)] for scan, digit in zip(known, digits)]))
"""


@dataclass
class FaultyStream:
    """The stream with relays in both hops.

    Args:
        broker: where the topics are.
        folder: of the run.
        messages: how many images are sent.
        progress: told what is being done.
        check: raises when a service has failed.
    """

    broker: Broker
    folder: Path
    messages: int
    progress: Progress
    check: Callable[[], None]

    def __post_init__(self) -> None:
        self._metrics = Metrics(self.folder / "telemetry" / "telemetry.jsonl")
        self._findings = Findings()
        self._relays: dict[str, Relay] = {}
        self._frozen_ms = (float("inf"), float("inf"))

    def start(self, stack: ExitStack) -> None:
        """Put the relays between the topics, with all faults that are chosen by offset."""
        for topic in (RAW, FEATURES):
            source = self.broker.prefix + topic
            relay = Relay(self.broker.bootstrap, source, source + RELAYED, seed=SEED)
            for fault in FAULTS:
                if fault.topic == topic and fault.options:
                    options: Any = {
                        **fault.options,
                        "first": fault.first,
                        "last": fault.last,
                        "partition": fault.partition,
                    }
                    relay.add(**options)
            try:
                relay.start()
            except FaultsError as error:
                raise CommandError(f"no relay between the services: {error}") from error
            stack.callback(_stop, relay)
            self._relays[topic] = relay
        self._baseline = subprocess.Popen(
            [sys.executable, "-c", _BASELINE],
            cwd=self.folder / "services",
            env=environment({}),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        stack.callback(self._baseline.kill)

    def run(self, witness: Witness) -> None:
        """Read along until every fault was found, or nothing happens any more."""
        findings, before, moved_s, frozen = self._findings, None, time.monotonic(), False
        done_s: float | None = None
        while True:
            done = witness.read()
            self._look()
            self.check()
            now_s = time.monotonic()
            state = (done, tuple((each.injected, each.found) for each in findings.all))
            if state != before:
                before, moved_s = state, now_s
                self.progress.count(done, self.messages, "classified")
            self._freeze(frozen=frozen)
            frozen = frozen or bool(FREEZE.count(self._relays[FEATURES].injected))
            whole = done >= self.messages - self._relays[FEATURES].injected.drop
            findings.flowing = not whole
            if whole and findings.complete:
                done_s = done_s or now_s
                # What was invented may come with the next exports.
                if now_s - done_s > _EXPORTS_SECONDS:
                    return
            patience_s = _STUCK_SECONDS if done else START_SECONDS
            if now_s - moved_s > patience_s:
                self.progress.say(f"nothing more was found for {patience_s:.0f} s")
                return

    def _freeze(self, *, frozen: bool) -> None:
        relay = self._relays[FEATURES]
        if not frozen:
            relayed = [counts.get("relayed", 0) for counts in relay.injected.by_partition.values()]
            if len(relayed) == PARTITIONS and min(relayed) >= FREEZE_AT:
                relay.freeze(2 * _STUCK_SECONDS)
                self._frozen_ms = time.time() * 1000, float("inf")
        elif self._found(FREEZE):
            relay.thaw()
            self._frozen_ms = min(self._frozen_ms), min(time.time() * 1000, self._frozen_ms[1])

    def _found(self, fault: Fault) -> bool:
        return any(each.found for each in self._findings.all if each.fault is fault)

    def _images(self, fault: Fault, witness: Witness) -> list[int]:
        """Return the images that the fault was meant for."""
        if fault is FREEZE:
            return witness.scanned_between(*self._frozen_ms)
        return sorted(image for image, place in witness.places[fault.topic].items() if fault.window(place))

    def _look(self) -> None:
        injected = {topic: relay.injected for topic, relay in self._relays.items()}
        self._metrics.read()
        self._findings.look(injected, self._metrics, time.monotonic())

    def result(self, witness: Witness, end: Callable[[], list[str]], began_s: float) -> FaultsResult:
        """End the services, and return what the screen tells."""
        lights = hops(documents(self.folder / "health"))
        for relay in self._relays.values():
            relay.stop()
        known = json.loads(self._baseline.communicate()[0])
        before, wall_s = _cpu_seconds(), time.monotonic() - began_s
        notes = [*witness.too_busy(PAUSE_SECONDS), *end()]
        self._findings.flowing = False
        self._look()
        failed, operations = self._metrics.failed()
        decisions = Decisions(
            predictions=witness.predictions,
            times_s=witness.decided_after(),
            counts=witness.decisions,
            without={image: digit for image, (_, digit) in enumerate(known)},
        )
        images = witness.places[RAW]
        return FaultsResult(
            broker=self.broker.title,
            messages=self.messages,
            seconds=time.monotonic() - began_s,
            findings=self._findings,
            harms=[decisions.harm(self._images(fault, witness), EXPECT_EVERY_SECONDS) for fault in FAULTS],
            whole=decisions.harm(sorted(images), EXPECT_EVERY_SECONDS),
            classic=Classic(
                failed=failed,
                operations=operations,
                error_logs=self._metrics.error_logs,
                process_p99_s=self._metrics.below(semconv.MESSAGING_PROCESS_DURATION, 0.99),
                cpu_share=(_cpu_seconds() - before) / wall_s / len(SERVICES),
            ),
            lights=lights,
            telemetry=str(self.folder / "telemetry"),
            notes=notes,
        )


def _cpu_seconds() -> float:
    """Return the CPU time of all children that have ended, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _stop(relay: Relay) -> None:
    with suppress(FaultsError):
        relay.stop()
