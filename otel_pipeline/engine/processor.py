"""The application handles a message: one CONSUMER span, child of what created the message, current meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from otel_pipeline import semconv
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.batch import own_header
from otel_pipeline.engine.delivery import DELIVERY_KEY, OpenDelivery, ambient, execution, heal
from otel_pipeline.engine.engine import error_type, with_error
from otel_pipeline.engine.exemplars import EXEMPLARS_APART_NS
from otel_pipeline.engine.origin import Origin, merge, origin_of
from otel_pipeline.engine.receive import CreationLinks
from otel_pipeline.engine.send import key_text
from otel_pipeline.engine.spans import SPAN_KEY, LightLink, LightSpan
from otel_pipeline.engine.trust import sampled_trace, unsampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Span

    from otel_pipeline.engine.clients import PartitionState
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.totals import AttributeValue

_CONSUMER = SpanKind.CONSUMER  # Looking an enumeration's member up costs as much as a call.


class Processor:
    """Begins and finishes deliveries of one client's messages. One message at a time, or a batch as one span."""

    __slots__ = (
        "_add_exemplar",
        "_clock_ns",
        "_dropped",
        "_engine",
        "_fields",
        "_headers",
        "_hook",
        "_incoming",
        "_monotonic_ns",
        "_next_exemplar_ns",
        "_offset",
        "_parent_of_process",
        "_spans",
        "_timestamp_ms",
        "_totals",
    )

    def __init__(self, engine: Engine, fields: MessageFields) -> None:
        self._engine = engine
        self._fields = fields
        self._spans = engine.spans
        self._clock_ns, self._monotonic_ns = engine.clock_ns, engine.monotonic_ns
        self._incoming = engine.propagation.incoming
        self._headers, self._timestamp_ms, self._offset = fields.headers, fields.timestamp_ms, fields.offset
        self._parent_of_process = engine.settings.process_parent
        self._hook = engine.settings.hooks.get("process")
        self._totals = engine.totals
        self._next_exemplar_ns = 0
        self._add_exemplar = engine.exemplars.add

    def begin(self, state: PartitionState, message: Message, *, current: bool = True) -> OpenDelivery | None:
        """Start the span of one message; None where nothing is to be recorded. Never raises."""
        engine = self._engine
        try:
            context = get_current()
            if context:
                context = ambient(heal())
                if engine.suppressed(context):
                    return None
            if not engine.active:
                return None
            start_ns = self._clock_ns()
            headers = self._headers(message)
            if headers:
                created, inside, carried, header = self._incoming(headers, context)
            else:
                created = carried = header = None
                inside = context
            delivery = OpenDelivery(state, message, self._timestamp_ms(message), carried, header)
            delivery.offset = self._offset(message)
            around: Any = context.get(SPAN_KEY) if context else None
            parent = created
            if created is None or not state.sender_is_parent or self._too_far(delivery, start_ns):
                parent = self._parent(delivery, created, around, start_ns)
            span: Span | None = self._spans.dropped(parent)
            if span is None and state.is_foreign is not None and parent is not None and parent is created:
                parent = self._as_permitted(delivery, parent, inside, start_ns)
                span = self._spans.dropped(parent)
            if span is None:
                attributes = self._attributes(delivery, start_ns)
                links = _links(created, around, parent)
                span = self._spans.start(state.span_name, _CONSUMER, parent, inside, attributes, links, start_ns)
            self._open(delivery, span, inside, context, start_ns, current=current)
        except Exception:
            engine.guard.failed("process")
            return None
        if self._hook is not None and span.is_recording():
            engine.guarded(self._hook, span, message)
        return delivery

    def _too_far(self, delivery: OpenDelivery, now_ns: int) -> bool:
        """Whether the sender's trace would last too long or go in circles."""
        settings = self._engine.settings
        oldest_ms = delivery.timestamp_ms
        if delivery.header is not None:
            hops = pipeline_header.hops_of(delivery.header)
            if hops > settings.max_hops:
                return True
            if hops > 1:  # At the first hop the data is as old as the message.
                oldest_ms = delivery.origin.origin_ms
        return isinstance(oldest_ms, int) and 0 < oldest_ms < now_ns // 1_000_000 - settings.parent_max_age_ms

    def _parent(self, delivery: OpenDelivery, created: Span | None, around: Span | None, start_ns: int) -> Span | None:
        """The parent where it takes more to know: the sender's span, the application's own one, or none."""
        if created is None or self._parent_of_process == "ambient":
            if around is not None and around.get_span_context().is_valid:
                return around
            if created is None:
                return None
        if self._parent_of_process == "link" or self._too_far(delivery, start_ns):
            return None
        state: PartitionState = delivery.state
        return created if state.continues is None or state.continues(delivery.header) else None

    def _as_permitted(self, delivery: OpenDelivery, created: Span, inside: Context, start_ns: int) -> Span:
        """The sender's span; of another environment's without its sampled flag, where that is not permitted.

        The sampler is asked first. What it records anyway must not use up the rate, or of two services in a row the
        second would refuse what the first has let through.
        """
        state: PartitionState = delivery.state
        trace_id = sampled_trace(created)
        if trace_id is None or state.is_foreign is None or not state.is_foreign(delivery.header):
            return created
        recorded = self._spans.samples_root(
            trace_id,
            state.span_name,
            _CONSUMER,
            inside,
            self._attributes,
            delivery,
            start_ns,
        )
        foreign_traces = self._engine.foreign_traces
        if recorded or foreign_traces.admit(trace_id, self._monotonic_ns()):
            return created
        foreign_traces.refused += 1
        return unsampled(created)

    def _attributes(self, delivery: OpenDelivery, start_ns: int) -> dict[str, AttributeValue]:
        fields, message = self._fields, delivery.message
        attributes: dict[str, AttributeValue] = delivery.state.attributes.copy()
        names = fields.names
        if names.offset is not None:
            attributes[names.offset] = delivery.offset or 0
        if names.key is not None and self._engine.settings.message_key:
            text = key_text(fields.key(message))
            if text is not None:
                attributes[names.key] = text
        if names.tombstone is not None and fields.body_bytes(message) < 0:
            attributes[names.tombstone] = True
        timestamp_ms = delivery.timestamp_ms
        if isinstance(timestamp_ms, int) and timestamp_ms > 0:
            attributes[semconv.OTEL_PIPELINE_DELIVERY_AGE] = start_ns / 1e9 - timestamp_ms / 1e3
        _describe_origin(attributes, delivery.origin, start_ns)
        return attributes

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
        delivery = OpenDelivery(states[0], messages, 0, None, None)
        delivery.partition = None
        origins = [origin_of(own_header(fields.headers(message)), fields.timestamp_ms(message)) for message in messages]
        delivery.known_origin = merge(origins)
        delivery.members = [
            (state.observer, fields.offset(message), origin.origin_ms)
            for state, message, origin in zip(states, messages, origins, strict=True)
            if state.observer is not None
        ]
        parent: Any = context.get(SPAN_KEY)
        span: Span | None = engine.spans.dropped(parent)
        if span is None:
            attributes = _common(states)
            attributes[semconv.MESSAGING_BATCH_MESSAGE_COUNT] = len(messages)
            _describe_origin(attributes, delivery.origin, start_ns)
            name = states[0].span_name if len({state.destination for state in states}) == 1 else "process"
            links = CreationLinks(engine, fields.headers, (messages,))
            span = engine.spans.start(name, _CONSUMER, parent, context, attributes, links, start_ns)
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
        delivery.started_ns = self._monotonic_ns()
        delivery.own = own = Context({**context, SPAN_KEY: span, DELIVERY_KEY: delivery})
        if current:
            delivery.execution = execution()
            attach(own)  # Without a token: see delivery.py.

    def finish(  # noqa: C901, PLR0912 - the end of one message, read in one place
        self, delivery: OpenDelivery, error: BaseException | None = None
    ) -> None:
        """End the span and leave its context. Safe to call twice and from another thread; never raises."""
        if delivery.ended:
            return
        delivery.ended = True
        engine = self._engine
        try:
            delivery.message = None
            error = error or delivery.error
            delivery.error = None
            ended_ns = self._monotonic_ns()
            elapsed_ns = ended_ns - delivery.started_ns
            span = delivery.span
            state: PartitionState = delivery.state
            if error is None:
                state.process_duration.cell.record(elapsed_ns / 1e9)
            else:
                attributes = with_error(state.process_attributes, error)
                engine.process_duration.local(attributes).cell.record(elapsed_ns / 1e9)
            observer = state.observer
            if observer is not None:
                now_ms, origin_ms = (delivery.start_ns + elapsed_ns) // 1_000_000, delivery.origin_ms
                if origin_ms is None or delivery.members is not None:
                    _tell_processed(delivery, observer, now_ms)
                else:
                    observer.processed(delivery.offset or 0, origin_ms, now_ms)
            if type(span) is not LightSpan:
                if error is not None and span.is_recording():
                    span.record_exception(error)
                    span.set_attribute(semconv.ERROR_TYPE, error_type(error))
                    span.set_status(Status(StatusCode.ERROR, str(error)))
                end_ns = delivery.start_ns + elapsed_ns
                if ended_ns >= self._next_exemplar_ns and self._totals.exemplars:
                    self._next_exemplar_ns = ended_ns + EXEMPLARS_APART_NS
                    # Not the delivery: it would live until metrics are read, and with it what the context holds.
                    origin_ms, origin, members = delivery.origin_ms, delivery.known_origin, delivery.members
                    sent_ms, start_ns = delivery.timestamp_ms, delivery.start_ns
                    shown = span.get_span_context()
                    self._add_exemplar((shown, state, origin_ms, origin, members, sent_ms, start_ns, end_ns))
                span.end(end_ns)
            if get_current() is delivery.own and delivery.execution is not None:
                attach(delivery.before)
                # Its own context holds the delivery: without this the two would wait for the garbage collector.
                delivery.own = delivery.before
                if delivery.before:
                    heal()
            else:
                heal()
        except Exception:
            engine.guard.failed("process.finish")


