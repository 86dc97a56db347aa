"""The consumers of one client library, of any messaging system: what an adapter makes once, when it patches."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.client_objects import ClientObjects
from otel_pipeline.engine.clients import Consumer
from otel_pipeline.engine.consumer_loop import Iteration, make_iter, make_next
from otel_pipeline.engine.driven import Drives, leave_loops
from otel_pipeline.engine.patching import Around
from otel_pipeline.engine.process import Client
from otel_pipeline.engine.processor import Processor
from otel_pipeline.engine.receive import leave_batch
from otel_pipeline.engine.settle import settler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.totals import AttributeValue

    Make = Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes the replacement of a method from the original."""


class Consumers(ClientObjects[Consumer]):
    """What the engine knows of each consumer, and the replacements of its rare methods.

    Once it is made, `otel_pipeline.process()` knows messages of this class.

    Args:
        message: the class of the library's messages; None where they are known by another kind of its consumers.
        make: makes the engine's side of a client, with what its settings say (`Consumer`).
        attributes: those of a message whose consumer is not known: the messaging system alone, nothing is guessed.
        operation: the library's own word for receiving.
        is_message: tells messages from what the library returns in their place, such as errors; None: all are.
    """

    __slots__ = ("drives", "engine", "fields", "iteration", "processor", "receiving")

    def __init__(
        self,
        engine: Engine,
        fields: MessageFields,
        message: type | None,
        make: Callable[[Any], Consumer],
        *,
        attributes: Mapping[str, AttributeValue],
        operation: str,
        is_message: Callable[[Message], bool] | None = None,
    ) -> None:
        self.engine, self.fields = engine, fields
        self.receiving = engine.guard.place("receive")
        self.processor = Processor(engine, fields)
        self.iteration = Iteration(engine, self.processor, fields)
        self.drives = Drives(engine, fields, self.processor, is_message)

        def nobody(*, excluded: bool) -> Consumer:
            return Consumer(engine, fields, attributes=attributes, excluded=excluded, operation=operation)

        def added(client: Any) -> Consumer:
            made = make(client)
            engine.consumers.add(made)
            return made

        super().__init__(engine.guard, added, nobody(excluded=True))
        if message is not None:
            engine.clients[message] = Client(fields, self.processor, self.of, nobody(excluded=False))

    def count_one(self, consumer: Consumer, message: Message) -> None:
        """Count a message that was received alone; those of a batch are counted by `receiver`. Never raises."""
        try:
            if self.receiving.off or not self.engine.active:
                return
            state = consumer.partitions.get((self.fields.destination(message), self.fields.partition(message)))
            if state is not None:
                state.consumed.value += 1
        except Exception:
            self.receiving.failed()

    def receiving_one(self) -> Make:
        """Wrap a method that returns one message or None: the message is in hand until the next one is asked for."""
        consumer_of, nobody, iteration, count_one = self.of, self.left_alone, self.iteration, self.count_one
        leave, hand_out, place = iteration.leave, iteration.hand_out, self.receiving

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
                consumer, rejection = nobody, None
                try:
                    consumer = consumer_of(self)
                    leave(consumer)
                    if consumer.kept is not None and (again := iteration.again(consumer)) is not None:
                        return again
                except Exception:
                    place.failed()
                message = original(self, *args, **kwargs)
                if message is None:
                    return None
                try:
                    rejection = hand_out(consumer, message)
                    count_one(consumer, message)
                except BaseException:
                    place.failed(iteration.interrupted, consumer, message, only_theirs=True)
                if rejection is not None:
                    raise rejection
                return message

            return receive

        return make

    def iterating(self) -> Make:
        """Wrap `__iter__`: leaving the loop ends the message that was handed out last."""
        return functools.partial(make_iter, self, self.iteration)

    def handing_out(self) -> Make:
        """Wrap `__next__`: the message is in hand until the next one is asked for."""
        return functools.partial(make_next, self, self.iteration)

    def closing(self, leave: Callable[[Consumer], object] | None = None) -> Make:
        """Wrap the method that closes: what was handed out last is processed, and the client is not read any more.

        `leave` ends what is in hand where that is not the one message that is open in the consumer.
        """
        leave = leave or self.iteration.leave

        def before(client: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Consumer:
            consumer = self.of(client)
            leave(consumer)
            leave_loops(consumer)
            leave_batch(self.engine, consumer)
            return consumer

        return Around(self.engine.guard.place("close"), before, lambda _client, consumer, _error: consumer.close())

    def settling(self, operation: str) -> Make:
        """Wrap a method that has committed or acknowledged when it returns: how long it took is recorded."""
        settled, monotonic_ns = settler(self.engine, operation), self.engine.monotonic_ns
        return Around(
            self.engine.guard.place("settle"),
            lambda _client, _args, _kwargs: monotonic_ns(),
            lambda client, started_ns, error: settled(self.of(client), started_ns, error),
        )
