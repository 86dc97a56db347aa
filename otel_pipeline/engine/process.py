"""The application handles a message: one CONSUMER span, child of what created the message, current meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from otel_pipeline import semconv
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.engine import error_type, with_error
from otel_pipeline.engine.flow import DELIVERY_KEY, Flow, OpenDelivery, ambient, execution, heal, merge
from otel_pipeline.engine.receive import CreationLinks
from otel_pipeline.engine.send import key_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.receive import PartitionState
    from otel_pipeline.engine.totals import AttributeValue


def flow_of(headers: Any, timestamp_ms: int) -> Flow:
    """Where a message's data began: its header tells, else its own time; 0 is unknown."""
    if headers:
        for name, value in headers:
            if name == pipeline_header.NAME:
                header = pipeline_header.decode(value)
                if header is not None:
                    return Flow(header.origin_ms, header.newest_ms, header.hops, header.environment, header.path)
                break
    origin_ms = timestamp_ms if isinstance(timestamp_ms, int) and timestamp_ms > 0 else 0
    return Flow(origin_ms, origin_ms, 1, None, 0)


class Processor:
    """Begins and finishes deliveries of one client's messages. One message at a time, or a batch as one span."""

    __slots__ = ("_engine", "_fields")

    def __init__(self, engine: Engine, fields: MessageFields) -> None:
        self._engine = engine
        self._fields = fields

    def begin(self, state: PartitionState, message: Message, *, current: bool = True) -> OpenDelivery | None:
        """Start the span of one message; None where nothing is to be recorded. Never raises."""
        engine = self._engine
        try:
            context = heal()
            if engine.suppressed(context):
                return None
            return self._begin(state, message, context, current=current)
        except Exception:
            engine.guard.failed("process")
            return None

    def _begin(self, state: PartitionState, message: Message, context: Context, *, current: bool) -> OpenDelivery:
        engine, fields, settings = self._engine, self._fields, self._engine.settings
        headers = fields.headers(message)
        timestamp_ms = fields.timestamp_ms(message)
        flow = flow_of(headers, timestamp_ms)
        start_ns = engine.clock_ns()
        offset = fields.offset(message)
        attributes: dict[str, AttributeValue] = {**state.attributes, semconv.MESSAGING_KAFKA_OFFSET: offset}
        if settings.message_key:
            text = key_text(fields.key(message))
            if text is not None:
                attributes[semconv.MESSAGING_KAFKA_MESSAGE_KEY] = text
        if fields.body_bytes(message) < 0:
            attributes[semconv.MESSAGING_KAFKA_MESSAGE_TOMBSTONE] = True
        if isinstance(timestamp_ms, int) and timestamp_ms > 0:
            attributes[semconv.OTEL_PIPELINE_DELIVERY_AGE] = start_ns / 1e9 - timestamp_ms / 1e3
        _describe_flow(attributes, flow, start_ns)
        context = ambient(context)
        own, links = _parent(engine, headers, context, flow, start_ns)
        span = engine.start_span(state.span_name, SpanKind.CONSUMER, own, attributes, links, start_ns)
        delivery = OpenDelivery()
        delivery.traceparent = engine.propagation.find(headers) if headers else None
        delivery.message = message
        delivery.flow = flow
        delivery.state = state
        delivery.destination, delivery.partition, delivery.offset = state.destination, state.partition, offset
        self._open(delivery, span, own, context, start_ns, current=current)
        hook = settings.hooks.get("process")
        if hook is not None and span.is_recording():
            engine.guarded(hook, span, message)
        return delivery

    def begin_batch(self, states: Sequence[PartitionState], messages: Sequence[Message]) -> OpenDelivery | None:
        """Start one span for a batch: linked to every sampled creation context, child of none of them."""
        engine = self._engine
        try:
            context = heal()
            if engine.suppressed(context):
                return None
            return self._begin_batch(states, messages, ambient(context))
        except Exception:
            engine.guard.failed("process")
            return None

    def _begin_batch(
        self, states: Sequence[PartitionState], messages: Sequence[Message], context: Context
    ) -> OpenDelivery:
        engine, fields = self._engine, self._fields
        start_ns = engine.clock_ns()
        attributes = _common(states)
        attributes[semconv.MESSAGING_BATCH_MESSAGE_COUNT] = len(messages)
        flow = merge([flow_of(fields.headers(message), fields.timestamp_ms(message)) for message in messages])
        _describe_flow(attributes, flow, start_ns)
        destinations = {state.destination for state in states}
        name = states[0].span_name if len(destinations) == 1 else "process"
        links = CreationLinks(engine, fields.headers, (messages,))
        span = engine.start_span(name, SpanKind.CONSUMER, context, attributes, links, start_ns)
        delivery = OpenDelivery()
        delivery.traceparent = None
        delivery.message = messages
        delivery.flow = flow
        delivery.state = states[0]
        delivery.destination = states[0].destination
        delivery.partition = delivery.offset = None
        self._open(delivery, span, context, context, start_ns, current=True)
        hook = engine.settings.hooks.get("process")
        if hook is not None and span.is_recording():
            engine.guarded(hook, span, messages)
        return delivery

    def _open(
        self, delivery: OpenDelivery, span: Any, context: Context, before: Context, start_ns: int, *, current: bool
    ) -> None:
        delivery.span = span
        delivery.before = before
        delivery.start_ns = start_ns
        delivery.started_ns = self._engine.monotonic_ns()
        delivery.ended = False
        delivery.error = None
        delivery.own = set_value(DELIVERY_KEY, delivery, set_span_in_context(span, context))
        delivery.execution = execution() if current else None
        if current:
            attach(delivery.own)  # Without a token: see flow.py.

    def finish(self, delivery: OpenDelivery, error: BaseException | None = None) -> None:
        """End the span and leave its context. Safe to call twice and from another thread; never raises."""
        if delivery.ended:
            return
        delivery.ended = True
        engine = self._engine
        try:
            delivery.message = None
            error = error or delivery.error
            delivery.error = None
            elapsed_ns = engine.monotonic_ns() - delivery.started_ns
            span = delivery.span
            state: PartitionState = delivery.state
            if error is None:
                state.process_duration.cell.record(elapsed_ns / 1e9)
            else:
                attributes = with_error(state.process_attributes, error)
                engine.process_duration.local(attributes).cell.record(elapsed_ns / 1e9)
                if span.is_recording():
                    span.record_exception(error)
                    span.set_attribute(semconv.ERROR_TYPE, error_type(error))
                    span.set_status(Status(StatusCode.ERROR, str(error)))
            span.end(delivery.start_ns + elapsed_ns)
            heal()
        except Exception:
            engine.guard.failed("process.finish")


