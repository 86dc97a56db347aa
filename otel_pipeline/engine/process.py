"""`otel_pipeline.process`: the span of a message whose handling no iterator can see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from otel_pipeline.engine import guard
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.delivery import give_up, heal, in_hand
from otel_pipeline.engine.driven import LoopStep
from otel_pipeline.engine.guard import place_in_force, step_aside
from otel_pipeline.engine.headers import own_header
from otel_pipeline.engine.scope import decorate

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context

    from otel_pipeline.engine.clients import Consumer, PartitionState
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.processor import Processor

F = TypeVar("F", bound=Callable[..., Any])


class Client(NamedTuple):
    """What an adapter registers for its message class."""

    fields: MessageFields
    processor: Processor
    consumer_of: Callable[[Any], Consumer]
    """Returns the engine's side of a client object."""
    unknown: Consumer
    """Stands in where no consumer is known: group, client id and server are left off, never guessed."""


_engine: Engine | None = None


def activate(engine: Engine | None) -> None:
    """Set the engine that `process` uses; called by `instrument()` and `uninstrument()`."""
    global _engine  # noqa: PLW0603 - one pipeline per process, as OpenTelemetry has one provider
    _engine = engine
    guard.activate(None if engine is None else engine.guard)


def engine_in_force() -> Engine | None:
    """Return the engine of the pipeline in force; None where nothing is instrumented."""
    return _engine


class Processing:
    """One use of `process`, as a context manager or as a decorator."""

    __slots__ = ("_adopted", "_client", "_consumer", "_delivery", "_message", "_processor", "refusal")

    def __init__(self, message: Message | Sequence[Message] | None, consumer: Any) -> None:
        self._message = message
        self._consumer = consumer
        self._delivery: OpenDelivery | None = None
        self._adopted = False
        self._processor: Processor | None = None
        self.refusal: Exception | None = None
        """What is raised in place of the handling, only where the configuration says `on_reject: raise`."""

    def __enter__(self) -> Processing:  # noqa: PYI034 - Self is not in Python 3.10
        refusal = None
        try:
            self.begin()
            refusal = self.refusal
        except Exception:
            step_aside("process()")
        if refusal is not None:
            raise refusal
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            self.finish(error)
        except BaseException:
            step_aside("process()", self._abandon, None)

    async def __aenter__(self) -> Processing:  # noqa: PYI034
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """Decorate a handler: the message is the first argument that is one, or that is a list of messages."""
        return _decorated(function, self._consumer)

    def begin(self) -> None:
        """Begin the span. Raises nothing but what is the application's; then its context is as it was before."""
        before = get_current()
        try:
            engine = _engine
            if engine is not None and not engine.guard.place("process()").off:
                self._begin(engine)
                if self.refusal is not None:
                    self.finish(self.refusal)
        except BaseException:
            step_aside("process()", self._abandon, before)

    def _abandon(self, before: Context | None) -> None:
        """Leave what was begun and will not be finished."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None and not self._adopted:
            give_up(delivery)
        if before is not None and get_current() is not before:
            attach(before)

    def resume(self) -> None:
        """Become current again, in a generator that goes on."""
        delivery = self._delivery
        if delivery is not None and not self._adopted and get_current() is not delivery.own:
            delivery.before = get_current()
            attach(delivery.own)

    def suspend(self) -> None:
        """Stop being current while a generator's caller runs."""
        delivery = self._delivery
        if delivery is not None and not self._adopted and get_current() is delivery.own:
            attach(delivery.before)

    def finish(self, error: BaseException | None) -> None:
        """End the span; called once. Raises nothing but what is the application's, and is left then too."""
        delivery, processor = self._delivery, self._processor
        if delivery is None or processor is None:
            return
        try:
            self._delivery = None
            if self._adopted:
                # The iterator ends this span; it could not have seen the exception.
                delivery.error = error
            else:
                processor.finish(delivery, error)
        except BaseException:
            step_aside("process()", *(() if self._adopted else (give_up, delivery)))

    def abandon(self) -> None:
        """Leave it, where it could not be finished as usual."""
        self._abandon(None)

    def _begin(self, engine: Engine) -> None:
        message = self._message
        batch = message if isinstance(message, (list, tuple)) and type(message) not in engine.clients else None
        if batch is not None and not batch:
            return
        client: Client | None = engine.clients.get(type(batch[0] if batch is not None else message))
        if client is None:
            engine.guard.problem(
                f"process.{type(message).__name__}",
                f"process() was given a {type(message).__name__}, which is no message of an instrumented client",
            )
            return
        self._processor = client.processor
        if batch is not None:
            members = [
                (member, state) for member in batch if (state := self._state(engine, client, member)) is not None
            ]
            for member, state in members:
                self._tell_began(client, state, member)
            if members:
                self._begin_batch(client.processor, [state for _, state in members], [member for member, _ in members])
            return
        heal()
        delivery = in_hand()
        if delivery is not None and delivery.message is message and delivery.is_here:
            self._delivery, self._adopted = delivery, True
            if delivery.told_by_batch:
                self._count_alone(engine, client, delivery)
            return
        state = self._state(engine, client, message)
        if state is not None:
            self._tell_began(client, state, message)
            self._delivery = client.processor.begin(state, message)

    def _begin_batch(self, processor: Processor, states: list[PartitionState], messages: list[Message]) -> None:
        """Begin a batch; in a loop whose message nobody has looked at it is the batch that is in hand, not that."""
        step = get_current()
        below = step.below if type(step) is LoopStep else None
        if below is not None:
            attach(below)
        delivery = self._delivery = processor.begin_batch(states, messages)
        if below is not None:
            if delivery is None:
                attach(step)
            else:
                delivery.before = step

    def _count_alone(self, engine: Engine, client: Client, delivery: OpenDelivery) -> None:
        """Count a message by itself that a loop over its batch has in hand: the application says when it is handled."""
        state = self._state(engine, client, delivery.message)
        if state is not None:
            delivery.told_by_batch = False
            self._tell_began(client, state, delivery.message)

    def _tell_began(self, client: Client, state: PartitionState, message: Message) -> None:
        observer = state.observer
        if observer is not None:
            observer.began(client.fields.offset(message), message)
            self.refusal = self.refusal or observer.rejection(own_header(client.fields.headers(message)))

    def _state(self, engine: Engine, client: Client, message: Message) -> PartitionState | None:
        """Find the consumer's side of a message: the given consumer, the only one that has its partition, or nobody.

        None for what the configuration excludes.
        """
        destination, partition = client.fields.destination(message), client.fields.partition(message)
        if engine.settings.excludes_destination(destination):
            return None
        if self._consumer is not None:
            consumer = client.consumer_of(self._consumer)
        else:
            consumers: list[Consumer] = engine.consumers.all()
            holders = [known for known in consumers if (destination, partition) in known.partitions]
            consumer = holders[0] if len(holders) == 1 else client.unknown
        if consumer.excluded:
            return None
        state = consumer.partition(destination, partition)
        consumer.explicit = True
        if consumer.iterator_spans and state.handed_offset >= client.fields.offset(message):
            consumer.iterator_spans = False
            engine.guard.problem(
                f"iterator.{destination}",
                f"messages of {destination} are handed out by an iterator and processed elsewhere with process(): "
                "the iterator's own process spans are switched off, so that nothing is counted twice",
            )
        return state


