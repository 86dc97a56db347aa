"""What all health detectors together add to a message: received one by one, in pulls of 500, and sent.

    python scripts/bench_health.py [--quick] [--gate]

Around stubbed client methods, in one thread with warm caches: the pipeline without detectors and with all of them,
interleaved in one run, thread CPU time. Nothing is sampled, so that spans do not cover the difference. Contracts have
been learned. The last column compares with what the official instrumentation adds to the same message, spans included.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import os
import pickle
import statistics
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"

from bench import VARIANTS, StubbedBench, _Providers, instrumented
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from otel_pipeline.brokers.embedded import embedded_broker
from otel_pipeline.detectors.order import PartitionOrder
from otel_pipeline.engine import pipeline_header

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 500
WARM_UP = 2
"""Rounds before the one that is measured."""
BUDGETS_US = {"received one by one": 2.0, f"received in pulls of {BATCH}": 0.5, "sent": 1.0}
BODY = json.dumps(
    {"id": 7, "amount": 2.5, "customer": {"name": "x" * 40, "city": "y" * 20}, "tags": ["a", "b"]}
).encode()


class HealthBench(StubbedBench):
    """The stubs of the other bench, with detectors and without."""

    def medians(self, prepare: Callable[[_Providers], Callable[[str], Callable[[], None]]]) -> dict[str, float]:
        """Return thread CPU, us per message, beyond what the variant before takes: the rounds' median differences.

        What else the machine does changes from round to round, but little within one. The first rounds warm up.
        """
        providers = _Providers(0.0)
        costs: dict[str, list[float]] = {name: [] for name in VARIANTS}
        make = prepare(providers)
        for at in range(self.rounds + 2):
            for name in VARIANTS:
                with instrumented(name, providers):
                    work = make(name)
                    for _ in range(WARM_UP):
                        work()  # Contracts are learned, and how often a value is looked at has settled.
                    gc.collect()
                    began = time.thread_time_ns()
                    work()
                    spent = time.thread_time_ns() - began
                if at > 1:
                    costs[name].append(spent / 1000 / self.count)
        providers.tracer_provider.shutdown()
        return {
            f"{name} - {other}": statistics.median(
                mine - theirs for mine, theirs in zip(costs[name], costs[other], strict=True)
            )
            for name, other in (("contrib", "bare"), ("tracing", "bare"), ("ours", "tracing"))
        }

    def one_by_one(self) -> dict[str, float]:
        """Measure a loop over the consumer."""
        pulls = self.pulls("one")

        def prepare(_providers: _Providers) -> Callable[[str], Callable[[], None]]:
            def make(_name: str) -> Callable[[], None]:
                consumer = KafkaConsumer(**self.options)
                consumer._records = itertools.chain.from_iterable(map(pickle.loads, pulls))

                def work() -> None:
                    for seen, _record in enumerate(consumer, start=1):
                        if seen == self.count:
                            return

                return work

            return make

        with self.replaced(KafkaConsumer, "__next__", lambda consumer: next(consumer._records)):
            return self.medians(prepare)

    def in_pulls(self) -> dict[str, float]:
        """Measure `poll()` with 500 messages each."""
        pulls = self.pulls("pulls")
        partition = TopicPartition("pulls", 0)

        def stub(self: Any, timeout_ms: int = 0, max_records: Any = None, update_offsets: bool = True) -> Any:  # noqa: ARG001, FBT001, FBT002
            return {partition: pickle.loads(next(self._pulls))}

        def prepare(_providers: _Providers) -> Callable[[str], Callable[[], None]]:
            def make(_name: str) -> Callable[[], None]:
                consumer = KafkaConsumer(**self.options)
                consumer._pulls = iter(pulls)

                def work() -> None:
                    for _ in range(self.count // BATCH):
                        consumer.poll()

                return work

            return make

        with self.replaced(KafkaConsumer, "poll", stub):
            return self.medians(prepare)

    def sent(self) -> dict[str, float]:
        """Measure `send()`."""

        def prepare(_providers: _Providers) -> Callable[[str], Callable[[], None]]:
            def make(_name: str) -> Callable[[], None]:
                producer = KafkaProducer(**self.options)

                def work() -> None:
                    for _ in range(self.count):
                        producer.send("sent", BODY, partition=0)

                return work

            return make

        with self.stubbed_send():
            return self.medians(prepare)

    def pulls(self, topic: str) -> list[bytes]:
        """Pickle records with contexts, as ours sends them, 500 per pull; each round loads them anew, as clients do."""
        count = (WARM_UP + 1) * self.count
        with instrumented("ours", _Providers(0.0)):
            producer = KafkaProducer(**self.options)
            for _ in range(count):
                producer.send(topic, BODY, partition=0)
            producer.flush()
            producer.close()
        consumer = KafkaConsumer(**self.options, auto_offset_reset="earliest", fetch_max_wait_ms=10)
        consumer.assign([TopicPartition(topic, 0)])
        records = [tuple(record) for _, record in zip(range(count), consumer, strict=False)]
        consumer.close()
        return [
            pickle.dumps([ConsumerRecord(*record) for record in records[at : at + BATCH]])
            for at in range(0, count, BATCH)
        ]


def memory_mb() -> float:
    """Measure the memory of the worst there is: 100 partitions with 8 producers each, every window full of gaps."""
    gc.collect()
    tracemalloc.start()
    kept = []
    for partition in range(100):
        tag = pipeline_header.tag_of("orders", partition)
        order = PartitionOrder(tag, time.monotonic)
        offset = 0
        for number in range(1, 2048, 2):
            for producer in range(1, 9):
                order.one(offset, producer, number, tag)
                offset += 1
        kept.append(order)
    found = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return found


def main() -> int:
    """Measure and print; with --gate, return 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--gate", action="store_true", help="end with 1 when a budget is missed")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with embedded_broker({"sent": 1, "one": 1, "pulls": 1}) as bootstrap:
        bench = HealthBench(bootstrap, 4_000, 5 if options.quick else 21)
        found = {
            "received one by one": bench.one_by_one(),
            f"received in pulls of {BATCH}": bench.in_pulls(),
            "sent": bench.sent(),
        }
    print("| a message | without detectors, us | all detectors add, us | budget, us | of what contrib adds |")
    print("|---|--:|--:|---|--:|")
    within = True
    for name, medians in found.items():
        added, budget = medians["ours - tracing"], BUDGETS_US[name]
        within = within and added <= budget
        contrib = medians["contrib - bare"]
        share = f"{added / contrib:.2f}" if contrib > 1 else ""
        verdict = "met" if added <= budget else "MISSED"
        others = medians["tracing - bare"]
        print(f"| {name} | {others:.2f} | {added:.2f} | <= {budget} {verdict} | {share} |")
    header = len(pipeline_header.NAME) + 40
    used_mb = memory_mb()
    print(f"\nHeader: {header} bytes with its key, <= 48.")
    print(f"Order of 100 partitions with 8 producers each, windows full of gaps: {used_mb:.2f} MB, <= 2.")
    return int(options.gate and not (within and header <= 48 and used_mb <= 2))  # noqa: PLR2004 - the budgets


if __name__ == "__main__":
    raise SystemExit(main())
