"""An hour of faults: a service on the real broker at 5,000 spans/s, a Collector and a broker that fail by a seed.

    python scripts/endure.py [--minutes 60] [--rate 5000] [--messages 2000] [--seed 1] [--folder FOLDER]

At every change of a fault the accounts must be exact: started = exported + queued + spooled + dropped, for spans, log
records and points. At the end the set of spans that the application made is compared with the set that arrived; what is
missing must be what the Collector has rejected. The resident set is measured each 5 s. Exit status 1 where one of this
does not hold. What the sends and the processing of messages do not make of the rate is made by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from real import servers  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_pipeline.testing.collector_faults import Kind

FAULTS: dict[Kind | int, Callable[[random.Random], dict[str, Any]]] = {
    "refuse": lambda _: {},
    "hang": lambda _: {},
    "reset": lambda _: {},
    "slow": lambda chance: {"seconds": chance.uniform(0.2, 3)},
    503: lambda chance: {"retry_after": chance.randint(0, 5)},
    429: lambda chance: {"retry_after": chance.randint(0, 5)},
    "drip": lambda chance: {"bytes_per_second": chance.randint(3, 60)},
    "too_large": lambda chance: {"items": chance.randint(50, 1500), "signal": "traces"},
    "partial": lambda chance: {"rejected": chance.randint(1, 20), "signal": "traces"},
}
SAMPLE_S = 5.0
RELEASE_S = 1.0
"""Until a killed broker's port and files are free."""
WARM = 0.2
"""Share of the time in which caches and tables are filled."""


class Child:
    """A program of ours that answers each line with one."""

    def __init__(self, *command: str, **environ: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**clean, "PYTHONPATH": str(ROOT), **environ},
        )
        self._to: Any = self.process.stdin
        self._of: Any = self.process.stdout
        self._lock = threading.Lock()

    def ask(self, line: str) -> Any:
        """Send a line and return what comes back."""
        with self._lock:
            self._to.write(line + "\n")
            self._to.flush()
            return self.read()

    def read(self) -> Any:
        """Return the next line."""
        line = self._of.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} has ended: {self.process.wait()}")
        return json.loads(line)

    def end(self) -> None:
        """End its input; it is left to end."""
        self._to.close()


