"""A batch that the application puts together itself, message by message, before it says where it goes.

A message's headers are written when it is put in, and with them its context: so its span begins there. Its name and its
destination come when the batch is sent, and it ends when the batch is answered. It has no number: that would take the
partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.engine import send
from otel_pipeline.engine.clients import Destination, Producer
from otel_pipeline.engine.spans import discard

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.send import Sending

    Begin = Callable[[Producer, Any, Any, Any, Any, Any], Sending | None]

_NOWHERE_YET = ""


class BuiltBatch:
    """One of them. Used by one thread at a time, as the client's own; what it raises is the adapter's to count.

    Args:
        begin: made by `sender`.
    """

    __slots__ = ("_begin", "_engine", "_messages", "_operation", "_producer", "_unaddressed", "given")

    def __init__(self, engine: Engine, producer: Producer, begin: Begin, operation: str = "send") -> None:
        self._engine, self._producer, self._begin = engine, producer, begin
        self._operation = operation
        self._unaddressed = _unaddressed(engine, producer, operation)
        self._messages: list[tuple[Sending, Any]] = []
        """With their values, which are looked at when it is known whose contract they fall under."""
        self.given: list[Any] = []
        """The application's own headers of each message that is in it, for a destination that is left alone; None where
        they are in it already."""

    def begin(self, key: Any, value: Any, headers: Any) -> Sending | None:
        """Begin a message that is about to be put in; `take` it if the client does."""
        return self._begin(self._unaddressed, _NOWHERE_YET, None, key, value, headers)

    def take(self, sending: Sending, value: Any) -> None:
        """Note that the client has put it in."""
        self._messages.append((sending, value))

    def refuse(self, sending: Sending) -> None:
        """Note that the client has not put it in: it was never sent, and has no span."""
        _forget(sending)

    def address(self, topic: Any, partition: Any) -> list[Sending]:
        """Say where all of them go, now that the application sends them; returns those that are to be finished."""
        engine, producer = self._engine, self._producer
        if not self._messages:
            return []
        destination = send.destination_of(engine, producer, topic, self._operation)
        if destination is None:
            for sending, _ in self._messages:
                _forget(sending)
            self._messages.clear()
            return []
        now_ns, start_ns = engine.monotonic_ns(), engine.clock_ns()
        shape = destination.learned(producer)
        attributes = {**shape.attributes}
        if producer.names.partition is not None and isinstance(partition, int):
            attributes[producer.names.partition] = str(partition)
        for sending, value in self._messages:
            sending.aim(producer, destination, start_ns, now_ns)
            if sending.span is not None and sending.span.is_recording():
                sending.span.update_name(shape.name)
                sending.span.set_attributes(attributes)
            if destination.check is not None:
                destination.check(value, len(value) if type(value) is bytes else 0, sending.headers)
        return [sending for sending, _ in self._messages]

    def failed(self) -> None:
        """Note that the call has raised: should the application try it again, spans have ended and messages count."""
        for sending, _ in self._messages:
            sending.span = None

    def sent(self) -> None:
        """Note that the client has taken the batch."""
        self._messages, self.given = [], []


def _forget(sending: Sending) -> None:
    span, sending.span = sending.span, None
    if span is not None:
        discard(span)


def _unaddressed(engine: Engine, producer: Producer, operation: str) -> Producer:
    """Return the producer as it is before it knows where to: it gives no numbers."""
    made = Producer(
        attributes=producer.attributes,
        client_id=producer.client_id,
        cluster_id=producer.cluster_id,
        headers_allowed=producer.headers_allowed,
        excluded=producer.excluded,
        names=producer.names,
    )
    made.destinations[_NOWHERE_YET] = Destination(engine, made, _NOWHERE_YET, operation)
    return made
