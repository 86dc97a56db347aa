"""What kafka-python's fetches, assignments and commits tell of pace and order. Private methods, checked before use.

`Fetcher._handle_fetch_response` had (request, send_time, response) in 2.0 and has (node_id, fetch_offsets, send_time,
response) since 2.1; it runs in the application's thread up to 2.3 and in the client's own in 3.x.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from otel_pipeline.brokers.kafka import feeds
from otel_pipeline.brokers.kafka.feeds import Answer
from otel_pipeline.engine.clients import MAX_PARTITION_STATES, Position
from otel_pipeline.engine.patching import DriftedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.patching import Patches

_HANDLE = ("self", "node_id", "fetch_offsets", "send_time", "response")
_HANDLE_2_0 = ("self", "request", "send_time", "response")
_READ_COMMITTED = 1


class _Followed:
    """Whose a subscription state is, and how that client goes on where it has no position."""

    __slots__ = ("_client", "_consumer", "_partitions", "resumed", "younger")

    def __init__(self, client: Any, consumer: Consumer) -> None:
        self._client, self._consumer = ref(client), ref(consumer)
        self.resumed = feeds.resumed(client.config)
        self._partitions: dict[str, int] = {}
        """How many partitions each topic had when the first of them was assigned."""
        self.younger: set[tuple[str, int]] = set()
        """Partitions that are younger, and begin where `auto_offset_reset` says."""

    @property
    def consumer(self) -> Consumer | None:
        """The consumer, while there is one."""
        return self._consumer()

    def resets(self, assignment: Mapping[Any, Any]) -> None:
        """Note which of these have no position: nobody has committed one, and the application has chosen none."""
        client, known = self._client(), self._partitions
        for partition, state in list(assignment.items()):
            topic = partition.topic
            if topic not in known and client is not None and len(known) < MAX_PARTITION_STATES:
                known[topic] = len(client._client.cluster.partitions_for_topic(topic) or ())
            if state.is_missing_position() and 0 < known.get(topic, 0) <= partition.partition:
                self.younger.add((topic, partition.partition))


_followed: WeakKeyDictionary[Any, _Followed] = WeakKeyDictionary()
"""By subscription state, which is all that fetcher and coordinator know."""


def follow(client: Any, consumer: Consumer) -> None:
    """Note whose subscription state it is, and what becomes of a position that is lost."""
    _followed[client._subscription] = _Followed(client, consumer)


def positions(client: Any) -> dict[tuple[str, int], Position]:
    """Return the next offset of each assigned partition; other threads may be changing the assignment."""
    found: dict[tuple[str, int], Position] = {}
    for partition, state in list(client._subscription.assignment.items()):
        position = getattr(state, "_position", None)
        offset = getattr(position, "offset", position)
        found[partition.topic, partition.partition] = Position(offset, bool(getattr(state, "paused", False)))
    return found


def is_member(client: Any) -> bool:
    """Tell whether the group has given the client its partitions, and takes them when it does not poll."""
    return client.config["group_id"] is not None and client._subscription.subscription is not None


def instrument(patches: Patches, consumers: KafkaConsumers) -> None:
    """Follow fetches and commits. Where that cannot be done, pace is unknown, and the status says so."""
    from kafka.consumer.fetcher import Fetcher
    from kafka.consumer.subscription_state import SubscriptionState
    from kafka.coordinator.consumer import ConsumerCoordinator

    guard = consumers.engine.guard
    try:
        for name in ("commit_offsets_async", "commit_offsets_sync"):
            patches.check_signature(getattr(ConsumerCoordinator, name), ("self", "offsets"), ("callback", "timeout_ms"))
            patches.replace(ConsumerCoordinator, name, functools.partial(_make_commit, consumers))
        if hasattr(SubscriptionState, "reset_missing_positions"):  # Since 2.1.
            patches.check_signature(SubscriptionState.reset_missing_positions, ("self",))
            patches.replace(SubscriptionState, "reset_missing_positions", functools.partial(_make_reset, consumers))
        try:
            patches.check_signature(Fetcher._handle_fetch_response, _HANDLE)
            read = _offsets_of_arguments
        except DriftedError:
            patches.check_signature(Fetcher._handle_fetch_response, _HANDLE_2_0)
            read = _offsets_of_request
        patches.replace(Fetcher, "_handle_fetch_response", functools.partial(_make_handle, consumers, read))
    except (AttributeError, DriftedError) as drifted:
        guard.problem("kafka_python.fetches", f"kafka-python: {drifted}; whether consumers keep pace is not known")


def _make_commit(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    place = consumers.engine.guard.place("committed")

    @functools.wraps(original)
    def commit_offsets(self: Any, offsets: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, offsets, *args, **kwargs)
        try:
            followed = None if place.off else _followed.get(self._subscription)
            consumer = None if followed is None else followed.consumer
            if consumer is not None:
                feeds.tell_committed(consumer, ((partition, each.offset) for partition, each in offsets.items()))
        except Exception:
            place.failed()
        return result

    return commit_offsets


def _make_reset(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    place = consumers.engine.guard.place("reset")

    @functools.wraps(original)
    def reset_missing_positions(self: Any) -> Any:
        try:
            followed = None if place.off else _followed.get(self)
            if followed is not None:
                followed.resets(self.assignment)
        except Exception:
            place.failed()
        return original(self)

    return reset_missing_positions


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
    consumers: KafkaConsumers,
    read: Callable[[tuple[Any, ...]], tuple[Mapping[Any, int], float, Any]],
    original: Callable[..., Any],
) -> Callable[..., Any]:
    place = consumers.engine.guard.place("fetched")

    @functools.wraps(original)
    def _handle_fetch_response(self: Any, *args: Any) -> Any:
        try:
            followed = None if place.off else _followed.get(self._subscriptions)
            consumer = None if followed is None else followed.consumer
            if followed is not None and consumer is not None and consumers.engine.active:
                asked, sent, response = read(args)
                if not getattr(response, "error_code", 0):
                    committed = getattr(self, "_isolation_level", 0) == _READ_COMMITTED
                    answers, log_of = _answers(response, committed=committed), functools.partial(_topic_id, self)
                    feeds.tell_skipped(consumer, asked, answers, followed.younger)
                    feeds.tell_fetched(consumer, asked, answers, _times_s(sent), followed.resumed, log_of)
        except Exception:
            place.failed()
        return original(self, *args)

    return _handle_fetch_response


def _topic_id(fetcher: Any, topic: str) -> object:
    """Return the id that the cluster's metadata has for the topic; None before 3.0, and before Kafka 2.8."""
    topic_id = getattr(fetcher._client.cluster, "topic_id", None)
    found = None if topic_id is None else topic_id(topic)
    return found if found and getattr(found, "int", 0) else None