class StoppableBroker:
    """Stops, continues and restarts the broker."""

    def __init__(self, broker: servers.Broker) -> None:
        self._broker, self._log, self._pid = broker, broker.log, broker.pid
        if self._log is None or self._pid is None:
            raise RuntimeError("somebody else has started the broker")
        self._own: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Let it answer nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it."""
        os.kill(self._pid, signal.SIGKILL)
        if self._own is not None:
            self._own.wait()
        else:
            time.sleep(RELEASE_S)

    def start(self) -> None:
        """Start it again, with the same log."""
        with self._log.open("ab") as log:
            self._own = subprocess.Popen(
                self._broker.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid = self._own.pid

    def end(self) -> None:
        """End what was started here."""
        if self._own is not None:
            self._own.kill()
            self._own.wait()


class Run:
    """One run."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._seconds = options.minutes * 60
        self._over = threading.Event()
        self._log = (folder / "changes.jsonl").open("w", encoding="utf-8")
        self._writing = threading.Lock()
        self.looks: list[tuple[float, float]] = []
        self.checks = self.wrong = self.more_than_one_look = 0
        self.most_spooled = 0
        self.faults: Counter[str] = Counter()

    def __call__(self) -> dict[str, Any]:
        """Run, and return what was found."""
        options = self._options
        # Its log is deleted as it goes: an hour of messages is no part of what is tried.
        properties = {"log.retention.bytes": "50000000", "log.segment.bytes": "20000000"}
        properties |= {"log.retention.check.interval.ms": "20000"}
        with servers.kafka_broker(properties) as broker:
            stoppable = StoppableBroker(broker)
            self._collector = Child("scripts/endure_collector.py", str(self._folder))
            self._application = Child(
                "scripts/endure_application.py",
                broker.bootstrap,
                str(self._folder),
                str(options.rate),
                str(options.messages),
                OTEL_EXPORTER_OTLP_ENDPOINT=self._collector.read(),
                OTEL_PIPELINE_STATE_DIR=str(self._folder / "state"),
                OTEL_PIPELINE_ENVIRONMENT="production",
            )
            try:
                return self._run(stoppable)
            finally:
                stoppable.end()
                for child in (self._application, self._collector):
                    child.process.kill()
                    child.process.wait()

    def _run(self, broker: StoppableBroker) -> dict[str, Any]:
        self._begun_s = time.monotonic()
        threads = [threading.Thread(target=each) for each in (self._sample, self._fail, lambda: self._break(broker))]
        for thread in threads:
            thread.start()
        for thread in threads[1:]:
            thread.join()
        self._change("collector", "well")
        made_for_s = time.monotonic() - self._begun_s
        begun_s = time.monotonic()
        self._application.end()
        last = self._application.read()
        ended_s = time.monotonic() - begun_s
        self._over.set()
        threads[0].join()
        code = self._application.process.wait(60)
        arrived = self._collector.ask("null")
        self._write({"last": last, "arrived": arrived, "code": code})
        return self._found(last, arrived, made_for_s, ended_s, code)

    def _found(self, last: Any, arrived: Any, made_for_s: float, ended_s: float, code: int) -> dict[str, Any]:
        made, came = ids_in(self._folder / "made"), ids_in(self._folder / "arrived")
        spans, rejected = last["spans"], last["accounts"]["traces"]["dropped"].get("rejected", 0)
        distinct = missing = 0
        for part in range(16):  # The sets of an hour at once take gigabytes.
            here = {each for each in came if each >> 60 == part}
            distinct += len(here)
            missing += len({each for each in made if each >> 60 == part} - here)
        traces = last["accounts"]["traces"]
        kept = [look for look in self.looks if look[0] >= WARM * self._seconds]
        return {
            "minutes": made_for_s / 60,
            "made": last["made"],
            "started": traces["started"],
            "spans_per_s": spans / made_for_s,
            "arrived": len(came),
            "distinct": distinct,
            "names": arrived["names"],
            "twice": len(came) - distinct,
            "twice_share": (len(came) - distinct) / max(distinct, 1),
            "rejected": rejected,
            "lost": traces["started"] - distinct,
            "ids_made": len(made),
            "ids_missing": missing,
            "accounts": last["accounts"],
            "wrong": last["wrong"],
            "checks": self.checks,
            "checks_wrong": self.wrong,
            "checks_of_more_than_one_look": self.more_than_one_look,
            "most_spooled": self.most_spooled,
            "rss_mib": [kept[0][1] / 2**20, max(rss for _, rss in kept) / 2**20, kept[-1][1] / 2**20] if kept else [],
            "rss_kib_per_minute": slope([at / 60 for at, _ in kept], [rss / 1024 for _, rss in kept]) if kept else 0,
            "faults": self.faults,
            "counts": arrived["counts"],
            "errors": last["errors"],
            "handing_over_s": ended_s,
            "exit_status": code,
        }

    def _sample(self) -> None:
        pid, page = self._application.process.pid, os.sysconf("SC_PAGE_SIZE")
        while not self._over.wait(SAMPLE_S):
            try:
                rss = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * page
            except (OSError, IndexError):
                return
            at_s = time.monotonic() - self._begun_s
            self.looks.append((at_s, rss))
            self._write({"at_s": round(at_s), "rss": rss})

    def _left_s(self) -> float:
        return self._seconds - (time.monotonic() - self._begun_s)

    def _fail(self) -> None:
        """Let the Collector fail and be well in turn."""
        chance = random.Random(self._options.seed)  # noqa: S311 - no secret
        shortest = min(1.0, self._seconds / 600)
        for fault in _in_turn(chance):
            well_s, ill_s = chance.uniform(5, 20) * shortest, chance.uniform(5, 40) * shortest
            wanted = {"kind": fault, "options": FAULTS[fault](chance)}
            if self._left_s() < well_s + ill_s:
                return
            time.sleep(well_s)
            self._change("collector", str(fault), wanted)
            time.sleep(ill_s)
            self._change("collector", "well")

    def _break(self, broker: StoppableBroker) -> None:
        """Stop the broker now and then, and restart it now and then."""
        chance = random.Random(self._options.seed + 1)  # noqa: S311 - no secret
        shortest = min(1.0, self._seconds / 600)
        for turn in range(10_000):
            well_s, ill_s = chance.uniform(30, 90) * shortest, chance.uniform(3, 25) * shortest
            if self._left_s() < well_s + ill_s + 20 * shortest:
                return
            time.sleep(well_s)
            restarts = turn % 2 == 1
            (broker.kill if restarts else broker.stop)()
            self._change("broker", "killed" if restarts else "stopped")
            time.sleep(ill_s)
            (broker.start if restarts else broker.go_on)()
            self._change("broker", "started" if restarts else "goes on")

    def _change(self, of: str, fault: str, wanted: dict[str, Any] | None = None) -> None:
        """Look at the accounts, change what fails, and look again."""
        with self._writing:
            before = self._application.ask("look")
            counts = self._collector.ask(json.dumps(wanted)) if of == "collector" else None
            after = self._application.ask("look")
        for said in (before, after):
            self.checks += 1
            self.wrong += any(said["wrong"].values())
            self.more_than_one_look += said["looks"] > 1
            self.most_spooled = max(self.most_spooled, said["accounts"]["traces"]["spooled"])
        self.faults[f"{of} {fault}"] += 1
        at_s = round(time.monotonic() - self._begun_s, 1)
        self._write({"at_s": at_s, "of": of, "fault": fault, "wanted": wanted, "before": before, "after": after})
        if counts is not None:
            self._write({"counts": counts})

    def _write(self, found: Any) -> None:
        self._log.write(json.dumps(found) + "\n")
        self._log.flush()


