"""While the application handles a message, one CONSUMER span is current, the child of what created the message."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine import event_loop
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.delivery import DELIVERY_KEY, OpenDelivery, ambient, execution, give_up, heal, leave_unopened
from otel_pipeline.engine.engine import with_error
from otel_pipeline.engine.exemplars import EXEMPLARS_APART_NS
from otel_pipeline.engine.failure import describe
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.links import CreationLinks
from otel_pipeline.engine.origin import DAY_MS, MAX_AGE_MS, merge, origin_at
from otel_pipeline.engine.pipeline_header import ENVIRONMENTS, OTHER_ENVIRONMENT
from otel_pipeline.engine.send import key_text
from otel_pipeline.engine.span_shape import ORIGIN_NAMES, SpanShape
from otel_pipeline.engine.spans import SPAN_KEY
from otel_pipeline.engine.trace_context import LightLink, LightSpan, links_to
from otel_pipeline.engine.trust import sampled_trace, unsampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Span

    from otel_pipeline.engine.clients import PartitionState
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.span_shape import Values
    from otel_pipeline.engine.totals import AttributeValue

_NOTHING: Any = (None, None, None, None, None)
_MOST_S = (MAX_AGE_MS + 1) / 1000
_SAMPLED = 1
_CONSUMER = SpanKind.CONSUMER  # Looking an enumeration's member up costs as much as a call.


class Processor:
    """Begins and finishes deliveries of one client's messages: one message at a time, or a batch as one span."""

    __slots__ = (
        "_add_exemplar",
        "_body_bytes",
        "_clock_ns",
        "_ending",
        "_engine",
        "_fields",
        "_headers",
        "_hook",
        "_incoming",
        "_max_hops",
        "_next_exemplar_ns",
        "_now",
        "_offset",
        "_parent_max_age_ms",
        "_parent_of_process",
        "_place",
        "_settings",
        "_spans",
        "_timestamp_ms",
        "_totals",
    )

    def __init__(self, engine: Engine, fields: MessageFields) -> None:
        self._engine = engine
        self._fields = fields
        self._spans = engine.spans
        self._clock_ns, self._now = engine.clock_ns, engine.monotonic_ns
        self._incoming = engine.propagation.incoming
        self._headers, self._timestamp_ms, self._offset = fields.headers, fields.timestamp_ms, fields.offset
        self._max_hops, self._parent_max_age_ms = engine.settings.max_hops, engine.settings.parent_max_age_ms
        self._body_bytes = fields.body_bytes
        self._settings = engine.settings
        self._parent_of_process = engine.settings.process_parent
        self._hook = engine.hook("process")
        self._place = engine.guard.place("process")
        self._ending = engine.guard.place("process.finish", self._place)
        self._totals = engine.totals
        self._next_exemplar_ns = 0
        self._add_exemplar = engine.exemplars.add

    def begin(  # noqa: C901 - one message's path, read in one place
        self,
        state: PartitionState,
        message: Message,
        current: bool = True,  # noqa: FBT001, FBT002
        began_ns: int | None = None,
    ) -> OpenDelivery | None:
        """Start the span of one message; None where nothing is to be recorded. Never raises.

        It began at `began_ns`, of the clock for durations, where that is not now.
        """
        if not self._engine.active or self._place.off:
            return None
        try:
            context = get_current()
            if context:
                context = ambient(heal())
                if self._engine.suppressed(context):
                    return None
            start_ns, sent_ms, headers = self._clock_ns(), self._timestamp_ms(message), self._headers(message)
            created: Any
            created, inside, carried, header, said = self._incoming(headers, context) if headers else _NOTHING
            offset, now_ns, inside = self._offset(message), self._now(), inside or context
            if began_ns is not None:
                start_ns, now_ns = start_ns - (now_ns - began_ns), began_ns
            if inside is not context and state.foreign_baggage is not None:
                inside = state.foreign_baggage.hold_back(inside, context, header)
            delivery = OpenDelivery(state, message, offset, sent_ms, carried, header, said, start_ns, now_ns, context)
            around: Any = context.get(SPAN_KEY) if context else None
            parent: Any = created
            if (
                created is None
                or not state.sender_is_parent
                or said is None
                or said[0] >> 8 & 0xFF > self._max_hops
                or not 0 <= start_ns // 1_000_000 - (said[1] << 32 | said[2]) <= self._parent_max_age_ms
            ):  # Otherwise it is near, and needs no second look.
                parent = self._parent(delivery, created, around)
            is_plain = parent is created and type(created) is LightSpan
            spans = self._spans
            is_sampled = is_plain and created.flags & _SAMPLED and spans.follows_parents
            span: Any = None if is_sampled else spans.dropped(parent)
            is_home = state.is_foreign is None or (said is not None and said[0] & 0xFF == state.home_code)
            if span is None and not is_home and created is not None and parent is created:
                parent = self._as_permitted(delivery, created, inside)
                span = None if parent is created else spans.dropped(parent)
            if span is None:
                links = (created,) if is_plain and around is None else _links(created, around, parent)
                more = self._more(message) if self._body_bytes(message) < 0 or self._settings.message_key else None
                span = spans.start(state.shape, _values(delivery), parent, inside, links, start_ns, more)
            delivery.span, delivery.own = span, Context({**inside, SPAN_KEY: span, DELIVERY_KEY: delivery})
            if current:
                loop = event_loop.running_loop()
                # As `execution` says.
                delivery.execution = get_ident(), 0 if loop is None else id(event_loop.task_of(loop))
                attach(delivery.own)  # Without a token: see delivery.py.
            if self._hook.given is not None and span.is_recording():
                self._hook(span, message)
        except Exception:
            self._place.failed(leave_unopened, message)
            return None
        return delivery

    def _too_far(self, delivery: OpenDelivery) -> bool:
        """Tell whether the sender's trace would last too long or go in circles."""
        oldest_ms, fields = delivery.timestamp_ms, delivery.fields
        if fields is not None:
            hops = fields[0] >> 8 & 0xFF
            if hops > self._settings.max_hops:
                return True
            oldest_ms = fields[1] << 32 | fields[2] or oldest_ms  # The message's own time may be anything.
        now_ms, most_ms = delivery.start_ns // 1_000_000, self._settings.parent_max_age_ms
        return isinstance(oldest_ms, int) and most_ms < now_ms - oldest_ms <= MAX_AGE_MS and oldest_ms > 0

    def _parent(self, delivery: OpenDelivery, created: Span | None, around: Span | None) -> Span | None:
        """Find the parent where it takes more to know: the sender's span, the application's own one, or none."""
        if created is None or self._parent_of_process == "ambient":
            if around is not None and around.get_span_context().is_valid:
                return around
            if created is None:
                return None
        if self._parent_of_process == "link" or self._too_far(delivery):
            return None
        state: PartitionState = delivery.state
        return created if state.continues is None or state.continues(delivery.header) else None

    def _as_permitted(self, delivery: OpenDelivery, created: Span, inside: Context) -> Span:
        """Return the sender's span; that of another environment without its sampled flag, where that is not permitted.

        The sampler is asked first. What it records anyway must not use up the rate: otherwise the second of two
        services in a row would refuse what the first has let through.
        """
        state: PartitionState = delivery.state
        trace_id = sampled_trace(created)
        if trace_id is None or state.is_foreign is None or not state.is_foreign(delivery.header):
            return created
        recorded = self._spans.samples_root(trace_id, state.shape.name, _CONSUMER, inside, self._attributes, delivery)
        foreign_traces = self._engine.foreign_traces
        if recorded or foreign_traces.admit(trace_id, self._now()):
            return created
        foreign_traces.refused += 1
        return unsampled(created)

    def _attributes(self, delivery: OpenDelivery) -> dict[str, AttributeValue]:
        shape: SpanShape = delivery.state.shape
        return shape.all(_values(delivery), self._more(delivery.message))

    def _more(self, message: Message) -> dict[str, AttributeValue] | None:
        """Return what only some messages have."""
        reads = self._fields
        names = reads.names
        more: dict[str, AttributeValue] | None = None
        if names.tombstone is not None and reads.body_bytes(message) < 0:
            more = {names.tombstone: True}
        if names.key is not None and self._settings.message_key:
            text = key_text(reads.key(message))
            if text is not None:
                more = {**(more or {}), names.key: text}
        return more

    def begin_batch(self, states: Sequence[PartitionState], messages: Sequence[Message]) -> OpenDelivery | None:
        """Start one span for a batch: linked to every sampled creation context, child of none of them."""
        engine = self._engine
        try:
            context = heal()
            if engine.suppressed(context) or self._place.off:
                return None
            return self._begin_batch(states, messages, ambient(context))
        except Exception:
            self._place.failed(leave_unopened, messages)
            return None

    def _begin_batch(
        self, states: Sequence[PartitionState], messages: Sequence[Message], context: Context
    ) -> OpenDelivery:
        engine, fields = self._engine, self._fields
        start_ns = engine.clock_ns()
        delivery = OpenDelivery(states[0], messages, None, 0, None, None, None, start_ns, self._now(), context)
        delivery.batched = True
        headers = [own_header(fields.headers(message)) for message in messages]
        origins = [
            origin_at(state.observer, header, fields.timestamp_ms(message))
            for state, message, header in zip(states, messages, headers, strict=True)
        ]
        delivery.known_origin = merge(origins)
        delivery.members = [
            (state.observer, fields.offset(message), state.observer.origin_ms(header, origin.told_ms))
            for state, message, header, origin in zip(states, messages, headers, origins, strict=True)
            if state.observer is not None
        ]
        parent: Any = context.get(SPAN_KEY)
        span: Span | None = engine.spans.dropped(parent)
        if span is None:
            attributes = _common(states)
            attributes[semconv.MESSAGING_BATCH_MESSAGE_COUNT] = len(messages)
            name = states[0].shape.name if len({state.destination for state in states}) == 1 else "process"
            shape = SpanShape(name, _CONSUMER, attributes, ORIGIN_NAMES)
            links = CreationLinks(engine, fields, (messages,))
            span = engine.spans.start(shape, _values(delivery), parent, context, links, start_ns)
        delivery.span, delivery.own = span, Context({**context, SPAN_KEY: span, DELIVERY_KEY: delivery})
        delivery.execution = execution()
        attach(delivery.own)
        if self._hook.given is not None and span.is_recording():
            self._hook(span, messages)
        return delivery

    def finish(self, delivery: OpenDelivery, error: BaseException | None = None) -> None:
        """End the span and leave its context. Safe to call twice and from another thread; never raises."""
        try:
            if delivery.ended:
                return
            state, delivery.ended, delivery.message = delivery.state, True, None
            ended_ns, before = self._now(), delivery.before
            # First it is left: what comes may ask the application for the text of its exception.
            if get_current() is delivery.own and delivery.execution is not None:
                attach(before)
                # Its own context holds the delivery: without this the two would wait for the garbage collector.
                delivery.own = before
                if before:
                    heal()
            else:
                heal()
            elapsed_ns = ended_ns - delivery.started_ns
            if error is not None or delivery.error is not None:
                self._failed(delivery, elapsed_ns, error or delivery.error)
            else:
                state.process_duration.cell.record(elapsed_ns / 1e9)
            observer, origin_ms = state.observer, delivery.origin_ms
            if observer is not None:
                now_ms = (delivery.start_ns + elapsed_ns) // 1_000_000
                if origin_ms is None or delivery.batched:
                    _tell_processed(delivery, observer, now_ms)
                else:
                    observer.processed(delivery.offset or 0, origin_ms, now_ms)
            span = delivery.span
            if type(span) is not LightSpan:
                if ended_ns >= self._next_exemplar_ns and self._totals.exemplars:
                    self._exemplify(delivery, ended_ns, delivery.start_ns + elapsed_ns)
                span.end(delivery.start_ns + elapsed_ns)
        except BaseException:
            self._ending.failed(give_up, delivery)

    def _failed(self, delivery: OpenDelivery, elapsed_ns: int, error: BaseException | None) -> None:
        delivery.error = None
        if error is None:
            return
        attributes = with_error(delivery.state.process_attributes, error)
        self._engine.process_duration.local(attributes).cell.record(elapsed_ns / 1e9)
        span = delivery.span
        if span.is_recording():
            describe(span, error, with_text=self._settings.exception_text)

    def _exemplify(self, delivery: OpenDelivery, ended_ns: int, end_ns: int) -> None:
        self._next_exemplar_ns = ended_ns + EXEMPLARS_APART_NS
        # Not the delivery: it would live until metrics are read, and with it what the context holds.
        origin_ms, origin, members = delivery.origin_ms, delivery.known_origin, delivery.members
        sent_ms, start_ns = delivery.timestamp_ms, delivery.start_ns
        shown = delivery.span.get_span_context()
        self._add_exemplar((shown, delivery.state.observer, origin_ms, origin, members, sent_ms, start_ns, end_ns))


