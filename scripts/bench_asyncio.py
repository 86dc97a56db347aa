"""Added cost per message of aiokafka: bare, the official instrumentation and ours, interleaved in one run.

    python scripts/bench_asyncio.py [--quick]

CPU time of the thread that the event loop runs in, with the real client on the embedded broker; spans are made and
thrown away, since exporters have threads of their own. Needs opentelemetry-instrumentation-aiokafka. Quote ratios:
single times depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

warnings.simplefilter("ignore", DeprecationWarning)
os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: E402
from bench import BODY, VARIANTS  # noqa: E402
from bench import _Providers as _Exporting  # noqa: E402
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor  # noqa: E402
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: E402

import otel_pipeline  # noqa: E402
from otel_pipeline.brokers.embedded import embedded_broker  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

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
        AIOKafkaInstrumentor().instrument(tracer_provider=providers.tracer_provider, skip_dep_check=True)
        try:
            yield
        finally:
            AIOKafkaInstrumentor().uninstrument()
    else:
        pipe = otel_pipeline.instrument("bench", environment="production", libraries=["aiokafka"], _providers=providers)
        engine = pipe._engine
        if variant == "tracing" and engine is not None:
            engine.observe = engine.observe_fetches = engine.check_sent = None
        try:
            yield
        finally:
            pipe.uninstrument()


async def fill(address: str, topic: str, count: int) -> None:
    """Send so many messages in one batch, so that one call returns as many as it is asked for."""
    async with AIOKafkaProducer(bootstrap_servers=address, linger_ms=500, max_batch_size=900_000) as producer:
        await asyncio.gather(*[await producer.send(topic, BODY, partition=0) for _ in range(count)])


async def send(address: str, count: int) -> float:
    """Return the CPU time of one send and its acknowledgement, us."""
    async with AIOKafkaProducer(bootstrap_servers=address, linger_ms=20) as producer:
        await producer.send_and_wait("sent", BODY, partition=0)
        begun = time.thread_time_ns()
        await asyncio.gather(*[await producer.send("sent", BODY, partition=0) for _ in range(count)])
        return (time.thread_time_ns() - begun) / 1000 / count


async def receive(address: str, count: int, ask: Callable[[AIOKafkaConsumer], Awaitable[int]]) -> float:
    """Return the CPU time of one message, us."""
    async with AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("received", 0)])
        left, begun = count, time.thread_time_ns()
        while left > 0:
            left -= await ask(consumer)
        return (time.thread_time_ns() - begun) / 1000 / count


async def one(consumer: AIOKafkaConsumer) -> int:
    """Receive one message."""
    await consumer.getone()
    return 1


async def many(consumer: AIOKafkaConsumer) -> int:
    """Receive many messages, and loop over them."""
    seen = 0
    for messages in (await consumer.getmany(timeout_ms=200, max_records=AT_ONCE)).values():
        for _message in messages:
            seen += 1
    return seen


OPERATIONS: dict[str, Callable[[str, int], Any]] = {
    "send": send,
    "getone": lambda address, count: receive(address, count, one),
    f"getmany({AT_ONCE})": lambda address, count: receive(address, count, many),
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
            asyncio.run(fill(address, "received", count))
        for name, measure in OPERATIONS.items():
            theirs, ours, costs = _Providers(), _Providers(ours=True), {variant: list[float]() for variant in VARIANTS}
            for at in range(rounds + 1):
                for variant in VARIANTS:
                    providers = ours if variant in {"tracing", "ours"} else theirs
                    with instrumented(variant, providers):
                        cost = asyncio.run(measure(address, count))
                    if at:  # The first round warms up.
                        costs[variant].append(cost)
            bare, *added = (statistics.median(costs[variant]) for variant in VARIANTS)
            contrib, tracing, everything = (cost - bare for cost in added)
            ratios = [f"{each:.1f} | {each / contrib:.2f}" for each in (tracing, everything)]
            print(f"| {name} | {bare:.1f} | {contrib:.1f} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
