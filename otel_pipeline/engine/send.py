"""A message on its way to the broker: span, sequence placeholder and headers before; the acknowledgement after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.trace import SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine import origin_state, pipeline_header
from otel_pipeline.engine.awaited_batch import strays
from otel_pipeline.engine.batch import batch_in_hand, span_of_batch
from otel_pipeline.engine.clients import Destination
from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.delivery import DELIVERY_KEY, OpenDelivery, ambient, heal
from otel_pipeline.engine.engine import OTHER, with_error
from otel_pipeline.engine.failure import cut, describe, end_anyway, text_of
from otel_pipeline.engine.headers import own_header, without
from otel_pipeline.engine.merged import put_member
from otel_pipeline.engine.origin import origin_of
from otel_pipeline.engine.request import origin_of_request
from otel_pipeline.engine.span_shape import ShapedSpan, SpanShape
from otel_pipeline.engine.spans import SPAN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Link, Span

    from otel_pipeline.engine.clients import Producer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import SystemNames
    from otel_pipeline.engine.origin import Origin
    from otel_pipeline.engine.span_shape import Values
    from otel_pipeline.engine.totals import AttributeValue

ABORTED = "aborted"
"""Error type of what was not delivered because the application has aborted its transaction."""
_PER_PARTITION = 1 << 3


class SentMessage(NamedTuple):
    """What a `send` hook is given: the message as the application handed it over."""

    destination: str
    partition: int | None
    key: object
    value: object
    headers: object


class Sending:
    """One message between `send()` and its acknowledgement."""

    __slots__ = ("_engine", "_producer", "destination", "headers", "place", "span", "start_ns", "started_ns")

    place: int
    """Which message of its batch it is, where the batch is known."""
    headers: Any
    """What to hand to the client: our copy with the context in it, or the application's own object."""

    def __init__(
        self,
        engine: Engine,
        producer: Producer,
        destination: Destination,
        headers: object,
        span: Span | None,
        start_ns: int,
        started_ns: int,
    ) -> None:
        self._engine = engine
        self._producer = producer
        self.destination = destination
        self.headers = headers
        self.span = span
        self.start_ns = start_ns
        self.started_ns = started_ns

    def __call__(self, answer: Any) -> None:
        """Finish as the client's callback for both outcomes: an acknowledgement, or the exception. Never raises."""
        try:
            if isinstance(answer, BaseException):
                self.finish(None, None, answer)
                return
            try:
                partition, offset = self._producer.read(answer)
            except Exception:
                partition = offset = None
                place = self._engine.guard.place("send.acknowledgement")
                place.failed()
                if place.off:
                    self._producer.read = _nowhere
            self.finish(partition, offset if self.is_confirmed else None)
        except Exception:
            self._engine.guard.place("send.finish").failed()

    @property
    def is_confirmed(self) -> bool:
        """Whether brokers answer: where none does, a client may still make up an offset."""
        return self._producer.patience.confirmed

    def aim(self, producer: Producer, destination: Destination, start_ns: int, started_ns: int) -> None:
        """Say where it goes, where that was not known when its headers were written; sending begins now."""
        self._producer, self.destination = producer, destination
        self.start_ns, self.started_ns = start_ns, started_ns

    def refused(self, error: BaseException) -> None:
        """Finish where the client took the destination's name for none. Never raises.

        An operation has failed, and nothing was sent. Names without end make neither series nor anything else.
        """
        engine, producer, destination = self._engine, self._producer, self.destination
        if destination.bound:
            self.finish(None, None, error)
            return
        try:
            elapsed_ns = engine.monotonic_ns() - self.started_ns
            producer.destinations.pop(destination.name, None)
            if engine.forget_sent is not None:
                engine.forget_sent(destination.name)
            attributes = with_error(destination.counted_as(producer, OTHER), error)
            attributes[semconv.MESSAGING_OPERATION_TYPE] = "send"
            engine.operation_duration.local(attributes).cell.record(elapsed_ns / 1e9)
            if self.span is not None:
                if self.span.is_recording():
                    describe(self.span, error, with_text=engine.settings.exception_text, with_event=False)
                self.span.end(self.start_ns + elapsed_ns)
        except Exception:
            engine.guard.place("send.finish").failed()
            end_anyway(self.span)

    def finish(self, partition: int | None, offset: int | None, error: BaseException | None = None) -> None:
        """Finish: the broker answered, or the client raised. To be called once, from any thread; never raises."""
        try:
            engine = self._engine
            elapsed_ns = engine.monotonic_ns() - self.started_ns
            destination = self.destination
            span = self.span
            if not destination.bound:
                destination.bind(engine, self._producer)
                name = self._producer.names.cluster
                if name is not None and name in destination.attributes and span is not None:
                    span.set_attribute(name, destination.attributes[name])
            if error is None:
                destination.sent.cell.value += 1
                destination.duration.cell.record(elapsed_ns / 1e9)
                if partition is not None and offset is not None:
                    destination.acknowledged[partition] = offset
            else:
                attributes = with_error(destination.metric_attributes, error)
                if self._producer.aborting:
                    attributes[semconv.ERROR_TYPE] = ABORTED
                engine.sent.local(attributes).cell.value += 1
                attributes[semconv.MESSAGING_OPERATION_TYPE] = "send"
                engine.operation_duration.local(attributes).cell.record(elapsed_ns / 1e9)
            if span is None:
                return
            where = None if partition is None or partition < 0 else str(partition)
            at = None if offset is None or offset < 0 else offset
            if error is None and isinstance(span, ShapedSpan):
                span.end_with((where, at), self.start_ns + elapsed_ns)
            else:
                self.end(span, where, at, self.start_ns + elapsed_ns, error)
        except Exception:
            self._engine.guard.place("send.finish").failed()
            end_anyway(self.span)

    def end(
        self, span: Span, partition: str | None, offset: int | None, end_ns: int, error: BaseException | None = None
    ) -> None:
        """End its span, whoever makes such spans, at ns since the epoch."""
        if span.is_recording():
            _say_where(span, partition, offset, self._producer.names.offset)
            if error is not None:
                describe(span, error, with_text=self._engine.settings.exception_text, with_event=False)
        span.end(end_ns)