def _tell_processed(delivery: OpenDelivery, observer: PartitionObserver, now_ms: int) -> None:
    """Tell the observers: of each message its own age, also when several were processed as one."""
    if delivery.members is None:
        observer.processed(delivery.offset or 0, delivery.origin.origin_ms, now_ms)
        return
    for each, offset, origin_ms in delivery.members:
        each.processed(offset, origin_ms, now_ms)


def _describe_origin(attributes: dict[str, AttributeValue], origin: Origin, now_ns: int) -> None:
    if origin.origin_ms > 0:
        attributes[semconv.OTEL_PIPELINE_DATA_AGE] = now_ns / 1e9 - origin.origin_ms / 1e3
    if origin.environment is not None:
        attributes[semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT] = origin.environment
    attributes[semconv.OTEL_PIPELINE_HOPS] = origin.hops


def _common(states: Sequence[PartitionState]) -> dict[str, AttributeValue]:
    """The attributes that hold for every message of the batch."""
    first, *others = states
    return {
        name: value
        for name, value in first.attributes.items()
        if all(other.attributes.get(name) == value for other in others)
    }


def _links(created: Span | None, around: Span | None, parent: Span | None) -> tuple[Link, ...]:
    """The creation context always, and the application's own span where it is not the parent (TELEMETRY.md)."""
    linked = [created] if created is not None else []
    if around is not None and around is not parent and around.get_span_context().is_valid:
        linked.append(around)
    return tuple(map(LightLink, linked))