def _times_s(sent: float) -> tuple[float, float]:
    """Return when the request was sent, and now. Up to 2.3 that is wall time, which no monotonic clock has reached."""
    arrived_s = time.monotonic()
    return sent if sent <= arrived_s else arrived_s - max(0.0, time.time() - sent), arrived_s


def _answers(response: Any, *, committed: bool) -> dict[tuple[str, int], Answer]:
    return {
        where: Answer(error, last_stable if committed and last_stable >= 0 else high_watermark, high_watermark, start)
        for where, error, high_watermark, last_stable, start in _partitions(response)
    }


def _partitions(response: Any) -> Iterator[tuple[tuple[str, int], int, int, int, int]]:
    """Yield where, error, high watermark, last stable and first offset: objects in 3.x, tuples before."""
    if hasattr(response, "responses"):
        for topic in response.responses:
            for each in topic.partitions:
                start = getattr(each, "log_start_offset", -1)
                stable = each.last_stable_offset
                yield (topic.topic, each.partition_index), each.error_code, each.high_watermark, stable, start
        return
    with_last_stable, with_start = response.API_VERSION >= 4, response.API_VERSION >= 5  # noqa: PLR2004 - Kafka's Fetch
    for topic, partitions in response.topics:
        for each in partitions:
            yield (topic, each[0]), each[1], each[2], each[3] if with_last_stable else -1, each[4] if with_start else -1