def _say_where(span: Span, partition: str | None, offset: int | None, offset_name: str | None) -> None:
    if partition is not None:
        span.set_attribute(semconv.MESSAGING_DESTINATION_PARTITION_ID, partition)
    if offset is not None and offset_name is not None:
        span.set_attribute(offset_name, offset)


def _nowhere(_answer: object) -> tuple[None, None]:
    """Say that it is unknown where a message went, when acknowledgements cannot be read."""
    return None, None


def sender(  # noqa: C901, PLR0915
    engine: Engine, operation: str = "send"
) -> Callable[[Producer, Any, Any, Any, Any, Any], Sending | None]:
    """Make a function that begins one send; it returns None where nothing is to be recorded, and never raises.

    It is called with (producer, destination, partition, key, value, headers).
    """
    spans, propagation = engine.spans, engine.propagation
    place, writing = engine.guard.place("send"), engine.guard.place("send.headers")
    for after in ("send.finish", "send.follow"):
        engine.guard.place(after, place)
    clock_ns, monotonic_ns, settings = engine.clock_ns, engine.monotonic_ns, engine.settings
    hook = engine.hook("send")
    with_key, with_state = settings.message_key, settings.propagate_origin == "tracestate"
    suppressed, find, dropped_ids = engine.suppressed, propagation.find, spans.dropped_ids
    outgoing, outgoing_ids, creation_links = propagation.outgoing, propagation.outgoing_ids, propagation.creation_links

    def begin(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one message's path, read in one place
        producer: Producer, topic: Any, partition: Any, key: Any, value: Any, headers: Any
    ) -> Sending | None:
        try:
            if place.off:
                return None
            context = get_current()
            delivery: OpenDelivery | None = None
            if context:
                delivery = context.get(DELIVERY_KEY)  # type: ignore[assignment]
                if delivery is not None and delivery.ended:
                    context = ambient(heal())
                    delivery = context.get(DELIVERY_KEY)  # type: ignore[assignment]
                if suppressed(context):
                    return None
            if producer.excluded or not engine.active:
                return None
            try:
                destination = producer.destinations[topic]
            except KeyError:
                destination = destination_of(engine, producer, topic, operation)
            if destination is None:
                return None
            carried = find(headers) if headers else None
            kept = carried is not None and (delivery is None or carried != delivery.traceparent)
            parent: Any = context.get(SPAN_KEY) if context else None
            batched = parent is None and batch_in_hand.get() is not None
            if batched:
                parent = span_of_batch()
            start_ns = clock_ns()
            ids = dropped_ids(parent)
            span: Span | None = None
            if ids is None:
                shape = destination.shape if destination.bound else destination.learned(producer)
                values: Values = ()
                if partition is not None and type(partition) is int and producer.names.partition is not None:
                    values = (str(partition), None)
                more = None if value is not None and not with_key else _of_message(producer.names, key, value, with_key)
                if kept:
                    shape = SpanShape(shape.name, SpanKind.CLIENT, shape.attributes, shape.names)
                links: tuple[Link, ...] = creation_links(headers) if kept else ()
                span = spans.start(shape, values, parent, context, links, start_ns, more)
            sending = Sending(engine, producer, destination, headers, span, start_ns, monotonic_ns())
        except Exception:
            place.failed()
            return None
        try:
            if writing.off:
                return sending
            if producer.headers_allowed and (headers is None or isinstance(headers, list)):
                if kept:
                    copy = list(headers or ())
                elif span is None:
                    copy = outgoing_ids(headers, ids, context)  # type: ignore[arg-type]
                else:
                    copy = outgoing(headers, span, context)
                sending.headers, first_hop = copy, destination.first_hop
                if (
                    first_hop is not None
                    and first_hop.pair is not None
                    and not (headers or context or batched or strays or with_state)
                ):
                    copy.append(first_hop.pair)  # Most are so: `set_pipeline_header`, in place.
                else:
                    write = set_header_and_state if with_state and not kept else set_pipeline_header
                    write(engine, copy, producer, destination, delivery, start_ns, had_headers=bool(headers))
            if destination.check is not None:
                destination.check(value, len(value) if type(value) is bytes else 0, headers)
            if span is not None and hook.given is not None and span.is_recording():
                hook(span, SentMessage(topic, partition, key, value, headers))
        except Exception:
            writing.failed()
        return sending

    return begin


