"""What a second of the verdict costs in a process that reads 200 destinations: nothing moves, and then everything does.

    python scripts/bench_verdict.py [--partitions 1] [--seconds 25]

Flows have an objective and some messages of one producer; they are read to their ends, and each fetch is answered with
nothing new. Thread CPU of the look, the verdict and the state file of each second; a tenth of the resting flows is due
in each. Last the first message of each of 2,000 partitions.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path

os.environ |= {f"OTEL_{name}_EXPORTER": "none" for name in ("TRACES", "METRICS", "LOGS")}

import otel_pipeline
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.clients import Consumer, Position
from otel_pipeline.engine.messages import MessageFields

FLOWS = 200
EACH = 5
BEFORE_S = 12
PARTITIONS = 2_000
FIELDS = MessageFields(*map(itemgetter, range(8)))
CONFIGURATION = "version: 1\nobjectives:\n  all: {destination: '*', threshold: 4s, objective: 0.99}\n"


class Reader:
    """The consumer of one destination."""

    def __init__(self, engine: object, topic: str, partitions: int) -> None:
        self.topic, self.ends = topic, dict.fromkeys(range(partitions), 0)
        self.consumer = Consumer(
            engine,
            FIELDS,
            attributes={"messaging.system.name": "kafka"},
            client_id="c",
            group="g",
            excluded=False,
            operation="poll",
            positions=lambda: {(topic, at): Position(end) for at, end in self.ends.items()},
        )

    def read(self) -> None:
        """Write, fetch, hand out and process some messages in each partition."""
        for partition, end in self.ends.items():
            now_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
            fetches = self.consumer.fetch_observer(self.topic, partition)
            fetches.fetched(now_s - 0.01, now_s - 0.005, end, end + EACH, end + EACH, 0)
            observer = self.consumer.partition(self.topic, partition).observer
            tag = pipeline_header.tag_of(self.topic, partition)
            for offset in range(end, end + EACH):
                header = pipeline_header.encode(
                    flags=pipeline_header.PER_PARTITION,
                    hops=1,
                    environment="production",
                    origin_ms=now_ms - 5,
                    newest_ms=0,
                    path=1,
                    producer_id=7,
                    sequence=offset + 1,
                    tag=tag,
                )
                message = (self.topic, partition, offset, now_ms - 5, None, [("otelp", header)], b"{}", 2)
                fields = pipeline_header.fields(header)
                origin_ms = observer.one(message, offset, now_ms - 5, header, fields, now_ms)
                observer.processed(offset, origin_ms, now_ms)
            self.ends[partition] = end + EACH
            self.fetch()

    def fetch(self) -> None:
        """Ask, and be answered that there is nothing new."""
        for partition, end in self.ends.items():
            now_s = time.monotonic()
            self.consumer.fetch_observer(self.topic, partition).fetched(now_s - 0.001, now_s, end, end, end, 0)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "otel_pipeline.yaml"
        file.write_text(CONFIGURATION)
        os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = str(Path(folder) / "state.json")
        pipe = otel_pipeline.instrument("bench", environment="production", config_file=file)
        measure(pipe, options.partitions, options.seconds)
    return 0


def measure(pipe: otel_pipeline.Pipeline, partitions: int, seconds: int) -> None:
    """Measure and print."""
    monitoring = pipe._monitoring
    monitoring._heartbeat.stop()
    readers = [Reader(pipe._engine, f"topic-{at}", partitions) for at in range(FLOWS)]
    for _ in range(30):
        for reader in readers:
            reader.read()
        monitoring.beat()
    print(f"{FLOWS} flows with {partitions} partitions each, {seconds} seconds, ms of CPU a second:")
    for name, act, before_s in (("nothing moves", Reader.fetch, BEFORE_S), ("all move", Reader.read, 2)):
        costs = []
        for second in range(before_s + seconds):
            began_s = time.monotonic()
            for reader in readers:
                act(reader)
            began_ns = time.thread_time_ns()
            monitoring.beat()
            if second >= before_s:
                costs.append((time.thread_time_ns() - began_ns) / 1e6)
            time.sleep(max(0.0, began_s + 1 - time.monotonic()))
        print(f"{name}: {statistics.median(costs):.1f} (at least {min(costs):.1f}, at most {max(costs):.1f})")
    reader, first = Reader(pipe._engine, "big", 0), []
    for partition in range(PARTITIONS):
        began_ns = time.thread_time_ns()
        reader.consumer.fetch_observer(reader.topic, partition)
        reader.consumer.partition(reader.topic, partition)
        first.append((time.thread_time_ns() - began_ns) / 1e3)
    early, late = statistics.median(first[:100]), statistics.median(first[-100:])
    print(f"first message of a partition: {early:.0f} us, of the last of {PARTITIONS:,} {late:.0f} us")
    pipe.shutdown(0)


if __name__ == "__main__":
    sys.exit(main())
