"""Added cost per message: bare kafka-python, the official instrumentation and ours, interleaved in one run.

    python scripts/bench.py [--quick] [--gate] [--write]

Twice: around stubbed client methods, which is what the instrumentations themselves cost, and around the real client on
the embedded broker in a process of its own, where caches are cold and other threads want the same lock. Both
instrumentations export through a batch processor into an exporter that encodes to OTLP and throws away. Ours has its
metrics on; the official one has none. Quote ratios: single times depend on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

warnings.simplefilter("ignore", DeprecationWarning)
os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402
from kafka.producer.producer_batch import ProducerBatch  # noqa: E402
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: E402
from opentelemetry.instrumentation.kafka import KafkaInstrumentor  # noqa: E402
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult  # noqa: E402
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: E402

import otel_pipeline  # noqa: E402
from otel_pipeline.brokers.embedded import API_VERSION, embedded_broker  # noqa: E402
from otel_pipeline.export import compiled_spans  # noqa: E402
from otel_pipeline.export.accounting import Account  # noqa: E402
from otel_pipeline.export.border import Border  # noqa: E402
from otel_pipeline.export.losses import Losses  # noqa: E402
from otel_pipeline.export.otlp.encoder import encode  # noqa: E402
from otel_pipeline.export.processors import CountedSpans  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
VARIANTS = ("bare", "contrib", "tracing", "ours")
"""`tracing` is ours without the health detectors, which have budgets of their own: bench_health.py."""
RATES = (1.0, 0.01, 0.0)
BUDGETS = {1.0: 0.5, 0.01: 0.5, 0.0: 0.5}
BODY = b"x" * 100
BATCH = 100
"""Messages that a stubbed client sends, and that are acknowledged, together."""


class _Encoding(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


class _EncodingAsWe(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        encode("traces", spans)
        return SpanExportResult.SUCCESS


class _Providers:
    """What the pipeline asks of providers."""

    service_name = "bench"
    destination = "nowhere"
    logger_provider = None

    def __init__(self, rate: float, *, ours: bool = False) -> None:
        self.tracer_provider = TracerProvider(ParentBased(TraceIdRatioBased(rate)), shutdown_on_exit=False)
        exporter: Any = _Encoding()
        if ours:
            exporter = Border(_EncodingAsWe(), Account("traces", "nowhere", {}), Losses(), lambda *_said: None)
        kind: Any = CountedSpans if ours else BatchSpanProcessor
        self.tracer_provider.add_span_processor(kind(exporter, max_queue_size=200_000, max_export_batch_size=512))
        self.meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)

    def spans_of(self, name: str, of: str, schema_url: str) -> Any:
        return compiled_spans.make(
            self.tracer_provider, self.tracer_provider.get_tracer(name, of, schema_url=schema_url)
        )

    def flush(self, timeout_s: float) -> bool:
        return self.tracer_provider.force_flush(int(timeout_s * 1000))

    def shutdown(self, timeout_s: float) -> bool:
        del timeout_s
        return True


def _of_variants(rate: float) -> dict[str, _Providers]:
    theirs, ours = _Providers(rate), _Providers(rate, ours=True)
    return {variant: ours if variant in {"tracing", "ours"} else theirs for variant in VARIANTS}


@contextmanager
def instrumented(variant: str, providers: _Providers) -> Iterator[None]:
    """Instrument by one of the four variants, while the `with` lasts."""
    if variant == "contrib":
        KafkaInstrumentor().instrument(tracer_provider=providers.tracer_provider, skip_dep_check=True)
        try:
            yield
        finally:
            KafkaInstrumentor().uninstrument()
    elif variant in {"tracing", "ours"}:
        pipe = otel_pipeline.instrument("bench", environment="production", libraries=["kafka"], _providers=providers)
        engine = pipe._engine
        if variant == "tracing" and engine is not None:
            engine.observe = engine.observe_fetches = engine.check_sent = None
        try:
            yield
        finally:
            pipe.uninstrument()
    else:
        yield


@dataclass
class Cost:
    """CPU time of one round, us per message."""

    thread: float
    process: float


def measured(providers: _Providers, count: int, work: Any) -> Cost:
    """Measure the work's own cost, and with it what other threads did for it, the export included."""
    process, thread = time.process_time_ns(), time.thread_time_ns()
    work()
    spent = time.thread_time_ns() - thread
    providers.tracer_provider.force_flush()
    return Cost(spent / 1000 / count, (time.process_time_ns() - process) / 1000 / count)