def _describe_flow(attributes: dict[str, AttributeValue], flow: Flow, now_ns: int) -> None:
    if flow.origin_ms > 0:
        attributes[semconv.OTEL_PIPELINE_DATA_AGE] = now_ns / 1e9 - flow.origin_ms / 1e3
    if flow.environment is not None:
        attributes[semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT] = flow.environment
    attributes[semconv.OTEL_PIPELINE_HOPS] = flow.hops


def _common(states: Sequence[PartitionState]) -> dict[str, AttributeValue]:
    """The attributes that hold for every message of the batch."""
    first, *others = states
    return {
        name: value
        for name, value in first.attributes.items()
        if all(other.attributes.get(name) == value for other in others)
    }


def _parent(
    engine: Engine, headers: Any, context: Context, flow: Flow, now_ns: int
) -> tuple[Context, tuple[Link, ...]]:
    """The context to start the process span in, and its links: the creation context always (TELEMETRY.md)."""
    settings = engine.settings
    read = engine.propagation.read(headers, context) if headers else context
    created = get_current_span(read).get_span_context()
    around = get_current_span(context)
    around_context = around.get_span_context()
    if read is context or not created.is_valid or created is around_context:
        return context, ()
    too_far = flow.hops > settings.max_hops or (
        flow.origin_ms > 0 and now_ns // 1_000_000 - flow.origin_ms > settings.parent_max_age_ms
    )
    links: tuple[Link, ...] = (Link(created),)
    if settings.process_parent == "ambient" and around_context.is_valid:
        return set_span_in_context(around, read), links
    if too_far or settings.process_parent == "link":
        return set_span_in_context(INVALID_SPAN, read), _with_ambient(links, around_context)
    return read, _with_ambient(links, around_context)


def _with_ambient(links: tuple[Link, ...], around: SpanContext) -> tuple[Link, ...]:
    return (*links, Link(around)) if around.is_valid else links