def _tell_processed(delivery: OpenDelivery, observer: PartitionObserver, now_ms: int) -> None:
    """Tell the observers the age of each message, also when several were processed as one."""
    if delivery.told_by_batch:
        return
    if delivery.members is None:  # Handed out before anybody watched.
        observer.processed(delivery.offset or 0, delivery.origin.told_ms, now_ms)
        return
    for each, offset, origin_ms in delivery.members:
        each.processed(offset, origin_ms, now_ms)


def _values(delivery: OpenDelivery) -> Values:
    """Return what differs from message to message, in the order of `ORIGIN_NAMES`, and the offset."""
    fields = delivery.fields
    code = OTHER_ENVIRONMENT if fields is None else fields[0] & 0xFF
    if fields is None or code == OTHER_ENVIRONMENT:
        origin_ms, _, hops, environment, *_ = delivery.origin
    else:
        origin_ms, hops, environment = fields[1] << 32 | fields[2], fields[0] >> 8 & 0xFF, ENVIRONMENTS.get(code)
    now_s, sent_ms = delivery.start_ns / 1e9, delivery.timestamp_ms
    data_age_s: float | None = now_s - origin_ms / 1e3
    if origin_ms <= 0 or not -_MOST_S < data_age_s < _MOST_S:  # type: ignore[operator] # it is a number here
        data_age_s, origin_ms = None, 0
    delivery_age_s: float | None = None
    if type(sent_ms) is int and sent_ms >= max(1, origin_ms - DAY_MS):
        delivery_age_s = now_s - sent_ms / 1e3
        if not -_MOST_S < delivery_age_s < _MOST_S:
            delivery_age_s = None
    return hops, data_age_s, delivery_age_s, environment, delivery.offset or 0


def _common(states: Sequence[PartitionState]) -> dict[str, AttributeValue]:
    """Return the attributes that hold for every message of the batch."""
    first, *others = states
    return {
        name: value
        for name, value in first.attributes.items()
        if all(other.attributes.get(name) == value for other in others)
    }


def _links(created: Span | None, around: Span | None, parent: Span | None) -> tuple[Link, ...]:
    """Link the creation context, and the application's own span where it is not the parent (docs/design/spans.md)."""
    own = () if created is None else links_to(created)
    if around is None or around is parent or not around.get_span_context().is_valid:
        return own
    return (*own, LightLink(around))
