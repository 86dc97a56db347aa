"""The delivery in hand: what the application is working on now, and where its data began.

Kept under a key of ours in the OpenTelemetry context. No tokens are used: the obvious way, attaching in `__next__` and
detaching later, leaves a span current after `break` (docs/design/spans.md, "What is current, without tokens").
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.context import Context, create_key
from opentelemetry.trace import get_current_span

from otel_pipeline.engine import event_loop
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.failure import end_anyway
from otel_pipeline.engine.guard import guarded
from otel_pipeline.engine.origin import Origin, origin_at
from otel_pipeline.engine.spans import SPAN_KEY

if TYPE_CHECKING:
    from otel_pipeline.engine.observer import PartitionObserver
    from otel_pipeline.engine.pipeline_header import Fields

DELIVERY_KEY = create_key("otel_pipeline.delivery")


def execution() -> tuple[int, int]:
    """Return which thread and which asyncio task is running: a context inherited by another one is not ours to heal."""
    return get_ident(), 0 if (loop := event_loop.running_loop()) is None else id(event_loop.task_of(loop))


@dataclass(slots=True, eq=False, repr=False)
class OpenDelivery:
    """A message, or a batch of them, that the application has in hand."""

    state: Any
    """The state of its partition; for a batch, that of the first message."""
    message: Any
    """Dropped when its span ends: the application's data is not kept."""
    offset: int | None
    timestamp_ms: Any
    """The time of sending, as the client has it."""
    traceparent: bytes | str | None
    """The header with the sender's context, as it came."""
    header: bytes | str | None
    """The data-flow header as it came."""
    fields: Fields | None
    """What the data-flow header says; None where there is none, or it cannot be read."""
    start_ns: int
    """Wall clock, ns since the epoch."""
    started_ns: int
    """The same moment by the clock for durations."""
    before: Context
    span: Any = None
    own: Any = None
    """The context in which it is current."""
    execution: tuple[int, int] | None = None
    """Where it was made current; None when it was not."""
    origin_ms: int | None = None
    """Oldest origin, once a detector has read it; 0 is unknown."""
    known_origin: Origin | None = None
    batched: bool = False
    """Whether it stands for several messages."""
    told_by_batch: bool = False
    """Whether observers are told of it with the batch that it came in: a loop over a batch counts nothing."""
    members: list[tuple[PartitionObserver, int, int]] | None = None
    """For a batch: the observer of each message's partition, the message's offset and its oldest origin."""
    ended: bool = False
    error: BaseException | None = None
    """What an explicit `process()` saw of a message that an iterator had handed out."""

    @property
    def is_here(self) -> bool:
        """Whether it is open, and this thread's: one that a pool was given may end while the pool is at work."""
        return not self.ended and self.execution is not None and self.execution[0] == get_ident()

    @property
    def origin(self) -> Origin:
        """Where its data began."""
        found = self.known_origin
        if found is None:
            found = self.known_origin = origin_at(self.state.observer, self.header, self.timestamp_ms)
        return found

    @property
    def destination(self) -> str:
        """The destination; for a batch, that of its first message."""
        destination: str = self.state.destination
        return destination

    @property
    def partition(self) -> int | None:
        """The partition; None where it is not known, and for a batch, whose messages may come from several."""
        partition: int | None = None if self.batched else self.state.partition
        return None if partition is None or partition < 0 else partition


def in_hand(context: Context | None = None) -> OpenDelivery | None:
    """Return the innermost delivery of the context, also one that has ended while a task that it started goes on."""
    return cast("OpenDelivery | None", (get_current() if context is None else context).get(DELIVERY_KEY))


def heal() -> Context:
    """Leave the contexts of deliveries that have ended; returns the current context."""
    current = get_current()
    delivery = cast("OpenDelivery | None", current.get(DELIVERY_KEY))
    if delivery is None or not delivery.ended or delivery.own is not current or delivery.execution != execution():
        return current
    while delivery is not None and delivery.ended and delivery.own is current:
        current = delivery.before
        delivery = cast("OpenDelivery | None", current.get(DELIVERY_KEY))
    attach(current)
    return current


def abandon(delivery: OpenDelivery) -> None:
    """Leave the context of a delivery that will not be finished: nobody handles its message now."""
    delivery.ended = True
    heal()


def give_up(delivery: OpenDelivery) -> None:
    """Leave a delivery that could not be finished, and end its span."""
    if get_current() is delivery.own and delivery.execution is not None:
        attach(delivery.before)
    delivery.ended, delivery.message = True, None
    heal()
    end_anyway(delivery.span)


def ambient(context: Context) -> Context:
    """Return the context whose span may be a parent: not a span of ours that has ended here, but the one before it."""
    delivery = cast("OpenDelivery | None", context.get(DELIVERY_KEY))
    if delivery is None or not delivery.ended or get_current_span(context) is not delivery.span:
        return context
    if delivery.execution != execution():
        return context
    # The application has put something, baggage for example, on top of a delivery that has ended since.
    rest = {key: value for key, value in context.items() if key != SPAN_KEY}
    above = ambient(delivery.before).get(SPAN_KEY)
    return Context(rest if above is None else {**rest, SPAN_KEY: above})


def back_to(before: Context | None) -> None:
    """Leave what was made current since then, and will not be finished."""
    if before is not None and get_current() is not before:
        attach(before)


def leave_unopened(message: object) -> None:
    """Leave the context of a delivery of this message that was opened, where what opened it has failed after that."""
    delivery = in_hand()
    if delivery is not None and delivery.message is message and delivery.is_here:
        give_up(delivery)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the application has in hand."""

    destination: str
    partition: int | None
    offset: int | None
    data_age: float | None
    """Age of the oldest data in it, s; None when its origin is not known."""
    origin_environment: str | None
    hops: int


@guarded("current", None)
def current() -> Delivery | None:
    """Return the message, or batch, that the calling code is handling; None outside one.

    Never raises; safe in any thread and task; costs one context look-up.
    """
    delivery = in_hand()
    if delivery is None or delivery.ended:
        return None
    origin = delivery.origin
    return Delivery(
        destination=delivery.destination,
        partition=delivery.partition,
        offset=delivery.offset,
        data_age=origin.age_s,
        origin_environment=origin.environment,
        hops=origin.hops,
    )
