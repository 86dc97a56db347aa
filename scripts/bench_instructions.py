"""Instructions that a message costs, counted by callgrind: the same on any machine to within a percent, unlike times.

    python scripts/bench_instructions.py [--gate] [--only send,step]

Needs valgrind with its headers and gcc (`apt install valgrind gcc`); without them it says so and ends with 0. Around
stubbed client methods, as bench.py, with batches of 100 that are acknowledged as a whole, as a broker does. What is
counted of a message is what 400 cost more than 100, warm, without the collector of garbage; of the application's
thread and of the whole process, encoding included. Quote what contrib adds to bare as 1.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"

from bench import VARIANTS, StubbedBench, _of_variants, instrumented
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from otel_pipeline.brokers.embedded import embedded_broker
from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW, MANY, WARM, TIMES = 100, 400, 1500, 5
"""Now and then a value is looked at, by the clock, which is slow here: the median of some times is without that."""
PULL = 500
BODIES = {
    "raw": b"x" * 100,
    "json": json.dumps({"id": 7, "amount": 2.5, "customer": {"name": "x" * 20}}).encode(),
    "avro": b"\0\0\0\0\7" + b"\x02\x06abc" * 15,
}
CEILINGS = {
    ("send", 1.0, "thread"): 0.25,
    ("step", 1.0, "thread"): 0.38,
    ("send", 0.0, "thread"): 0.41,
    ("step", 0.0, "thread"): 0.56,
    ("send", 1.0, "process"): 0.18,
    ("step", 1.0, "process"): 0.28,
}
"""Of what contrib adds: what it is now, and some per cent. Lower them with each that is saved."""
REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""


def build(folder: Path) -> Path | None:
    """Compile what talks to valgrind; None where that cannot be done."""
    source, library = folder / "requests.c", folder / "requests.so"
    source.write_text(REQUESTS)
    compiler = which("gcc")
    if which("valgrind") is None or compiler is None:
        return None
    done = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", library, source], capture_output=True, check=False
    )
    return library if done.returncode == 0 else None


class Counting:
    """Counts instructions, in the process that valgrind runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests = ctypes.CDLL(str(folder / "requests.so"))
        self.names = itertools.count()

    def of(self, work: Callable[[], object]) -> tuple[int, int]:
        """Return the instructions of this thread, and of all threads."""
        name = f"part{next(self.names)}."
        self.requests.start()
        work()
        self.requests.stop(name.encode())
        by_thread: dict[int, int] = {}
        for file in self.folder.glob(f"out.{os.getpid()}*"):
            text = file.read_text("utf-8", "replace")
            if f"Client Request: {name}\n" in text:
                thread = re.search(r"^thread: (\d+)", text, re.MULTILINE)
                total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
                by_thread[int(thread[1]) if thread else 1] = int(total[1]) if total else 0
            if text:
                file.unlink()
        return by_thread.get(1, 0), sum(by_thread.values())

    def of_one(self, loop: Callable[[int], object], after: Callable[[], object]) -> tuple[float, float]:
        """Return the instructions of one message: this thread's, and the process's, what comes after included."""

        def whole(count: int) -> None:
            loop(count)
            after()

        whole(WARM)
        gc.collect()
        gc.disable()
        thread, process = [], []
        for _ in range(TIMES):
            few, many = self.of(lambda: loop(FEW)), self.of(lambda: loop(MANY))
            after()
            all_few, all_many = self.of(lambda: whole(FEW)), self.of(lambda: whole(MANY))
            thread.append((many[0] - few[0]) / (MANY - FEW))
            process.append((all_many[1] - all_few[1]) / (MANY - FEW))
        gc.enable()
        return statistics.median(thread), statistics.median(process)


def sends(bench: StubbedBench, _rate: float, body: bytes) -> Iterator[Callable[[int], object]]:
    """Send to a client that appends to a batch, and acknowledges the batch when it is full."""
    with bench.stubbed_send():
        producer = KafkaProducer(**bench.options)

        def loop(count: int) -> None:
            send = producer.send
            for _ in range(count):
                send("sent", body, partition=0)

        yield loop


