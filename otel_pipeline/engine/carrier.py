"""Context in the headers of anything, where no adapter patches the client: what `inject` and `extract` do.

What is known of such a message is its headers and, where it is said, its destination. So it is counted, it has a
process span, and its data has an age; of order, pace and values nothing is judged.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.trace import SpanKind

from otel_pipeline import semconv
from otel_pipeline.engine.batch import span_of_batch
from otel_pipeline.engine.clients import MAX_PARTITION_STATES, Consumer, Destination, Producer
from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.delivery import ambient, heal, in_hand
from otel_pipeline.engine.engine import OTHER
from otel_pipeline.engine.forks import forks
from otel_pipeline.engine.guard import raise_theirs
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.messages import MessageFields
from otel_pipeline.engine.pipeline_header import NAME
from otel_pipeline.engine.process import engine_in_force
from otel_pipeline.engine.processor import Processor
from otel_pipeline.engine.send import set_header_and_state, set_pipeline_header
from otel_pipeline.engine.span_shape import SpanShape
from otel_pipeline.engine.spans import SPAN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.context import Context

    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.observer import PartitionObserver

SYSTEM = {semconv.MESSAGING_SYSTEM_NAME: "_OTHER"}
"""What carries the message is not known. OpenTelemetry's word for what is none of the known values."""
NO_PARTITION = -1
_WAIT_S = 0.1


class Carried(NamedTuple):
    """A message as far as it is known."""

    destination: str
    headers: list[tuple[Any, Any]]


def _unknown(_message: Any) -> Any:
    return None


FIELDS = MessageFields(
    destination=lambda message: message.destination,
    partition=lambda _message: NO_PARTITION,
    offset=_unknown,
    timestamp_ms=lambda _message: 0,
    key=lambda _message: None,
    headers=lambda message: message.headers,
    value=lambda _message: None,
    body_bytes=lambda _message: 0,
    headers_only=True,
)


class SentTo(Destination):
    """What is the same for all that is sent to a destination. Nothing is counted of it: who sends it is not known."""

    __slots__ = ()

    def __init__(self, name: str, *, with_peer: bool) -> None:
        self.name = name
        self.first_hop = None
        self.attributes = {
            **SYSTEM,
            semconv.MESSAGING_OPERATION_NAME: "create",
            semconv.MESSAGING_OPERATION_TYPE: "create",
            semconv.MESSAGING_DESTINATION_NAME: name,
        }
        if with_peer:
            self.attributes[semconv.SERVICE_PEER_NAME] = name
        self.shape = SpanShape(f"create {name}", SpanKind.PRODUCER, self.attributes)


