"""What a span costs while it waits to be exported, and at which rate spans are lost: ours beside the SDK's.

    python scripts/bench_queue.py [--seconds 2]

A process span with 15 attributes and a link. First bytes, as tracemalloc counts them, while nothing is exported. Then
one thread makes spans at rates that grow by a half; each processor has its default queue and its encoder, and a server
that answers at once: what is handed to the exporter, of what was ended.
"""

from __future__ import annotations

import argparse
import logging
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from otel_pipeline.engine.span_shape import SpanShape
from otel_pipeline.engine.trace_context import LightSpan
from otel_pipeline.export.accounting import Account
from otel_pipeline.export.border import Border
from otel_pipeline.export.compiled_spans import make
from otel_pipeline.export.losses import Losses
from otel_pipeline.export.otlp.encoder import encode
from otel_pipeline.export.processors import CountedSpans
from otel_pipeline.export.providers import SPOOL_DELAY_MS, SPOOL_QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

WAITING = 5_000
FIRST_RATE = 1_000.0
CONSTANT = {f"messaging.attribute.{at}": f"value {at}" for at in range(11)}
OWN = ("messaging.kafka.offset", "otel_pipeline.data.age", "otel_pipeline.delivery.age", "otel_pipeline.hops")
SHAPE = SpanShape("process orders", SpanKind.CONSUMER, CONSTANT, OWN)


class Encodes(SpanExporter):
    """An exporter to a server that answers at once."""

    def __init__(self, write: Callable[[Sequence[ReadableSpan]], object]) -> None:
        self.write, self.taken = write, 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode."""
        self.write(spans)
        self.taken += len(spans)
        return SpanExportResult.SUCCESS


def official(exporter: SpanExporter, **queue: Any) -> tuple[TracerProvider, Callable[[int], None]]:
    """Make the SDK's, and what makes and ends one span."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, **queue))
    start = provider.get_tracer("bench").start_span

    def span(number: int) -> None:
        sender = SpanContext(1 << 127 | number, number + 1, is_remote=True, trace_flags=TraceFlags(1))
        attributes = {**CONSTANT, OWN[0]: number, OWN[1]: number / 7, OWN[2]: number / 9, OWN[3]: 1}
        parent = set_span_in_context(NonRecordingSpan(sender))
        start(SHAPE.name, parent, SHAPE.kind, attributes, [Link(sender)], number).end()

    return provider, span


def ours(exporter: SpanExporter, **queue: Any) -> tuple[TracerProvider, Callable[[int], None]]:
    """Make ours, and what makes and ends one span."""
    provider = TracerProvider(shutdown_on_exit=False)
    border = Border(exporter, Account("traces", "http://localhost", {}), Losses(), lambda *_: None)
    with_spool = {"max_queue_size": SPOOL_QUEUE, "schedule_delay_millis": SPOOL_DELAY_MS}
    provider.add_span_processor(CountedSpans(border, **{**with_spool, **queue}))
    start, context = make(provider, provider.get_tracer("bench")).start, Context()

    def span(number: int) -> None:
        sender = LightSpan(1 << 127 | number, number + 1, 1, True)
        start(SHAPE, (number, number / 7, number / 9, 1), sender, context, (sender,), number).end()

    return provider, span


def bytes_of(kind: Callable[..., Any]) -> float:
    """Return what one span holds while nothing is exported."""
    held = {"max_queue_size": 2 * WAITING, "max_export_batch_size": 2 * WAITING, "schedule_delay_millis": 3_600_000}
    provider, span = kind(Encodes(lambda _spans: None), **held)
    for number in range(100):
        span(number)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(WAITING):
        span(number)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    provider.shutdown()
    return (after - before) / WAITING


def at_rate(kind: Callable[..., Any], write: Callable[[Any], object], rate: float, seconds: float) -> tuple[float, int]:
    """Return spans a second, which may be fewer than asked for, and how many the exporter was not given."""
    exporter = Encodes(write)
    provider, span = kind(exporter)
    ended, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if ended > (now - began) * rate:
            time.sleep(0.001)
            continue
        for number in range(20):
            span(number)
        ended += 20
    took = time.monotonic() - began
    provider.shutdown()
    return ended / took, ended - exporter.taken


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    logging.disable()  # That it drops spans, the SDK says itself.
    kinds: dict[str, tuple[Callable[..., Any], Callable[[Any], object]]] = {
        "SDK": (official, lambda spans: encode_spans(spans).SerializeToString()),
        "ours": (ours, lambda spans: encode("traces", spans)),
    }
    for name, (kind, write) in kinds.items():
        print(f"{name}: {bytes_of(kind):.0f} bytes a queued span")
        asked = FIRST_RATE
        while True:
            reached, lost = at_rate(kind, write, asked, seconds)
            print(f"  {reached:.0f} spans a second, {lost} lost")
            if lost or reached < 0.7 * asked:
                break
            asked *= 1.5


if __name__ == "__main__":
    main()