class Bench:
    """The clients of one run."""

    def __init__(self, bootstrap: str, count: int, rounds: int) -> None:
        self.options = {"bootstrap_servers": bootstrap, "api_version": API_VERSION}
        self.count, self.rounds = count, rounds

    def send(self, rate: float) -> dict[str, list[Cost]]:
        """Measure rounds of sends."""
        exporting, costs = _of_variants(rate), {variant: [] for variant in VARIANTS}
        producer = KafkaProducer(**self.options, linger_ms=5)
        for at in range(self.rounds + 1):
            for variant, providers in exporting.items():
                with instrumented(variant, providers):

                    def work() -> None:
                        for _ in range(self.count):
                            producer.send("sent", BODY, partition=0)

                    cost = measured(providers, self.count, work)
                    producer.flush()
                if at:  # The first round warms up.
                    costs[variant].append(cost)
        producer.close()
        for providers in exporting.values():
            providers.tracer_provider.shutdown()
        return costs

    def receive(self, rate: float) -> dict[str, list[Cost]]:
        """Measure rounds of loops over messages that carry contexts, sampled at the rate."""
        topic = f"received-{int(rate * 100)}"
        self.fill(topic, rate)
        return self.loops(topic, rate)

    def fill(self, topic: str, rate: float) -> None:
        """Fill the topic with messages that carry contexts, as ours sends them."""
        with instrumented("ours", _Providers(rate)):
            producer = KafkaProducer(**self.options)
            for _ in range(self.count):
                producer.send(topic, BODY, partition=0)
            producer.flush()
            producer.close()

    def loops(self, topic: str, rate: float) -> dict[str, list[Cost]]:
        """Measure the loops themselves."""
        exporting, costs = _of_variants(rate), {variant: [] for variant in VARIANTS}
        consumer = KafkaConsumer(**self.options, auto_offset_reset="earliest", fetch_max_wait_ms=10)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        for at in range(self.rounds + 1):
            for variant, providers in exporting.items():
                with instrumented(variant, providers):
                    consumer.seek(partition, 0)

                    def work() -> None:
                        for seen, _record in enumerate(consumer, start=1):
                            if seen == self.count:
                                return

                    cost = measured(providers, self.count, work)
                if at:
                    costs[variant].append(cost)
        consumer.close()
        for providers in exporting.values():
            providers.tracer_provider.shutdown()
        return costs


class StubbedBench(Bench):
    """The same instrumentations around client methods that do nearly nothing: their own cost, without a network.

    `send` appends to a real batch whose records are not kept, acknowledged when it is full; `__next__` hands
    out records that are there already. One thread, warm caches: what is added, and nothing of what it does to others.
    """

    @contextmanager
    def replaced(self, owner: type, name: str, stub: Any) -> Iterator[None]:
        """Exchange the client's method below the instrumentations."""
        original = vars(owner)[name]
        setattr(owner, name, stub)
        try:
            yield
        finally:
            setattr(owner, name, original)

    def send(self, rate: float) -> dict[str, list[Cost]]:
        """Measure rounds of sends into a batch that is thrown away."""
        with self.stubbed_send():
            return super().send(rate)

    @contextmanager
    def stubbed_send(self) -> Iterator[None]:
        """Exchange the client's send for one that appends to a batch, and acknowledges the batch when it is full."""
        place = TopicPartition("sent", 0)
        state: dict[str, Any] = {"batch": ProducerBatch(place, Records()), "base": 0}

        def stub(
            self: Any,  # noqa: ARG001
            topic: Any,  # noqa: ARG001
            value: Any = None,
            key: Any = None,
            headers: Any = None,
            partition: Any = None,  # noqa: ARG001
            timestamp_ms: Any = None,
        ) -> Any:
            batch = state["batch"]
            future = batch.try_append(timestamp_ms, key, value, headers or [])
            if batch.records.count == BATCH:
                batch.complete(state["base"], -1)
                state.update(batch=ProducerBatch(place, Records()), base=state["base"] + BATCH)
            return future

        with self.replaced(KafkaProducer, "send", stub):
            yield

    def receive(self, rate: float) -> dict[str, list[Cost]]:
        """Measure rounds of loops over records that are there already."""
        topic = f"received-{int(rate * 100)}"
        self.fill(topic, rate)
        consumer = KafkaConsumer(**self.options, auto_offset_reset="earliest", fetch_max_wait_ms=10)
        consumer.assign([TopicPartition(topic, 0)])
        records = [record for _, record in zip(range(self.count), consumer, strict=False)]
        consumer.close()
        there = itertools.cycle(records)
        with self.replaced(KafkaConsumer, "__next__", lambda _self: next(there)):
            return self.loops(topic, rate)