def _place() -> Place:
    return place_in_force("process()")


def _decorated(function: F, consumer: Any) -> F:
    def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Processing:
        processing = Processing(_message_in(args, kwargs), consumer)
        processing.begin()
        return processing

    return decorate(function, opened, _place)


def _message_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Find the first argument that is a message of an instrumented client, or a list of them."""
    engine = _engine
    if engine is None:
        return None
    for value in (*args, *kwargs.values()):
        if type(value) in engine.clients:
            return value
        if isinstance(value, (list, tuple)) and value and type(value[0]) in engine.clients:
            return value
    return None


@overload
def process(message: F) -> F: ...
@overload
def process(message: Message | Sequence[Message] | None = None, *, consumer: Any = None) -> Processing: ...
def process(message: Any = None, *, consumer: Any = None) -> Any:
    """Record the span of one message, or of a batch, while the application handles it.

    For code that polls, batches, uses threads or pools; a plain `for record in consumer` needs it only to have a
    handler's exception on the span. What is done inside, model calls and sends included, belongs to the message's
    trace. Exceptions are recorded and re-raised unchanged.

        for records in consumer.poll(1000).values():
            for record in records:
                with otel_pipeline.process(record):
                    handle(record)

        @otel_pipeline.process
        def handle(record): ...

    Args:
        message: a message, or a list of messages for one span linked to all of them.
        consumer: the client that it came from, where several have the same partition.

    Safe in any thread and in asyncio tasks (`async with` and coroutine functions too). Without `instrument()` it does
    nothing.
    """
    if callable(message):
        return _decorated(message, consumer)
    return Processing(message, consumer)
