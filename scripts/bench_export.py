"""What it costs to make OTLP of spans, log records and metrics: ours beside the SDK's encoder, interleaved in one run.

    python scripts/bench_export.py [--rounds 15]

Thread CPU of a batch of 512, serialized, the least of some rounds; quote the ratios. Metrics are what 100 destinations
have, 34 series each.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from otel_pipeline.export.log_records import Emission, Entry
from otel_pipeline.export.otlp.encoder import encode
from otel_pipeline.export.otlp.http import compressed
from otel_pipeline.export.processors import CountedLogs

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 512
RESOURCE = Resource(
    {"service.name": "service", "service.instance.id": "1", "deployment.environment.name": "production"}
)
STACK = 'Traceback (most recent call last):\n  File "app.py", line 1, in <module>\n' * 10
SERIES = 34
TOPICS = 100


def spans(kind: str) -> list[ReadableSpan]:
    """Make a batch of one kind."""
    tracer = TracerProvider(resource=RESOURCE, shutdown_on_exit=False).get_tracer("scope", "1")
    made = []
    for number in range(COUNT):
        remote = SpanContext(1 << 127 | number, number + 1, is_remote=True, trace_flags=TraceFlags(1))
        parent = trace.set_span_in_context(NonRecordingSpan(remote))
        span = tracer.start_span(f"{kind} orders", parent, **ATTRIBUTES[kind](number, remote))  # type: ignore[arg-type]
        if kind == "failed":
            span.add_event("exception", {"exception.type": "ValueError", "exception.stacktrace": STACK})
            span.set_status(Status(StatusCode.ERROR, "no"))
        span.end()
        made.append(span._readable_span())  # type: ignore[attr-defined]
    return made


ATTRIBUTES: dict[str, Callable[[int, SpanContext], dict[str, Any]]] = {
    "bare": lambda _number, _remote: {},
    "http": lambda number, _remote: {
        "attributes": {
            "http.request.method": "GET",
            "url.full": f"https://shop.example/orders/{number}",
            "http.response.status_code": 200,
            "server.address": "shop.example",
            "server.port": 443,
        }
    },
    "process": lambda number, remote: {
        "attributes": {
            **{f"messaging.attribute.{at}": f"value {at}" for at in range(11)},
            "messaging.kafka.offset": number,
            "otel_pipeline.data.age": number / 7,
            "otel_pipeline.delivery.age": number / 9,
            "otel_pipeline.hops": 1,
        },
        "links": [Link(remote)],
    },
    "failed": lambda _number, _remote: {"attributes": {"error.type": "ValueError"}},
    "pull": lambda _number, remote: {"links": [Link(remote)] * 100},
}


def log_records() -> list[Any]:
    """Make a batch as stdlib's logging gives it to us."""
    kept: list[Any] = []

    class Keep(CountedLogs):
        def __init__(self) -> None:
            pass

        def on_emit(self, log_record: Any) -> None:
            kept.append(log_record)

        emit = on_emit

        def shutdown(self) -> None:
            pass

    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(Keep())
    emission = Emission(provider, "production", 0)
    for number in range(COUNT):
        entry = Entry(
            "app", 1, 20, "INFO", f"order {number} is done", "app.py", "work", number, None, {"order": number}
        )
        emission.emit(lambda _source, entry=entry: entry, None)  # type: ignore[misc]
    return kept


def metrics() -> Any:
    """Make a collection: 34 series of each of 100 destinations, a third of them histograms."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], RESOURCE, shutdown_on_exit=False).get_meter("otel_pipeline")
    for series in range(SERIES):
        name = f"otel_pipeline.metric.{series}"
        record = meter.create_histogram(name, "s").record if series % 3 == 0 else meter.create_counter(name).add
        for topic in range(TOPICS):
            where = {"messaging.destination.name": f"topic {topic}", "messaging.destination.partition.id": "0"}
            record(1, {"messaging.system": "kafka", "messaging.consumer.group.name": "group", **where})
    return reader.get_metrics_data()


def least(encoders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least thread CPU of each, in ns."""
    found = dict.fromkeys(encoders, float("inf"))
    for _ in range(rounds):
        for name, run in encoders.items():
            run()  # Each finds its own in the caches, and not what the other one has left there.
            before = time.thread_time_ns()
            run()
            found[name] = min(found[name], time.thread_time_ns() - before)
    return found


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    batches: dict[str, tuple[Any, Any, Any, int]] = {
        **{f"span: {kind}": ("traces", encode_spans, spans(kind), COUNT) for kind in ATTRIBUTES},
        "log record": ("logs", encode_logs, log_records(), COUNT),
        "metric point": ("metrics", encode_metrics, metrics(), SERIES * TOPICS),
    }
    print(f"{'':14} {'SDK, us':>9} {'ours, us':>9} {'ratio':>6} {'bytes':>6} {'sent':>6} {'gzip, us':>9}")
    for name, (signal, theirs, batch, items) in batches.items():
        body = encode(signal, batch).body
        found = least(
            {
                "SDK": partial(lambda theirs, batch: theirs(batch).SerializeToString(), theirs, batch),
                "ours": partial(encode, signal, batch),
                "gzip": partial(compressed, body, "gzip"),
            },
            rounds,
        )
        each = {key: value / items / 1000 for key, value in found.items()}
        sent = len(compressed(body, "gzip")) / items
        ratio = each["SDK"] / each["ours"]
        print(
            f"{name:14} {each['SDK']:9.2f} {each['ours']:9.2f} {ratio:6.1f} {len(body) / items:6.0f} {sent:6.0f} "
            f"{each['gzip']:9.2f}"
        )


if __name__ == "__main__":
    main()