def destination_of(engine: Engine, producer: Producer, topic: Any, operation: str) -> Destination | None:
    """Return what is the same for every message to this destination, made at the first; None for an excluded one."""
    if not isinstance(topic, str):
        return None  # The client will refuse it in its own words.
    if topic in producer.destinations:
        return producer.destinations[topic]
    made = None
    if not engine.settings.excludes_destination(topic):
        made = Destination(engine, producer, topic, operation)
        made.check = None if engine.check_sent is None else engine.check_sent(topic)
    if len(producer.destinations) < 10_000:  # noqa: PLR2004 - names are the application's: bounded
        producer.destinations[topic] = made
    return made


def _of_message(names: SystemNames, key: Any, value: Any, with_key: bool) -> dict[str, AttributeValue]:  # noqa: FBT001
    """Return what only some messages have. It is given at the start, where a sampler can see it."""
    found: dict[str, AttributeValue] = {}
    if names.tombstone is not None and value is None:
        found[names.tombstone] = True
    if names.key is not None and with_key:
        text = key_text(key)
        if text is not None:
            found[names.key] = text
    return found


def key_text(key: object) -> str | None:
    """Return a message key as semconv wants it: text, or None where it has no unambiguous text form."""
    if isinstance(key, (bytes, bytearray, memoryview)):
        try:
            return cut(bytes(key).decode())
        except UnicodeDecodeError:
            return None
    return text_of(key) if isinstance(key, (str, int)) else None


