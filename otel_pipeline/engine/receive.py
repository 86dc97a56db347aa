"""What happens when messages reach the application: each is counted, and each batch has one CLIENT span, with links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine.awaited_batch import hand_over, take_back
from otel_pipeline.engine.batch import Batch
from otel_pipeline.engine.delivery import ambient, heal
from otel_pipeline.engine.engine import with_error
from otel_pipeline.engine.headers import own_headers
from otel_pipeline.engine.links import CreationLinks
from otel_pipeline.engine.span_shape import SpanShape
from otel_pipeline.engine.spans import SPAN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.trace import Span

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.totals import AttributeValue


def receiver(
    engine: Engine, fields: MessageFields
) -> Callable[[Consumer, Sequence[Sequence[Any]], int, BaseException | None, bool], None]:
    """Make a function that is told what a call for messages returned.

    It is called with (consumer, batches of one partition each, started_ns, error, by_iterator); an iterator hands the
    messages out later, one by one. Nothing is recorded for a call that returned no message. It never raises.
    """
    place, monotonic_ns = engine.guard.place("receive"), engine.monotonic_ns

    def received(
        consumer: Consumer,
        batches: Sequence[Sequence[Any]],
        started_ns: int,
        error: BaseException | None = None,
        by_iterator: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        try:
            if consumer.excluded or not engine.active or place.off:
                return
            elapsed_ns = monotonic_ns() - started_ns
            if error is None:
                names = _count(engine, fields, consumer, batches)
                if not names:
                    return
            else:
                names = set()
            _record_batch(engine, consumer, names, elapsed_ns, error)
            if error is None and not by_iterator:
                _hand_out(engine, fields, consumer, batches)
            if error is None and engine.settings.receive_spans:
                span = _receive_span(engine, fields, consumer, batches, names, elapsed_ns)
                if consumer.batch is not None and not by_iterator:
                    consumer.batch.span = span
        except Exception:
            place.failed()

    return received


def _count(engine: Engine, fields: MessageFields, consumer: Consumer, batches: Sequence[Sequence[Any]]) -> set[str]:
    """Count each batch under its destination; returns the destinations that are not excluded."""
    names = set()
    for batch in batches:
        first = batch[0]
        destination = fields.destination(first)
        if engine.settings.excludes_destination(destination):
            continue
        consumer.partition(destination, fields.partition(first)).consumed.value += len(batch)
        names.add(destination)
    return names


def _record_batch(
    engine: Engine, consumer: Consumer, names: set[str], elapsed_ns: int, error: BaseException | None
) -> None:
    attributes: dict[str, AttributeValue] = {
        **consumer.metric_attributes,
        semconv.MESSAGING_OPERATION_NAME: consumer.operation,
        semconv.MESSAGING_OPERATION_TYPE: "receive",
    }
    if len(names) == 1:
        attributes[semconv.MESSAGING_DESTINATION_NAME] = engine.metric_destination(next(iter(names)))
    if error is not None:
        attributes = with_error(attributes, error)
    engine.operation_duration.local(attributes).cell.record(elapsed_ns / 1e9)


def _hand_out(engine: Engine, fields: MessageFields, consumer: Consumer, batches: Sequence[Sequence[Message]]) -> None:
    """Tell the observers about a batch, and remember it for what is sent before the next one."""
    if engine.observe is None or engine.guard.place("batch").off:
        return
    now_ms = engine.clock_ns() // 1_000_000
    batch = Batch()
    for messages in batches:
        first = messages[0]
        state = consumer.partitions.get((fields.destination(first), fields.partition(first)))
        if state is None or state.observer is None:
            continue
        headers = own_headers(fields.headers, messages)
        origins_ms = state.observer.batch(messages, headers, now_ms)
        batch.add(state.observer, fields.offset(messages[-1]), headers, origins_ms)
    if batch.parts:
        hand_over(consumer, batch, engine.guard)


def _receive_span(
    engine: Engine,
    fields: MessageFields,
    consumer: Consumer,
    batches: Sequence[Sequence[Any]],
    names: set[str],
    elapsed_ns: int,
) -> Span | None:
    """Make one CLIENT span per batch, once it is known that there were messages."""
    context = ambient(heal())
    parent: Any = context.get(SPAN_KEY)
    if engine.suppressed(context):
        return None
    dropped = engine.spans.dropped(parent)
    if dropped is not None:
        return dropped
    judged = [batch for batch in batches if fields.destination(batch[0]) in names]
    attributes: dict[str, AttributeValue] = {
        **consumer.attributes,
        semconv.MESSAGING_OPERATION_NAME: consumer.operation,
        semconv.MESSAGING_OPERATION_TYPE: "receive",
        semconv.MESSAGING_BATCH_MESSAGE_COUNT: sum(map(len, judged)),
    }
    name = consumer.operation
    if len(names) == 1:
        destination = next(iter(names))
        attributes[semconv.MESSAGING_DESTINATION_NAME] = destination
        name = f"{name} {destination}"
        if len(judged) == 1 and fields.names.partition is not None:
            attributes[fields.names.partition] = str(fields.partition(judged[0][0]))
    end_ns = engine.clock_ns()
    links = CreationLinks(engine, fields, judged)
    shape = SpanShape(name, SpanKind.CLIENT, attributes)
    span = engine.spans.start(shape, (), parent, context, links, end_ns - elapsed_ns)
    span.end(end_ns)
    return span


def leave_batch(engine: Engine, consumer: Consumer, batch: Batch | None = None) -> None:
    """End the batch, the consumer's or this one: more is asked for, so what was there is processed. Never raises."""
    try:
        batch = consumer.batch if batch is None else batch
        if batch is None:
            return
        take_back(consumer, batch)
        if not consumer.explicit:
            now_ms = engine.clock_ns() // 1_000_000
            for observer, offset, origins_ms in batch.parts:
                observer.processed_batch(offset, origins_ms, now_ms)
    except Exception:
        engine.guard.place("batch").failed()
