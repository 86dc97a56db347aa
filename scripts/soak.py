"""Whether anything grows: every client on the embedded broker, instrumented with all that there is, for minutes.

    python scripts/soak.py [--minutes 10] [--client confluent-poll ...]

Each way to use a client runs in a process of its own, one after the other: it sends, receives and sends on what it has
received, through new clients each second as well. Printed are the slope of the resident set and of the number of Python
objects after the first fifth of the time, by least squares, and how many messages went through. Nothing is exported.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

warnings.simplefilter("ignore", DeprecationWarning)
os.environ["OTEL_PIPELINE_HEALTH_STATE_FILE"] = "off"

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

ROOT = Path(__file__).parents[1]
BODY = b'{"id": 1, "amount": 2.5, "name": "a customer", "tags": ["a", "b"]}'
AT_ONCE = 100
LOOK_S = 2.0
WARM = 0.2
"""Share of the time in which caches and tables are filled."""


class Watch:
    """Looks at the process now and then, until the time is over."""

    def __init__(self, seconds: float) -> None:
        self._begun_s = self._looked_s = time.monotonic()
        self._seconds = seconds
        self.messages = 0
        self.looks: list[tuple[float, int, int]] = []
        """Seconds since the beginning, bytes, objects."""

    def goes_on(self, messages: int) -> bool:
        """Count messages, and tell whether there is time for more."""
        self.messages += messages
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
            self.looks.append((now_s - self._begun_s, pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects())))
        return now_s - self._begun_s < self._seconds

    def said(self) -> dict[str, float]:
        """Return what was found: slopes by minute."""
        kept = [look for look in self.looks if look[0] >= WARM * self._seconds]
        times = [at / 60 for at, _, _ in kept]
        return {
            "messages": self.messages,
            "rss_mib": kept[-1][1] / 2**20,
            "rss_kib_per_minute": slope(times, [size / 1024 for _, size, _ in kept]),
            "objects": kept[-1][2],
            "objects_per_minute": slope(times, [count for _, _, count in kept]),
        }


def slope(times: Sequence[float], values: Iterable[float]) -> float:
    """Return by how much the values grow per unit of time, by least squares."""
    found = list(values)
    mean_time, mean = sum(times) / len(times), sum(found) / len(found)
    spread = sum((at - mean_time) ** 2 for at in times)
    return sum((at - mean_time) * (value - mean) for at, value in zip(times, found, strict=True)) / (spread or 1)


def confluent(address: str, watch: Watch, take: Callable[[Any], list[Any]], *, shares: bool = False) -> None:
    """Produce, take by `take`, produce on; a short-lived producer each round."""
    import confluent_kafka

    common = {"bootstrap.servers": address, "log_level": 0}
    producer = confluent_kafka.Producer({**common, "linger.ms": 5})
    if shares:
        consumer: Any = confluent_kafka.ShareConsumer({**common, "group.id": "soak"})
    else:
        usual = {"group.id": "soak", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}
        consumer = confluent_kafka.Consumer({**common, **usual})
    consumer.subscribe(["soak"])
    while watch.goes_on(AT_ONCE):
        for _ in range(AT_ONCE):
            producer.produce("soak", BODY, key=b"k", headers=[("tenant", b"7")])
            producer.poll(0)
        producer.flush()
        taken = 0
        while taken < AT_ONCE and watch.goes_on(0):
            found = take(consumer)
            for message in found:
                producer.produce("next", message.value())
                taken += 1
        producer.flush()
        confluent_kafka.Producer(common).flush()
    consumer.close()


def poll(consumer: Any) -> list[Any]:
    """Take one."""
    message = consumer.poll(0.2)
    return [] if message is None or message.error() else [message]


def kafka_python(address: str, watch: Watch, *, iterates: bool) -> None:
    """Send, read by `for` or by `poll`, send on."""
    from kafka import KafkaConsumer, KafkaProducer

    from otel_pipeline.brokers.embedded import API_VERSION

    common = {"bootstrap_servers": address, "api_version": API_VERSION}
    producer = KafkaProducer(**common, linger_ms=5)
    usual = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 20, "consumer_timeout_ms": 200}
    consumer = KafkaConsumer("soak", group_id="soak", **common, **usual)
    consumer.partitions_for_topic("soak")
    while watch.goes_on(AT_ONCE):
        for _ in range(AT_ONCE):
            producer.send("soak", BODY, key=b"k", headers=[("tenant", b"7")])
        producer.flush()
        taken = 0
        while taken < AT_ONCE and watch.goes_on(0):
            batches = [consumer] if iterates else list(consumer.poll(200).values())
            for batch in batches:
                for message in batch:
                    producer.send("next", message.value)
                    taken += 1
                    if iterates and taken >= AT_ONCE:
                        break
        producer.flush()
    consumer.close()
    producer.close()


async def aiokafka(address: str, watch: Watch, way: str) -> None:
    """Send, read in one of three ways, send on; sometimes a batch of the application's own."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=5)
    consumer = AIOKafkaConsumer(
        "soak", bootstrap_servers=address, group_id="soak", auto_offset_reset="earliest", fetch_max_wait_ms=20
    )
    async with producer, consumer:
        while watch.goes_on(AT_ONCE):
            await asyncio.gather(*[await producer.send("soak", BODY, key=b"k") for _ in range(AT_ONCE)])
            taken = 0
            while taken < AT_ONCE and watch.goes_on(0):
                if way == "getmany":
                    batches: Any = (await consumer.getmany(timeout_ms=200)).values()
                    for message in [each for batch in batches for each in batch]:
                        await producer.send("next", message.value)
                        taken += 1
                elif way == "getone":
                    await producer.send("next", (await consumer.getone()).value)
                    taken += 1
                else:
                    async for message in consumer:
                        await producer.send("next", message.value)
                        taken += 1
                        if taken >= AT_ONCE:
                            break
            batch = producer.create_batch()
            while batch.append(timestamp=None, key=None, value=BODY) is not None:
                pass
            await (await producer.send_batch(batch, "built", partition=0))


