"""What a dead Collector costs: whether anything is lost in ten minutes of it, and what the application feels.

    python scripts/outage.py long [--minutes 10] [--rate 5000] [--spool 512MB] [--fault 503]
    python scripts/outage.py latency [--rounds 20] [--rate 5000]

`long`: a service makes spans of eleven attributes at the rate, all the time; the Collector fails for so many minutes
and is well again. Said is how long the backlog takes, how large it was, and what is missing of the set of spans.

`latency`: a service does operations of half a millisecond of Python with five spans each, at the rate. In turns of two
seconds the exporter is off, has a Collector that is well, and one that fails in each way; of each turn the 99th
percentile of an operation is compared with that of the turn without an exporter in the same round. Quote the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from endure import Child, ids_in

TURN_S = 2.0
SPANS = 5
ROUNDS_OF_WORK = 60
SETTLE_S = 120.0
FAULTS: dict[str, Any] = {
    "well": None,
    "503": {"kind": 503, "options": {}},
    "refuse": {"kind": "refuse", "options": {}},
    "reset": {"kind": "reset", "options": {}},
    "slow": {"kind": "slow", "options": {"seconds": 0.5}},
    "hang": {"kind": "hang", "options": {}},
}
ATTRIBUTES = {f"messaging.attribute.{at}": f"value {at}" for at in range(11)}


class Service:
    """Makes spans, in a process of its own; answers each line of its input with one."""

    def __init__(self, folder: Path, rate: float) -> None:
        from opentelemetry import trace

        import otel_pipeline

        self._pipe = otel_pipeline.instrument("outage")
        self._tracer = trace.get_tracer("outage")
        self._rate = rate
        self._ids = array("Q")
        self._made = (folder / "made").open("wb")
        self._goes_on = True

    def run(self) -> None:
        """Answer until the input ends."""
        for line in sys.stdin:
            word, *arguments = line.split()
            print(json.dumps(getattr(self, word)(*arguments)), flush=True)
        self._pipe.shutdown(60)

    def begin(self) -> None:
        """Make spans at the rate from now on."""
        self._making = threading.Thread(target=self._make)
        self._making.start()

    def end(self) -> dict[str, Any]:
        """Make no more."""
        self._goes_on = False
        self._making.join()
        return self.status()

    def _make(self) -> None:
        begun_s, made = time.monotonic(), 0
        while self._goes_on:
            due = int((time.monotonic() - begun_s) * self._rate)
            for _ in range(due - made):
                span = self._tracer.start_span("process orders", attributes=ATTRIBUTES)
                self._ids.append(span.get_span_context().span_id)
                span.end()
            made = max(made, due)
            self._ids.tofile(self._made)
            self._made.flush()
            del self._ids[:]
            time.sleep(0.01)

    def status(self) -> dict[str, Any]:
        """Return the account of spans, and the resident set."""
        found = next(each for each in self._pipe.status().exports if each.signal == "traces")
        whole = found.exported + found.queued + found.spooled + sum(found.dropped.values())
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return {
            "started": found.started,
            "exported": found.exported,
            "spooled": found.spooled,
            "dropped": dict(found.dropped),
            "wrong": found.started - whole,
            "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        }

    def settle(self) -> bool:
        """Wait until nothing waits."""
        until_s = time.monotonic() + SETTLE_S
        while not self._pipe.flush(10) and time.monotonic() < until_s:
            time.sleep(0.1)
        return time.monotonic() < until_s

    def turn(self) -> dict[str, float]:
        """Do operations for a turn; return percentiles of how long they took, ms."""
        took, begun_s = array("d"), time.perf_counter()
        every_s = SPANS / self._rate
        for number in range(int(TURN_S / every_s)):
            wait_s = begun_s + number * every_s - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            at_s = time.perf_counter()
            for _ in range(SPANS):
                with self._tracer.start_as_current_span("process orders", attributes=ATTRIBUTES):
                    for _ in range(ROUNDS_OF_WORK):
                        sorted(ATTRIBUTES)
            took.append((time.perf_counter() - at_s) * 1000)
        quantiles = statistics.quantiles(took, n=1000)
        return {"p50": quantiles[499], "p99": quantiles[989], "p999": quantiles[998]}


def service(folder: Path, rate: float, **environ: str) -> Child:
    """Start a service."""
    state = folder / f"state-{len(list(folder.iterdir()))}"
    return Child(
        __file__, "service", str(folder), str(rate), OTEL_PIPELINE_STATE_DIR=str(state),
        OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none", OTEL_PIPELINE_ENVIRONMENT="production", **environ,
    )  # fmt: skip


def long(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let the Collector be dead for a long time."""
    collector = Child(str(Path(__file__).with_name("endure_collector.py")), str(folder))
    endpoint = collector.read()
    made = service(folder, options.rate, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_PIPELINE_EXPORT_SPOOL=options.spool)
    looks = []
    made.ask("begin")
    time.sleep(10)
    looks.append(before := made.ask("status"))
    collector.ask(json.dumps(FAULTS[options.fault]))
    until_s = time.monotonic() + options.minutes * 60
    most_bytes = 0
    while time.monotonic() < until_s:
        time.sleep(5)
        looks.append(made.ask("status"))
        most_bytes = max(most_bytes, sum(file.stat().st_size for file in folder.rglob("*.spool")))
    most = looks[-1]
    collector.ask("null")
    well_s = time.monotonic()
    while (found := made.ask("status"))["spooled"] > options.rate:  # What is made in a second is on its way.
        looks.append(found)
        time.sleep(0.5)
    drained_s = time.monotonic() - well_s
    time.sleep(5)
    made.ask("end")
    made.ask("settle")
    last = made.ask("status")
    made.end()
    made.process.wait()
    arrived = collector.ask("null")
    sent, came = ids_in(folder / "made"), ids_in(folder / "arrived")
    collector.end()
    collector.process.wait()
    missing = set(sent).difference(came)
    return {
        "minutes": options.minutes,
        "fault": options.fault,
        "spans": len(sent),
        "spans_per_s": most["started"] / (options.minutes * 60 + 10),
        "most_spooled": most["spooled"],
        "most_bytes": most_bytes,
        "bytes_a_span": most_bytes / max(most["spooled"], 1),
        "drained_s": drained_s,
        "missing": len(missing),
        "twice": len(came) - len(set(came)),
        "dropped": last["dropped"],
        "looks": len(looks),
        "looks_wrong": sum(look["wrong"] != 0 for look in (before, last)),
        "rss_mib": [before["rss"] / 2**20, max(look["rss"] for look in looks) / 2**20, last["rss"] / 2**20],
        "arrived": arrived["counts"],
    }


