"""confluent-kafka's consumers: `poll`, `consume`, and what tells of their partitions."""

from __future__ import annotations

import functools
from itertools import filterfalse
from operator import methodcaller
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_pipeline.brokers.kafka import confluent_kafka_partitions
from otel_pipeline.brokers.kafka.confluent_kafka_clients import CONSUMES, with_lifetime
from otel_pipeline.brokers.kafka.confluent_kafka_pace import look
from otel_pipeline.brokers.kafka.pull import Pull
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.driven import leave_loops
from otel_pipeline.engine.receive import leave_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.brokers.kafka.confluent_kafka_clients import ConsumerHandle, ConsumerHandles
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.patching import Patches

_END_OF_PARTITION = "_PARTITION_EOF"
_ERROR, _TOPIC, _PARTITION = methodcaller("error"), methodcaller("topic"), methodcaller("partition")


def instrument(patches: Patches, consumers: KafkaConsumers, handles: ConsumerHandles, kind: type) -> None:
    """Patch the consumers' class."""
    patches.replace(kind, "__init__", functools.partial(make_init, consumers, handles, CONSUMES))
    patches.replace(kind, "poll", functools.partial(_make_poll, consumers, handles))
    patches.replace(kind, "consume", functools.partial(_make_consume, consumers, handles))
    confluent_kafka_partitions.instrument(patches, consumers, handles, kind)


def make_init(
    consumers: KafkaConsumers, handles: ConsumerHandles, usual: Mapping[str, Any], original: Callable[..., Any]
) -> Callable[..., Any]:
    """Make the replacement of `__init__`; `usual` is what holds where the application says nothing."""
    place = consumers.engine.guard.place("client")

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        given, options, made = args, kwargs, None
        try:
            made = with_lifetime(place, args, kwargs)
            given, options = made.args, made.kwargs
        except Exception:
            place.failed()
        if options:
            original(self, *given, **options)
        else:  # Even an empty dictionary is something else to it than none.
            original(self, *given)
        try:
            if made is not None and made.lifetime is not None:
                handle = handles.new(self, made.lifetime)
                handle.announce(made.conf, usual)
                made.lifetime.handle, handle.consumer = ref(handle), ref(consumers.new(self, made.lifetime))
        except Exception:
            place.failed()

    return __init__


def by_partition(messages: Sequence[Any]) -> dict[tuple[str, int], Sequence[Any]]:
    """Sort what one call has returned; what is an error and no message is left out."""
    messages = list(filterfalse(_ERROR, messages))
    places = list(zip(map(_TOPIC, messages), map(_PARTITION, messages), strict=True))
    if places and places.count(places[0]) == len(places):
        return {places[0]: messages}
    found: dict[tuple[str, int], list[Any]] = {}
    for place, message in zip(places, messages, strict=True):
        found.setdefault(place, []).append(message)
    return dict(found)


class _Calls:
    """What is told before and after a consumer's calls for messages."""

    __slots__ = ("_consumers", "_iteration", "_monotonic_ns", "_observing")

    def __init__(self, consumers: KafkaConsumers) -> None:
        self._consumers, self._iteration = consumers, consumers.iteration
        self._monotonic_ns = consumers.engine.monotonic_ns
        self._observing = consumers.engine.guard.place("fetched")

    def poll_begins(self, consumer: Consumer, handle: ConsumerHandle) -> Any:
        """Leave what was in hand; return the message that the call before could not return, or None."""
        if not handle.awaited:
            self._iteration.leave(consumer)
            if consumer.loops:
                leave_loops(consumer)
        if consumer.batch is not None:
            leave_batch(self._consumers.engine, consumer)
        if consumer.kept is not None and (again := self._iteration.again(consumer)) is not None:
            return again
        consumer.polling.begin(self._monotonic_ns(), by_iterator=False)
        return None

    def polled_nothing(self, client: Any, consumer: Consumer, handle: ConsumerHandle | None) -> None:
        """Note that `poll` raises."""
        self.returns(client, handle, found=False)
        consumer.polling.end(self._monotonic_ns())

    def returns(self, client: Any, handle: ConsumerHandle | None, *, found: bool) -> None:
        """Note that a call has ended; where it has found something, the client knows its cluster."""
        if handle is None:
            return
        if not found:
            self._look(client, handle, None if handle.consumer is None else handle.consumer())
        elif handle.cluster_id is None and not handle.is_silent:
            handle.learn_cluster(client)

    def is_message(self, handle: ConsumerHandle | None, message: Any) -> bool:
        """Tell whether it is a message, and not None, an error, or the news that a partition has no more."""
        if message is None:
            return False
        error = message.error()
        if error is None:
            return True
        if handle is not None and error.name() == _END_OF_PARTITION:
            handle.at[message.topic(), message.partition()] = message.offset()
        return False

    def polled(self, client: Any, consumer: Consumer, handle: ConsumerHandle, message: Any) -> None:
        """Tell where the consumer is with one message. Never raises."""
        try:
            self.stands(client, consumer, handle, (message.topic(), message.partition()), message.offset() + 1)
        except Exception:
            self._observing.failed()

    def pulled(
        self,
        client: Any,
        consumer: Consumer,
        handle: ConsumerHandle,
        found: Mapping[tuple[str, int], Sequence[Any]],
    ) -> None:
        """Tell where the consumer is with what one call has returned. Never raises."""
        try:
            for key, batch in found.items():
                self.stands(client, consumer, handle, key, batch[-1].offset() + 1)
        except Exception:
            self._observing.failed()

    def stands(self, client: Any, consumer: Consumer, handle: ConsumerHandle, key: tuple[str, int], at: int) -> None:
        """Note where the consumer is, and look where the log ends, once a second."""
        if key not in handle.at:
            handle.look_at_s = 0.0
        handle.at[key] = at
        self._look(client, handle, consumer)

    def _look(self, client: Any, handle: ConsumerHandle, consumer: Consumer | None) -> None:
        if monotonic() < handle.look_at_s or self._observing.off or consumer is None or consumer.excluded:
            return
        try:
            look(handle, client, consumer)
        except Exception:
            self._observing.failed()

    def interrupted(self, consumer: Consumer, message: Any) -> None:
        """Keep for the next call what an exception of the application has kept this one from returning."""
        if message is not None and message.error() is None:
            self._iteration.interrupted(consumer, message)


