"""Added cost per message of confluent-kafka: bare, the official instrumentation and ours, interleaved in one run.

    python scripts/bench_confluent.py [--quick]

CPU time of the application's thread, with the real client on the embedded broker; spans are made and thrown away, since
exporters have threads of their own. Needs opentelemetry-instrumentation-confluent-kafka. Quote ratios: single times
depend on the machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

warnings.simplefilter("ignore", DeprecationWarning)
os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"

import confluent_kafka  # noqa: E402
from bench import BODY, VARIANTS  # noqa: E402
from bench import _Providers as _Exporting  # noqa: E402
from confluent_kafka import TopicPartition  # noqa: E402
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor  # noqa: E402
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: E402

import otel_pipeline  # noqa: E402
from otel_pipeline.brokers.embedded import embedded_broker  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_ONCE = 500


class _Providers(_Exporting):
    """Those of the other bench; contrib's are without an exporter."""

    def __init__(self, *, ours: bool = False) -> None:
        super().__init__(1.0, ours=ours)
        if ours:
            return
        self.tracer_provider.shutdown()
        self.tracer_provider = TracerProvider(ParentBased(TraceIdRatioBased(1.0)), shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SpanProcessor())


@contextmanager
def instrumented(variant: str, providers: _Providers) -> Iterator[None]:
    """Instrument by one of the four variants, while the `with` lasts."""
    if variant == "bare":
        yield
    elif variant == "contrib":
        ConfluentKafkaInstrumentor().instrument(tracer_provider=providers.tracer_provider, skip_dep_check=True)
        try:
            yield
        finally:
            ConfluentKafkaInstrumentor().uninstrument()
    else:
        libraries = ["confluent-kafka"]
        pipe = otel_pipeline.instrument("bench", environment="production", libraries=libraries, _providers=providers)
        engine = pipe._engine
        if variant == "tracing" and engine is not None:
            engine.observe = engine.observe_fetches = engine.check_sent = None
        try:
            yield
        finally:
            pipe.uninstrument()


def produce(address: str, count: int, topic: str = "sent") -> float:
    """Return the CPU time of one message, until it is acknowledged, us."""
    # By its name in the module, where the official instrumentation puts its own class.
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 20, "log_level": 0})
    producer.produce(topic, BODY, partition=0)
    producer.flush()
    begun = time.thread_time_ns()
    for _ in range(count):
        producer.produce(topic, BODY, partition=0)
        producer.poll(0)
    producer.flush()
    return (time.thread_time_ns() - begun) / 1000 / count


def receive(address: str, count: int, ask: Callable[[Any], int]) -> float:
    """Return the CPU time of one message, us."""
    settings = {"bootstrap.servers": address, "group.id": "bench", "enable.auto.commit": False, "log_level": 0}
    consumer = confluent_kafka.Consumer(settings)
    consumer.assign([TopicPartition("received", 0, 0)])
    time.sleep(0.5)  # All of them are in the client's queue: its waiting is nobody's cost.
    left, begun = count, time.thread_time_ns()
    while left > 0:
        left -= ask(consumer)
    took_ns = time.thread_time_ns() - begun
    consumer.close()
    return took_ns / 1000 / count


def one(consumer: Any) -> int:
    """Receive one message."""
    return consumer.poll(1) is not None


def many(consumer: Any) -> int:
    """Receive many messages, and loop over them."""
    seen = 0
    for _message in consumer.consume(AT_ONCE, 1):
        seen += 1
    return seen


OPERATIONS: dict[str, Callable[[str, int], float]] = {
    "produce, and its answer": produce,
    "poll": lambda address, count: receive(address, count, one),
    f"consume({AT_ONCE}) and a loop over it": lambda address, count: receive(address, count, many),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    count, rounds = (1_000, 5) if options.quick else (3_000, 11)
    print(
        "| operation | bare, us | contrib adds | tracing | ratio | all of ours | ratio |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    with embedded_broker({"sent": 1, "received": 1}) as address:
        with instrumented("ours", _Providers(ours=True)):
            produce(address, count, "received")
        for name, measure in OPERATIONS.items():
            theirs, ours, costs = _Providers(), _Providers(ours=True), {variant: list[float]() for variant in VARIANTS}
            for at in range(rounds + 1):
                for variant in VARIANTS:
                    providers = ours if variant in {"tracing", "ours"} else theirs
                    with instrumented(variant, providers):
                        cost = measure(address, count)
                    if at:  # The first round warms up.
                        costs[variant].append(cost)
            bare, *added = (statistics.median(costs[variant]) for variant in VARIANTS)
            contrib, tracing, everything = (cost - bare for cost in added)
            ratios = [f"{each:.1f} | {each / contrib:.2f}" for each in (tracing, everything)]
            print(f"| {name} | {bare:.1f} | {contrib:.1f} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