class Carrier:
    """What is made once for all that `inject` and `extract` do with one engine. Safe in any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.injecting, self.extracting = engine.guard.place("inject"), engine.guard.place("extract")
        self.processor = Processor(engine, FIELDS)
        self._consumer = Consumer(engine, FIELDS, attributes=SYSTEM, operation="extract")
        self._producer = Producer(attributes=SYSTEM)
        self._destinations: dict[str, SentTo | None] = {}
        self._names = engine.propagation.names | {NAME}
        self._with_state = engine.settings.propagate_origin == "tracestate"
        self._new_lock()
        forks.add(self._new_lock)

    def _new_lock(self) -> None:
        self._counting = Lock()

    def write(self, headers: Any, destination: str | None) -> Any:
        """Return these headers, a dict or a list, with the context in them; themselves where nothing is written."""
        engine = self.engine
        context = ambient(heal())
        sent_to = None if engine.suppressed(context) else self._sent_to(destination or OTHER)
        if sent_to is None:
            return headers
        span: Any = context.get(SPAN_KEY)
        start_ns = engine.clock_ns()
        if span is None or not span.get_span_context().is_valid:
            span = self._created(sent_to, context, start_ns)
        # What is ours under a name in capitals, as HTTP has them, or in bytes is to be replaced too.
        given = [(name, pair[1]) if (name := _name_of(pair)) in self._names else pair for pair in _pairs(headers)]
        written: list[Any] = engine.propagation.outgoing(given, span, context)
        delivery = in_hand(context)
        if delivery is not None and delivery.ended:
            delivery = None
        write = set_header_and_state if self._with_state else set_pipeline_header
        write(engine, written, self._producer, sent_to, delivery, start_ns, had_headers=True)
        return _of_kind(headers, written, {id(pair) for pair in given})

    def _sent_to(self, name: str) -> SentTo | None:
        """Return what is the same for all that is sent there; None for what the configuration excludes."""
        known = self._destinations
        if name not in known:
            if len(known) >= MAX_PARTITION_STATES:  # Names are the application's: bounded.
                known.clear()
            settings = self.engine.settings
            excluded = settings.excludes_destination(name)
            known[name] = None if excluded else SentTo(name, with_peer=settings.peer_name)
        return known[name]

    def _created(self, sent_to: SentTo, context: Context, start_ns: int) -> Any:
        """Make the span that stands for the creation of a message where no other is current: a trace begins with it."""
        spans, parent = self.engine.spans, span_of_batch()
        dropped = spans.dropped(parent)
        if dropped is not None:
            return dropped
        span = spans.start(sent_to.shape, (), parent, context, (), start_ns)
        span.end(self.engine.clock_ns())
        return span

    def begin(self, headers: Any, destination: str | None) -> tuple[OpenDelivery | None, bool]:
        """Begin to process what came with these headers: the delivery, and whether it was in hand already.

        None where nothing is to be recorded.
        """
        engine = self.engine
        message = Carried(destination or OTHER, _readable(headers))
        if engine.suppressed(get_current()) or engine.settings.excludes_destination(message.destination):
            return None, False
        heal()
        held = in_hand()
        if held is not None and held.is_here and _is_same(held, message.headers):
            return held, True
        with self._alone():
            state = self._consumer.partition(message.destination, NO_PARTITION)
            state.consumed.value += 1
        delivery = self.processor.begin(state, message)
        if delivery is not None and state.observer is not None:
            self._observe(delivery, state.observer, message)
        return delivery, False

    def _observe(self, delivery: OpenDelivery, observer: PartitionObserver, message: Carried) -> None:
        try:
            now_ms = delivery.start_ns // 1_000_000
            with self._alone():
                delivery.origin_ms = observer.one(message, 0, 0, delivery.header, delivery.fields, now_ms)
        except Exception:
            self.extracting.failed()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock: a consumer and its observers are one thread's at a time, and `extract` is for any."""
        lock = self._counting
        held = lock.acquire(timeout=_WAIT_S)
        if not held:
            self._new_lock()  # Who holds it has failed there, or is a function that a signal has interrupted.
        try:
            yield
        finally:
            if held:
                lock.release()


def _pairs(headers: Any) -> Iterable[Any]:
    if headers is None:
        return ()
    items = getattr(headers, "items", None)
    found: Iterable[Any] = headers if items is None else items()
    return found


def _name_of(pair: Any) -> str | None:
    """Return a pair's name in lower case; None of what is no pair, or has no text as its name."""
    try:
        name, _ = pair
        return name.lower() if isinstance(name, str) else bytes(name).decode("ascii").lower()
    except Exception:
        raise_theirs()
        return None


def _readable(headers: Any) -> list[tuple[str, Any]]:
    """Return the pairs with their names in lower case; HTTP has them in any."""
    return [(name, pair[1]) for pair in _pairs(headers) if (name := _name_of(pair)) is not None]


def _is_same(held: OpenDelivery, headers: list[tuple[str, Any]]) -> bool:
    """Tell whether the delivery in hand is of the message with these headers: an adapter has handed it out."""
    header = own_header(headers)
    return held.header is not None and not held.batched and _text(header) == _text(held.header)


def _text(value: Any) -> Any:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def plain_copy(headers: Any) -> Any:
    """Return a dict of a mapping and of None, a list of pairs; None for what is neither."""
    try:
        return dict(_pairs(headers)) if headers is None or hasattr(headers, "items") else list(headers)
    except Exception:
        raise_theirs()
        return None


def _of_kind(headers: Any, written: list[Any], given: set[int]) -> Any:
    """Return the pairs as headers of this kind; those that are not among the given ones are ours, with bytes."""
    if isinstance(headers, dict):
        return {pair[0]: pair[1] if id(pair) in given else pair[1].decode("utf-8", "replace") for pair in written}
    if any(isinstance(pair, tuple) and pair and isinstance(pair[0], bytes) for pair in headers):
        return [pair if id(pair) in given else (pair[0].encode("ascii"), pair[1]) for pair in written]
    return written


_carrier: Carrier | None = None


def carrier_in_force() -> Carrier | None:
    """Return the carrier of the engine in force; None where nothing is instrumented."""
    global _carrier  # noqa: PLW0603 - one pipeline a process
    engine = engine_in_force()
    if engine is None:
        return None
    found = _carrier
    if found is None or found.engine is not engine:
        try:
            found = _carrier = Carrier(engine)
        except Exception:
            engine.guard.place("extract").failed()
            return None
    return found
