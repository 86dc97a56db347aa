"""What kafka-python's fetches, assignments and commits tell of pace and order. Private methods, checked before use.

`Fetcher._handle_fetch_response` had (request, send_time, response) in 2.0 and has (node_id, fetch_offsets, send_time,
response) since 2.1; it runs in the application's thread up to 2.3 and in the client's own in 3.x.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any
from weakref import ref

from otel_pipeline.engine.delivery import in_hand
from otel_pipeline.engine.patching import DriftedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.observer import Resumed
    from otel_pipeline.engine.patching import Patches

_ATTRIBUTE = "_otel_pipeline"
_RESET = "_otel_pipeline_reset"
_HANDLE = ("self", "node_id", "fetch_offsets", "send_time", "response")
_HANDLE_2_0 = ("self", "request", "send_time", "response")
_OFFSET_OUT_OF_RANGE = 1
_READ_COMMITTED = 1


def belongs_to(client: Any, consumer: Consumer) -> None:
    """Remember whose the client's subscription state is: fetcher and coordinator know that only.

    And what becomes of a position that is gone: the fetcher's own copy of the configuration leaves it out.
    """
    known = client._subscription.__dict__
    known[_ATTRIBUTE] = ref(consumer)
    known[_RESET] = "earliest" if client.config.get("auto_offset_reset") == "earliest" else "latest"


def _consumer_of(subscription: Any) -> Consumer | None:
    known = subscription.__dict__.get(_ATTRIBUTE)
    return None if known is None else known()


def positions(client: ref[Any]) -> dict[tuple[str, int], int | None]:
    """The next offset of each assigned partition; other threads may be changing the assignment."""
    living = client()
    if living is None:
        return {}
    found: dict[tuple[str, int], int | None] = {}
    for partition, state in list(living._subscription.assignment.items()):
        position = getattr(state, "_position", None)
        found[partition.topic, partition.partition] = getattr(position, "offset", position)
    return found


def teller_of_assignments(guard: Guard) -> Callable[[Any, Consumer, Mapping[Any, Any]], None]:
    """A function that tells observers when a partition has been assigned anew since its last messages.

    The client keeps an object for each partition as long as it is assigned; a new one is a new assignment.
    """
    place = guard.place("assigned")

    def told(client: Any, consumer: Consumer, records: Mapping[Any, Any]) -> None:
        if place.off:
            return
        try:
            assignment = client._subscription.assignment
            for partition in records:
                state = consumer.partitions.get(partition)
                current = assignment.get(partition)
                if state is None or current is None:
                    continue
                if state.assignment is not current:
                    if state.assignment is not None and state.observer is not None:
                        state.observer.assigned()
                    state.assignment = current
        except Exception:
            place.failed()

    return told


def instrument(patches: Patches, engine: Engine) -> None:
    """Follow fetches and commits; without them pace is not known, which is said."""
    from kafka.consumer.fetcher import Fetcher
    from kafka.coordinator.consumer import ConsumerCoordinator

    try:
        for name in ("commit_offsets_async", "commit_offsets_sync"):
            patches.check_signature(getattr(ConsumerCoordinator, name), ("self", "offsets"), ("callback", "timeout_ms"))
            patches.replace(ConsumerCoordinator, name, functools.partial(_make_commit, engine))
        try:
            patches.check_signature(Fetcher._handle_fetch_response, _HANDLE)
            read = _offsets_of_arguments
        except DriftedError:
            patches.check_signature(Fetcher._handle_fetch_response, _HANDLE_2_0)
            read = _offsets_of_request
        patches.replace(Fetcher, "_handle_fetch_response", functools.partial(_make_handle, engine, read))
    except (AttributeError, DriftedError) as drifted:
        engine.guard.problem(
            "kafka_python.fetches", f"kafka-python: {drifted}; whether consumers keep pace is not known"
        )


def _make_commit(engine: Engine, original: Callable[..., Any]) -> Callable[..., Any]:
    place = engine.guard.place("committed")

    @functools.wraps(original)
    def commit_offsets(self: Any, offsets: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, offsets, *args, **kwargs)
        try:
            consumer = None if place.off else _consumer_of(self._subscription)
            if consumer is not None and consumer.explicit:
                _tell_of_commit(consumer, offsets)
        except Exception:
            place.failed()
        return result

    return commit_offsets


def _tell_of_commit(consumer: Consumer, offsets: Mapping[Any, Any]) -> None:
    delivery = in_hand()
    for partition, committed in offsets.items():
        state = consumer.partitions.get(partition)
        if state is not None and state.observer is not None:
            mine = delivery is not None and (delivery.destination, delivery.partition) == tuple(partition)
            state.observer.committed(committed.offset, delivery.offset if mine and delivery is not None else None)


def _offsets_of_arguments(args: tuple[Any, ...]) -> tuple[Mapping[Any, int], float, Any]:
    _, offsets, sent, response = args
    return offsets, sent, response


def _offsets_of_request(args: tuple[Any, ...]) -> tuple[Mapping[Any, int], float, Any]:
    request, sent, response = args
    return (
        {(topic, partition[0]): partition[1] for topic, partitions in request.topics for partition in partitions},
        sent,
        response,
    )


def _make_handle(
    engine: Engine,
    read: Callable[[tuple[Any, ...]], tuple[Mapping[Any, int], float, Any]],
    original: Callable[..., Any],
) -> Callable[..., Any]:
    place = engine.guard.place("fetched")

    @functools.wraps(original)
    def _handle_fetch_response(self: Any, *args: Any) -> Any:
        try:
            consumer = None if place.off else _consumer_of(self._subscriptions)
            if consumer is not None and engine.active:
                committed = getattr(self, "_isolation_level", 0) == _READ_COMMITTED
                _tell_of_fetch(consumer, *read(args), committed=committed, reset=self._subscriptions.__dict__[_RESET])
        except Exception:
            place.failed()
        return original(self, *args)

    return _handle_fetch_response


def _tell_of_fetch(
    consumer: Consumer, offsets: Mapping[Any, int], sent: float, response: Any, *, committed: bool, reset: Resumed
) -> None:
    """Each partition that was asked for; one that the answer leaves out is unchanged (KIP-227)."""
    if getattr(response, "error_code", 0):
        return
    arrived_s = time.monotonic()
    # Up to 2.3 the request's time is wall time, which no monotonic clock has reached.
    sent_s = sent if sent <= arrived_s else arrived_s - max(0.0, time.time() - sent)
    answers = {(topic, partition): rest for topic, partition, *rest in _partitions(response)}
    for asked, position in offsets.items():
        key = tuple(asked)
        observer = consumer.fetch_observer(*key)
        if observer is None:
            continue
        answer = answers.get(key)
        if answer is None:
            observer.fetched(sent_s, arrived_s, position, None)
            continue
        error, high_watermark, last_stable = answer
        if error == _OFFSET_OUT_OF_RANGE:
            observer.out_of_range(position, reset)
        elif error == 0:
            end = last_stable if committed and last_stable >= 0 else high_watermark
            observer.fetched(sent_s, arrived_s, position, end if end >= 0 else None)


def _partitions(response: Any) -> Iterator[tuple[str, int, int, int, int]]:
    """Topic, partition, error, high watermark, last stable offset: as objects in 3.x, as tuples before."""
    if hasattr(response, "responses"):
        for topic in response.responses:
            for each in topic.partitions:
                yield topic.topic, each.partition_index, each.error_code, each.high_watermark, each.last_stable_offset
        return
    with_last_stable = response.API_VERSION >= 4  # noqa: PLR2004 - Kafka's Fetch protocol
    for topic, partitions in response.topics:
        for each in partitions:
            yield topic, each[0], each[1], each[2], each[3] if with_last_stable else -1