def _in_turn(chance: random.Random) -> Iterator[Kind | int]:
    """Yield all faults again and again, each time in another order."""
    while True:
        names = list(FAULTS)
        chance.shuffle(names)
        yield from names


def ids_in(path: Path) -> array[int]:
    """Return the ids of a file, 8 bytes each."""
    found = array("Q")
    found.frombytes(path.read_bytes())
    return found


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much the values grow per unit of time, by least squares."""
    mean_time, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - mean_time) ** 2 for at in times)
    return sum((at - mean_time) * (value - mean) for at, value in zip(times, values, strict=True)) / (spread or 1)


def holds(found: dict[str, Any]) -> list[str]:
    """Return what does not hold."""
    accounts = found["accounts"]
    checks = {
        "the accounts were wrong at a change": not found["checks_wrong"] and found["checks"] > 0,
        "the accounts are wrong at the end": not any(found["wrong"].values()),
        "something waits at the end": not any(each["queued"] + each["spooled"] for each in accounts.values()),
        "spans were made that were not started": found["started"]
        >= sum(found["made"][each] for each in ("sends", "received", "manual")),
        "spans are lost that nobody has rejected": found["lost"] == found["rejected"],
        "ids are missing": found["ids_missing"] <= found["rejected"],
        "failures of ours": not found["errors"],
        "exit status": found["exit_status"] == 0,
    }
    return [name for name, is_true in checks.items() if not is_true]


def main() -> int:
    """Run, print what was found as JSON, and say what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=5000.0, help="spans/s, all together")
    parser.add_argument("--messages", type=float, default=2000.0, help="messages/s; each makes at least two spans")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where what is found is kept; a temporary one otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = Run(options, folder)()
    print(json.dumps(found, indent=1))
    wrong = holds(found)
    for each in wrong:
        print(f"does not hold: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
