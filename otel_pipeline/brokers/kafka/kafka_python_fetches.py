"""What kafka-python's fetches, assignments and commits tell of pace and order. Private methods, checked before use.

`Fetcher._handle_fetch_response` had (request, send_time, response) in 2.0 and has (node_id, fetch_offsets, send_time,
response) since 2.1; it runs in the application's thread up to 2.3 and in the client's own in 3.x.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline.brokers.kafka import control_records, feeds
from otel_pipeline.brokers.kafka.feeds import Answer
from otel_pipeline.brokers.kafka.younger import Younger
from otel_pipeline.engine.clients import Position
from otel_pipeline.engine.patching import Around, DriftedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.observer import Resumed
    from otel_pipeline.engine.patching import Patches

_HANDLE = ("self", "node_id", "fetch_offsets", "send_time", "response")
_HANDLE_2_0 = ("self", "request", "send_time", "response")
_READ_COMMITTED = 1


class _Followed(NamedTuple):
    """Whose a subscription state is, and how that client goes on where it has no position."""

    client: ref[Any]
    consumer: ref[Consumer]
    resumed: Resumed
    younger: Younger


_followed: WeakKeyDictionary[Any, _Followed] = WeakKeyDictionary()
"""By subscription state, which is all that fetcher and coordinator know."""


def follow(client: Any, consumer: Consumer) -> None:
    """Note whose subscription state it is, and what becomes of a position that is lost."""
    _followed[client._subscription] = _Followed(ref(client), ref(consumer), feeds.resumed(client.config), Younger())


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
            patches.replace(ConsumerCoordinator, name, Around(guard.place("committed"), _offsets, _committed))
        if hasattr(SubscriptionState, "reset_missing_positions"):  # Since 2.1.
            patches.check_signature(SubscriptionState.reset_missing_positions, ("self",))
            around = Around(guard.place("reset"), _resets, lambda *_: None)
            patches.replace(SubscriptionState, "reset_missing_positions", around)
        try:
            patches.check_signature(Fetcher._handle_fetch_response, _HANDLE)
            read = _offsets_of_arguments
        except DriftedError:
            patches.check_signature(Fetcher._handle_fetch_response, _HANDLE_2_0)
            read = _offsets_of_request
        patches.replace(Fetcher, "_handle_fetch_response", functools.partial(_make_handle, consumers, read))
    except (AttributeError, DriftedError) as drifted:
        guard.problem("kafka_python.fetches", f"kafka-python: {drifted}; whether consumers keep pace is not known")


def _offsets(_coordinator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["offsets"]


def _committed(coordinator: Any, offsets: Any, error: BaseException | None) -> None:
    followed = _followed.get(coordinator._subscription)
    consumer = None if followed is None else followed.consumer()
    if consumer is not None and error is None:
        feeds.tell_committed(consumer, ((partition, each.offset) for partition, each in offsets.items()))


def _resets(state: Any, _args: object, _kwargs: object) -> None:
    """Note, before a client gives positions to partitions that have none, which these are."""
    followed = _followed.get(state)
    client = None if followed is None else followed.client()
    if followed is not None and client is not None:
        topics = client._client.cluster.partitions_for_topic
        states = [(*partition, each.is_missing_position()) for partition, each in state.assignment.items()]
        followed.younger.assigned(states, lambda topic: len(topics(topic) or ()))


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
            consumer = None if followed is None else followed.consumer()
            if followed is not None and consumer is not None and consumers.engine.active:
                asked, sent, response = read(args)
                if not getattr(response, "error_code", 0):
                    committed = getattr(self, "_isolation_level", 0) == _READ_COMMITTED
                    answers, log_of = _answers(response, committed=committed), functools.partial(_topic_id, self)
                    followed.younger.tell(consumer, asked, answers)
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
        where: Answer(
            error,
            last_stable if committed and last_stable >= 0 else high_watermark,
            high_watermark,
            start,
            control_records.offsets(records),
        )
        for where, error, high_watermark, last_stable, start, records in _partitions(response)
    }


def _partitions(response: Any) -> Iterator[tuple[tuple[str, int], int, int, int, int, bytes | None]]:
    """Yield where, error, high watermark, last stable and first offset, records: objects in 3.x, tuples before."""
    if hasattr(response, "responses"):
        for topic in response.responses:
            for each in topic.partitions:
                start = getattr(each, "log_start_offset", -1)
                where, stable = (topic.topic, each.partition_index), each.last_stable_offset
                yield where, each.error_code, each.high_watermark, stable, start, each.records
        return
    with_last_stable, with_start = response.API_VERSION >= 4, response.API_VERSION >= 5  # noqa: PLR2004 - Kafka's Fetch
    for topic, partitions in response.topics:
        for each in partitions:
            stable, start = each[3] if with_last_stable else -1, each[4] if with_start else -1
            yield (topic, each[0]), each[1], each[2], stable, start, each[-1]