async def confluent_aio(address: str, watch: Watch) -> None:
    """Produce, poll and produce on with confluent-kafka's asyncio clients."""
    from confluent_kafka.aio import AIOConsumer, AIOProducer

    common = {"bootstrap.servers": address, "log_level": 0}
    producer = AIOProducer(common, buffer_timeout=0)
    consumer = AIOConsumer(
        {**common, "group.id": "soak", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}, max_workers=2
    )
    await consumer.subscribe(["soak"])
    while watch.goes_on(AT_ONCE):
        answers = [await producer.produce("soak", BODY, key=b"k") for _ in range(AT_ONCE)]
        await producer.flush()
        await asyncio.gather(*answers)
        taken = 0
        while taken < AT_ONCE and watch.goes_on(0):
            message = await consumer.poll(0.2)
            if message is not None and message.error() is None:
                await producer.produce("next", message.value())
                taken += 1
        await producer.flush()
    await consumer.close()
    await producer.close()


def _awaited(function: Callable[..., Coroutine[Any, Any, None]], *more: Any) -> Callable[[str, Watch], None]:
    return lambda address, watch: asyncio.run(function(address, watch, *more))


CLIENTS: dict[str, tuple[str, Callable[[str, Watch], None]]] = {
    "kafka-python-for": ("kafka-python", lambda address, watch: kafka_python(address, watch, iterates=True)),
    "kafka-python-poll": ("kafka-python", lambda address, watch: kafka_python(address, watch, iterates=False)),
    "confluent-poll": ("confluent-kafka", lambda address, watch: confluent(address, watch, poll)),
    "confluent-consume": (
        "confluent-kafka",
        lambda address, watch: confluent(address, watch, lambda client: client.consume(AT_ONCE, 0.2)),
    ),
    "confluent-share": (
        "confluent-kafka",
        lambda address, watch: confluent(address, watch, lambda client: client.poll(0.2), shares=True),
    ),
    "confluent-aio": ("confluent-kafka", _awaited(confluent_aio)),
    "aiokafka-for": ("aiokafka", _awaited(aiokafka, "for")),
    "aiokafka-getone": ("aiokafka", _awaited(aiokafka, "getone")),
    "aiokafka-getmany": ("aiokafka", _awaited(aiokafka, "getmany")),
}


def soak(name: str, address: str, seconds: float, *, bare: bool) -> None:
    """Run one client, and print what was found as JSON."""
    import otel_pipeline

    library, run = CLIENTS[name]
    watch = Watch(seconds)
    pipe = None
    if not bare:
        os.environ["OTEL_TRACES_EXPORTER"] = os.environ["OTEL_METRICS_EXPORTER"] = os.environ["OTEL_LOGS_EXPORTER"] = (
            "none"
        )
        pipe = otel_pipeline.instrument("soak", environment="production", libraries=[library])
    before = Counter(type(each).__name__ for each in gc.get_objects())
    run(address, watch)
    gc.collect()
    grown = Counter(type(each).__name__ for each in gc.get_objects()) - before
    errors = {} if pipe is None else dict(pipe.status().errors)
    print(json.dumps({**watch.said(), "errors": errors, "grown": dict(grown.most_common(6))}))


def main() -> int:
    """Run each client in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each client")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="these alone")
    parser.add_argument("--bare", action="store_true", help="without instrumentation, to compare with")
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = options.minutes * 60
    if options.address:
        soak(options.client[0], options.address, seconds, bare=options.bare)
        return 0
    from otel_pipeline.brokers.embedded import embedded_broker

    print("| client | messages | RSS, MiB | RSS, KiB a minute | objects | objects a minute | failures |")
    print("|---|--:|--:|--:|--:|--:|---|", flush=True)
    for name in options.client or CLIENTS:
        with embedded_broker({"soak": 1, "next": 1, "built": 1}) as address:
            command = [sys.executable, __file__, "--minutes", str(options.minutes), "--client", name]
            command += ["--address", address, *(["--bare"] if options.bare else [])]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        row = [f"{found['messages']:,}", f"{found['rss_mib']:.1f}", f"{found['rss_kib_per_minute']:.1f}"]
        row += [f"{found['objects']:,}", f"{found['objects_per_minute']:.1f}", str(found["errors"] or "none")]
        print(f"| {name} | {' | '.join(row)} |", flush=True)
        print(f"{name}: {found['grown']}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