class Records:
    """Takes all records of a batch and keeps none."""

    def __init__(self) -> None:
        self.count = 0

    def append(self, *_record: object) -> object:
        """Take one."""
        self.count += 1
        return SimpleNamespace(size=200, offset=self.count - 1, timestamp=5, crc=None)

    def next_offset(self) -> int:
        """Return how many there are."""
        return self.count


@dataclass
class Row:
    """One line of the table: medians, us per message."""

    client: str
    operation: str
    rate: float
    clock: str
    bare: float
    contrib: float
    tracing: float
    ours: float

    @property
    def ratio(self) -> float:
        """What our tracing adds, as a share of what the official one adds."""
        return (self.tracing - self.bare) / (self.contrib - self.bare)

    @property
    def within(self) -> bool:
        """Whether it is within the budget, which is for the application's thread."""
        return self.clock != "thread" or self.ratio <= BUDGETS[self.rate]


def rows(bench: Bench, client: str) -> list[Row]:
    """Measure everything."""
    found = []
    for operation in ("send", "receive"):
        for rate in RATES:
            costs = getattr(bench, operation)(rate)
            for clock in ("thread", "process"):
                medians = {
                    variant: statistics.median(getattr(cost, clock) for cost in costs[variant]) for variant in VARIANTS
                }
                found.append(Row(client, operation, rate, clock, **medians))
            print(f"measured {client} {operation} at {rate:.0%}", file=sys.stderr)
    return found


def table(found: list[Row]) -> str:
    """Write the table as Markdown."""
    lines = [
        "| client | operation | sampled | CPU of | bare, us | contrib adds | tracing | ratio | budget | all of ours |",
        "|---|---|--:|---|--:|--:|--:|--:|---|--:|",
    ]
    for row in found:
        name = "send" if row.operation == "send" else "receive + process"
        budget = f"<= {BUDGETS[row.rate]} {'met' if row.within else 'MISSED'}" if row.clock == "thread" else ""
        lines.append(
            f"| {row.client} | {name} | {row.rate:.0%} | {row.clock} | {row.bare:.1f} | {row.contrib - row.bare:.1f} | "
            f"{row.tracing - row.bare:.1f} | {row.ratio:.2f} | {budget} | {row.ours - row.bare:.1f} |"
        )
    return "\n".join(lines)


def described(bench: Bench) -> str:
    """Say what it was measured on."""
    packages = ("kafka-python", "opentelemetry-sdk", "opentelemetry-instrumentation-kafka-python")
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        + ", ".join(f"{name} {version(name)}" for name in packages)
        + f"; medians of {bench.rounds} rounds of {bench.count} messages of {len(BODY)} bytes, variants interleaved."
    )


def main() -> int:
    """Measure and print; with --gate, return 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--gate", action="store_true", help="end with 1 when a budget is missed")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with embedded_broker({"sent": 1} | {f"received-{int(rate * 100)}": 1 for rate in RATES}) as bootstrap:
        count, rounds = (500, 5) if options.quick else (1_000, 21)
        bench = Bench(bootstrap, count, rounds)
        found = rows(StubbedBench(bootstrap, count, rounds), "stubbed") + rows(bench, "real")
    text = f"{described(bench)}\n\n{table(found)}"
    print(text)
    if options.write:
        page = PAGE.read_text("utf-8")
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}", "utf-8")
    return int(options.gate and not all(row.within for row in found))


if __name__ == "__main__":
    raise SystemExit(main())