def set_pipeline_header(
    engine: Engine,
    headers: list[tuple[str, bytes]],
    producer: Producer,
    destination: Destination,
    delivery: OpenDelivery | None,
    now_ns: int,
    *,
    had_headers: bool,
) -> None:
    """Append the data-flow header to our copy, in place of one that was copied along."""
    name = pipeline_header.NAME
    carried = _take(headers) if had_headers else None
    flags = _PER_PARTITION if producer.identifier else 0
    if delivery is not None:
        origin = delivery.origin
    elif (batch := batch_in_hand.get()) is not None:
        origin = batch.origin
    elif carried is not None and pipeline_header.decode(carried) is not None:
        origin = origin_of(carried, 0)  # A dead letter, a replay, a retry: the data began where its header says.
    elif (context := get_current()) and (request := origin_of_request(context)) is not None:
        origin = request
    elif strays:
        headers.append((name, _of_unknown_origin(producer, flags)))
        return
    else:
        template = destination.first_hop or _first_hop(engine, producer, destination, flags)
        if template.pair is not None:
            headers.append(template.pair)
        else:
            headers.append((name, template.filled(now_ns // 1_000_000, 0, 0)))
        return
    headers.append((name, _later_hop(engine, producer, destination, origin, flags)))


def set_header_and_state(
    engine: Engine,
    headers: list[tuple[str, bytes]],
    producer: Producer,
    destination: Destination,
    delivery: OpenDelivery | None,
    now_ns: int,
    *,
    had_headers: bool,
) -> None:
    """Do the same, and write where the data began into `tracestate` as well."""
    set_pipeline_header(engine, headers, producer, destination, delivery, now_ns, had_headers=had_headers)
    written = headers[-1][1]
    first_hop, read = destination.first_hop, pipeline_header.decode(written)
    begins_here = first_hop is not None and written == first_hop.placeholder
    if read is None:
        return
    origin_ms = now_ns // 1_000_000 if begins_here else read.origin_ms
    # The member has no flags: where its clock is known to be wrong, the origin is unknown.
    doubted = engine.own_clock.off if begins_here else read.flags & pipeline_header.DOUBTED
    if origin_ms:
        put_member(headers, origin_state.KEY, origin_state.member(0 if doubted else origin_ms, read.environment))


def _take(headers: list[tuple[str, bytes]]) -> Any:
    """Take every data-flow header out of our copy, and return the one that counts."""
    carried = own_header(headers)
    if carried is not None:
        headers[:] = without(headers, frozenset({pipeline_header.NAME}))
    return carried


def _later_hop(engine: Engine, producer: Producer, destination: Destination, origin: Origin, flags: int) -> bytes:
    """Write the header of data that came from elsewhere, all but its number."""
    settings = engine.settings
    fans_in = origin.inputs > 1 or origin.newest_ms != origin.origin_ms
    extends = origin.hops < settings.max_hops
    path = pipeline_header.path_hash(origin.path, settings.service_name, destination.name) if extends else origin.path
    return pipeline_header.encode(
        flags=flags | pipeline_header.flags_of(fans_in=fans_in, doubted=origin.doubted),
        hops=origin.hops + 1,
        environment=origin.environment,
        origin_ms=origin.origin_ms,
        newest_ms=origin.newest_ms,
        path=path,
        producer_id=producer.identifier,
        sequence=0,
        tag=0,
    )


def _of_unknown_origin(producer: Producer, flags: int) -> bytes:
    """Write the header of data that may have come from elsewhere, nobody knows from where."""
    said: dict[str, Any] = {"environment": None, "origin_ms": 0, "newest_ms": 0, "path": 0}
    return pipeline_header.encode(flags=flags, hops=1, producer_id=producer.identifier, sequence=0, tag=0, **said)


def _first_hop(engine: Engine, producer: Producer, destination: Destination, flags: int) -> pipeline_header.Template:
    """Make what the headers of all messages whose data begins here have in common."""
    settings = engine.settings
    encoded = pipeline_header.encode(
        flags=flags,
        hops=1,
        environment=settings.environment,
        origin_ms=0,
        newest_ms=0,
        path=pipeline_header.path_hash(0, settings.service_name, destination.name),
        producer_id=producer.identifier,
        sequence=0,
        tag=0,
    )
    template = destination.first_hop = pipeline_header.Template(encoded, engine.own_clock)
    if producer.numbers is not None:
        producer.numbers.template(producer.identifier, template)
        template.pair = (pipeline_header.NAME, template.placeholder)
    return template