def latency(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Compare what operations take."""
    collector = Child(str(Path(__file__).with_name("endure_collector.py")), str(folder))
    endpoint = collector.read()
    on = service(folder, options.rate, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    off = service(folder, options.rate, OTEL_TRACES_EXPORTER="none")
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds + 1):
        found = {"off": off.ask("turn")}
        for name, wanted in FAULTS.items():
            collector.ask(json.dumps(wanted))
            found[name] = on.ask("turn")
            collector.ask("null")
            on.ask("settle")
        found["off again"] = off.ask("turn")
        if number:  # The first one fills caches.
            rounds.append(found)
            print(json.dumps(found), file=sys.stderr, flush=True)
    for child in (on, off, collector):
        child.end()
        child.process.wait()
    said: dict[str, Any] = {}
    for name in ("off", "off again", *FAULTS):
        said[name] = {
            quantile: {
                "ms": round(statistics.median(each[name][quantile] for each in rounds), 3),
                "of off": round(statistics.median(each[name][quantile] / each["off"][quantile] for each in rounds), 3),
            }
            for quantile in ("p50", "p99", "p999")
        }
    return said


def main() -> int:
    """Run, and print what was found as JSON."""
    if sys.argv[1:2] == ["service"]:
        Service(Path(sys.argv[2]), float(sys.argv[3])).run()
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("long", "latency"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=5000.0, help="spans/s")
    parser.add_argument("--spool", default="512MB")
    parser.add_argument("--fault", choices=FAULTS, default="503")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = (long if options.what == "long" else latency)(options, Path(folder))
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