def _fresh(bench: StubbedBench, rate: float, body: bytes) -> Iterator[Any]:
    """Make messages as ours sends them, with offsets and numbers that go on."""
    topic = f"received-{int(rate * 100)}"
    bench.fill(topic, rate)
    consumer = KafkaConsumer(**bench.options, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    records = [record for _, record in zip(range(bench.count), consumer, strict=False)]
    consumer.close()
    tag = pipeline_header.tag_of(topic, 0)
    for at in range(140 * PULL):
        record = records[at % len(records)]
        headers = [
            (name, pipeline_header.stamp(value, at + 1, tag) if name == pipeline_header.NAME else value)
            for name, value in record.headers
        ]
        yield record._replace(offset=at, headers=headers, value=body, serialized_value_size=len(body))


def steps(bench: StubbedBench, rate: float, body: bytes) -> Iterator[Callable[[int], object]]:
    """Loop over a consumer that hands out what is there."""
    there = iter(list(itertools.islice(_fresh(bench, rate, body), WARM + (TIMES + 1) * 2 * (FEW + MANY))))
    consumer = KafkaConsumer(**bench.options)
    with bench.replaced(KafkaConsumer, "__next__", lambda _self: next(there)):

        def loop(count: int) -> None:
            for seen, _record in enumerate(consumer, start=1):
                if seen == count:
                    return

        yield loop


def pulls(bench: StubbedBench, rate: float, body: bytes) -> Iterator[Callable[[int], object]]:
    """Poll messages 500 at a time, and loop over them."""
    records = list(_fresh(bench, rate, body))
    there = iter([records[at : at + PULL] for at in range(0, len(records), PULL)])
    place = TopicPartition(records[0].topic, 0)
    consumer = KafkaConsumer(**bench.options)

    def stub(self: Any, timeout_ms: int = 0, max_records: Any = None, update_offsets: bool = True) -> Any:  # noqa: ARG001, FBT001, FBT002
        return {place: next(there)}

    with bench.replaced(KafkaConsumer, "poll", stub):

        def loop(count: int) -> None:
            for _ in range(count // FEW):  # As many pulls as there would be hundreds, so that few and many differ.
                for batch in consumer.poll().values():
                    for _record in batch:
                        pass

        yield loop


CASES = {"send": sends, "step": steps, "pull": pulls}


def play(folder: Path, case: str, rate: float, variant: str, body: str) -> None:
    """Count one case, and print it as JSON."""
    logging.disable(logging.CRITICAL)
    with embedded_broker({"sent": 1, f"received-{int(rate * 100)}": 1}) as bootstrap:
        bench = StubbedBench(bootstrap, 1000, 1)
        providers = _of_variants(rate)[variant]
        counting = Counting(folder)
        for loop in CASES[case](bench, rate, BODIES[body]):
            with instrumented(variant, providers):
                found = counting.of_one(loop, providers.tracer_provider.force_flush)
        scale = PULL / FEW if case == "pull" else 1
        print(json.dumps([each / scale for each in found]), flush=True)
        os._exit(0)


def counted(folder: Path, case: str, rate: float, variant: str, body: str) -> tuple[float, float]:
    """Count one case in a process of its own."""
    command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
    command += [f"--callgrind-out-file={folder}/out.%p", sys.executable, __file__, "--play"]
    command += [str(folder), case, str(rate), variant, body]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    if not lines:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    thread, process = json.loads(lines[-1])
    return thread, process


def said(case: str, rate: float, body: str, found: dict[str, tuple[float, float]]) -> list[str]:
    """Print what was found, and return where ours costs more than it may."""
    missed = []
    for at, of in enumerate(("thread", "process")):
        bare = found.get("bare", (0, 0))[at]
        added = {each: numbers[at] - bare for each, numbers in found.items() if each != "bare"}
        contrib = added.get("contrib") if case != "pull" else None  # It does not see a pull.
        each_said = [
            f"{each} {number:,.0f}" + (f" ({number / contrib:.3f})" if contrib else "")
            for each, number in added.items()
        ]
        print(f"{case} {rate:.0%} {body} {of}: bare {bare:,.0f}, added {', '.join(each_said)}", flush=True)
        ceiling = CEILINGS.get((case, rate, of))
        if ceiling is not None and contrib and added.get("ours", 0) / contrib > ceiling:
            missed.append(f"{case} {rate:.0%} {of}: more than {ceiling} of what contrib adds")
            print(missed[-1], flush=True)
    return missed


def main() -> int:
    """Count and print; with --gate, return 1 where ours has become dearer than it may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", action="store_true", help="end with 1 where ours costs more than it may")
    parser.add_argument("--only", default="send,step,pull", help="cases, by comma")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--rates", default="1.0,0.0")
    parser.add_argument("--play", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        folder, case, rate, variant, body = options.play
        play(Path(folder), case, float(rate), variant, body)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if build(folder) is None:
            print("not counted: valgrind with its headers and gcc are needed (apt install valgrind gcc)")
            return 0
        missed = []
        for case, rate in itertools.product(options.only.split(","), map(float, options.rates.split(","))):
            for body in BODIES if case == "pull" else ["raw"]:
                found = {each: counted(folder, case, rate, each, body) for each in options.variants.split(",")}
                missed += said(case, rate, body, found)
    return int(options.gate and bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