def _make_poll(consumers: KafkaConsumers, handles: ConsumerHandles, original: Callable[..., Any]) -> Callable[..., Any]:
    known, consumer_of, nobody = consumers.by_id.get, consumers.of, consumers.left_alone
    calls, hand_out, place = _Calls(consumers), consumers.iteration.hand_out, consumers.receiving
    monotonic_ns, count_one = consumers.engine.monotonic_ns, consumers.count_one

    @functools.wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        consumer, handle, rejection = nobody, None, None
        try:
            consumer, handle = known(id(self)) or consumer_of(self), handles.with_consumer(self, consumers)
            again = calls.poll_begins(consumer, handle)
            if again is not None:
                return again
        except Exception:
            place.failed()
        try:
            message = original(self, *args, **kwargs)
        except BaseException:
            place.told(calls.polled_nothing, self, consumer, handle)
            raise
        try:
            calls.returns(self, handle, found=message is not None)
            consumer.polling.end(monotonic_ns())
            if calls.is_message(handle, message):
                handle = handle or handles.with_consumer(self, consumers)
                if not handle.awaited:
                    rejection = hand_out(consumer, message)
                    count_one(consumer, message)
                calls.polled(self, consumer, handle, message)
        except BaseException:
            place.failed(calls.interrupted, consumer, message, only_theirs=True)
        if rejection is not None:
            raise rejection
        return message

    return poll


def _make_consume(  # noqa: C901 - what stands around one call, read in one place
    consumers: KafkaConsumers, handles: ConsumerHandles, original: Callable[..., Any]
) -> Callable[..., Any]:
    known, consumer_of, nobody = consumers.by_id.get, consumers.of, consumers.left_alone
    leave, place, calls = consumers.iteration.leave, consumers.receiving, _Calls(consumers)

    def tell(client: Any, consumer: Consumer, found: Mapping[tuple[str, int], Sequence[Any]]) -> None:
        calls.pulled(client, consumer, handles.with_consumer(client, consumers), found)

    pull = Pull(consumers, tell, "confluent_kafka.", by_partition=by_partition)

    def failed(client: Any, consumer: Consumer, handle: ConsumerHandle | None, error: BaseException) -> None:
        calls.returns(client, handle, found=False)
        pull.failed(consumer, error, by_iterator=False)

    def returned(client: Any, consumer: Consumer, handle: ConsumerHandle | None, messages: Any) -> Any:
        calls.returns(client, handle, found=bool(messages))
        if handle is not None and handle.settings.get("enable_partition_eof"):
            for message in messages:
                calls.is_message(handle, message)
        if handle is None or handle.context is None:
            return pull.end(client, consumer, messages, by_iterator=False)
        before = get_current()
        attach(handle.context)
        try:
            return pull.end(client, consumer, messages, by_iterator=False)
        finally:
            attach(before)

    @functools.wraps(original)
    def consume(self: Any, *args: Any, **kwargs: Any) -> Any:
        consumer, handle = nobody, None
        try:
            consumer, handle = known(id(self)) or consumer_of(self), handles.with_consumer(self, consumers)
            leave(consumer)
            if not consumer.partitions:
                consumer.operation = "consume"
            again = pull.begin(self, consumer, by_iterator=False)
            if again is not None:
                return again
        except Exception:
            place.failed()
        try:
            messages = original(self, *args, **kwargs)
        except BaseException as error:
            place.told(failed, self, consumer, handle, error)
            raise
        given = messages
        try:
            given = returned(self, consumer, handle, messages)
        except BaseException:
            place.failed(pull.interrupted, consumer, messages, False, only_theirs=True)
        return given

    return consume
