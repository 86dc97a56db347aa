"""What aiokafka's fetches, assignments and commits tell of pace and order. Private methods, checked before use.

Its fetcher works in the background from `start()` on. All of it runs in the client's event loop, but for `positions`,
`is_member` and `cluster`, which any thread may call. Nothing here asks a broker.
"""

from __future__ import annotations

import functools
import inspect
import sys
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from otel_pipeline.brokers.kafka import control_records, feeds
from otel_pipeline.brokers.kafka.feeds import Answer
from otel_pipeline.brokers.kafka.younger import Younger
from otel_pipeline.engine.awaited_batch import lose
from otel_pipeline.engine.clients import Position
from otel_pipeline.engine.patching import Around, DriftedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.brokers.kafka.client import KafkaConsumers
    from otel_pipeline.engine.clients import Consumer, Polling
    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.observer import Resumed
    from otel_pipeline.engine.patching import Patches

_FETCH = 1
"""The key of Kafka's Fetch."""
_WITH_LAST_STABLE, _WITH_START, _WITH_ERROR = 4, 5, 7
"""Since which version of it an answer has these."""
_NO_OFFSET = -1
_ASKS = attrgetter("getone", "getmany")


class _Followed(NamedTuple):
    """Whose a subscription state and a network client are, and how that consumer goes on where it has no position."""

    client: ref[Any]
    consumer: ref[Consumer]
    committed_only: bool
    resumed: Resumed
    younger: Younger


_by_subscription: WeakKeyDictionary[Any, _Followed] = WeakKeyDictionary()
_by_network: WeakKeyDictionary[Any, _Followed] = WeakKeyDictionary()
_clusters: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""The cluster's id, by the object that a client keeps its metadata in."""


def follow(client: Any, consumer: Consumer) -> None:
    """Note whose fetches, assignments and commits these are."""
    resumed = feeds.resumed({"auto_offset_reset": client._auto_offset_reset})
    committed_only = client._isolation_level == "read_committed"
    followed = _Followed(ref(client), ref(consumer), committed_only, resumed, Younger())
    _by_subscription[client._subscription] = _by_network[client._client] = followed


def _assigned(client: Any) -> Any:
    """Return what is assigned to the client now, or was until it is given something else; None without it."""
    subscription = client._subscription.subscription
    return None if subscription is None else subscription.assignment


def positions(client: Any) -> dict[tuple[str, int], Position]:
    """Return the next offset of each assigned partition. Any thread: an assignment is never changed, but replaced."""
    assignment = _assigned(client)
    found: dict[tuple[str, int], Position] = {}
    for partition in () if assignment is None else assignment.tps:
        state = assignment.state_value(partition)
        found[partition.topic, partition.partition] = Position(state._position, bool(state.paused))
    return found


def is_member(client: Any) -> bool:
    """Tell whether the group has given the client its partitions, and takes them when it does not ask.

    A call that was cancelled is counted by the client as one that waits, for good: then the group never does.
    """
    subscription = client._subscription
    asks = subscription.fetcher_idle_time == 0
    return client._group_id is not None and subscription.partitions_auto_assigned() and not asks


def cluster(client: Any) -> str | None:
    """Return the id of the cluster, which the client itself does not keep; None before 0.13, which does not ask."""
    network = getattr(client, "_client", None) or client.client
    return _clusters.get(network.cluster)


def instrument_cluster(patches: Patches, guard: Guard) -> None:
    """Learn the ids of clusters. Where that cannot be done, they stay unknown."""
    from aiokafka.cluster import ClusterMetadata

    def learn(metadata: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = getattr(args[0] if args else kwargs["metadata"], "cluster_id", None)
        if isinstance(found, str):
            _clusters[metadata] = found

    patches.replace(ClusterMetadata, "update_metadata", Around(guard.place("cluster"), learn, lambda *_: None))


def instrument(patches: Patches, consumers: KafkaConsumers) -> None:
    """Follow fetches, assignments and commits. Where that cannot be done, pace is unknown, and the status says so."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.consumer.group_coordinator import GroupCoordinator
    from aiokafka.consumer.subscription_state import SubscriptionState, TopicPartitionState

    guard = consumers.engine.guard
    known = (
        (GroupCoordinator, "_do_commit_offsets", ("self", "assignment", "offsets")),
        (SubscriptionState, "assign_from_user", ("self", "partitions")),
        (SubscriptionState, "assign_from_subscribed", ("self", "assignment")),
        (TopicPartitionState, "update_committed", ("self", "offset_meta")),
        (SubscriptionState, "fetch_context", ("self",)),
        (AIOKafkaClient, "send", ("self", "node_id", "request", "group")),
    )
    try:
        for owner, name, expected in known:
            patches.check_signature(getattr(owner, name), expected)
    except (AttributeError, DriftedError) as drifted:
        guard.problem("aiokafka.fetches", f"aiokafka: {drifted}; whether consumers keep pace is not known")
        return
    patches.replace(GroupCoordinator, "_do_commit_offsets", Around(guard.place("committed"), _offsets, _committed))
    for name in ("assign_from_user", "assign_from_subscribed"):
        patches.replace(SubscriptionState, name, Around(guard.place("assigned"), _argument, _tell_assigned))
    patches.replace(TopicPartitionState, "update_committed", Around(guard.place("reset"), _begins, lambda *_: None))
    patches.replace(SubscriptionState, "fetch_context", functools.partial(_make_fetch_context, consumers))
    patches.replace(AIOKafkaClient, "send", functools.partial(_make_send, consumers))


def _argument(_object: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return next(iter((*args, *kwargs.values())))


def _offsets(_coordinator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs["offsets"] if "offsets" in kwargs else args[1]


def _committed(coordinator: Any, offsets: Any, error: BaseException | None) -> None:
    followed = _by_subscription.get(coordinator._subscription)
    consumer = None if followed is None else followed.consumer()
    if consumer is not None and error is None:
        feeds.tell_committed(consumer, ((partition, each.offset) for partition, each in offsets.items()))


def _tell_assigned(subscriptions: Any, partitions: Any, error: BaseException | None) -> None:
    """Tell of partitions that have been assigned, anew where messages have come from them before."""
    followed = _by_subscription.get(subscriptions)
    consumer = None if followed is None else followed.consumer()
    for topic, partition in () if consumer is None or error is not None else partitions:
        state = consumer.partitions.get((topic, partition)) if consumer is not None else None
        if state is not None and state.observer is not None:
            state.observer.assigned()


def _begins(state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Note whether the client gives the partition a position itself: nobody has committed or chosen one."""
    found = _partition_of(state)
    if found is None:
        return
    (topic, partition), followed, client = found
    chosen = state.has_valid_position or state.awaiting_reset
    missing = _argument(state, args, kwargs).offset == _NO_OFFSET and not chosen
    count = len(client._client.cluster.partitions_for_topic(topic) or ())
    followed.younger.assigned([(topic, partition, missing)], lambda _topic: count)


def _partition_of(state: Any) -> tuple[tuple[str, int], _Followed, Any] | None:
    """Find which partition of which client it is: a state knows neither. This is asked once per assignment."""
    for followed in list(_by_subscription.values()):
        client = followed.client()
        if client is not None and (assignment := _assigned(client)) is state._assignment:
            return next((each, followed, client) for each in assignment.tps if assignment.state_value(each) is state)
    return None


def _make_fetch_context(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    from aiokafka import AIOKafkaConsumer

    guard, monotonic_ns = consumers.engine.guard, consumers.engine.monotonic_ns
    place, ours = guard.place("asks"), {inspect.unwrap(each).__code__ for each in _ASKS(AIOKafkaConsumer)}

    @functools.wraps(original)
    def fetch_context(self: Any) -> Any:
        context = original(self)
        try:
            followed = None if place.off else _by_subscription.get(self)
            consumer = None if followed is None else followed.consumer()
            if consumer is not None:
                # A framework's own code may pass them by, where its adapter says which message is in hand.
                if consumer.iterator_spans and sys._getframe(1).f_code not in ours:
                    lose(consumer, guard, "code that passes getone() and getmany() by")
                return _Asking(context, consumer.polling, monotonic_ns, place)
        except Exception:
            place.failed()
        return context

    return fetch_context


class _Asking:
    """The client's own context around each wait for messages, whoever waits: a framework may pass `getmany` by."""

    __slots__ = ("_enter", "_exit", "_monotonic_ns", "_place", "_polling")

    def __init__(self, context: Any, polling: Polling, monotonic_ns: Callable[[], int], place: Place) -> None:
        self._enter, self._exit = context.__enter__, context.__exit__
        self._polling, self._monotonic_ns, self._place = polling, monotonic_ns, place

    def __enter__(self) -> Any:
        original = self._enter
        try:
            self._polling.enter(self._monotonic_ns())
        except Exception:
            self._place.failed()
        return original()

    def __exit__(self, *raised: object) -> Any:
        original = self._exit
        try:
            self._polling.leave(self._monotonic_ns())
        except Exception:
            self._place.failed()
        return original(*raised)


def _make_send(consumers: KafkaConsumers, original: Callable[..., Any]) -> Callable[..., Any]:
    place, engine = consumers.engine.guard.place("fetched"), consumers.engine

    @functools.wraps(original)
    async def send(self: Any, node_id: Any, request: Any, **group: Any) -> Any:
        followed, sent_s = None, 0.0
        try:
            if getattr(request, "API_KEY", None) == _FETCH and engine.active and not place.off:
                followed, sent_s = _by_network.get(self), time.monotonic()
        except Exception:
            place.failed()
        response = await original(self, node_id, request, **group)
        try:
            consumer = None if followed is None else followed.consumer()
            if followed is not None and consumer is not None:
                _tell_fetched(followed, consumer, request, response, sent_s)
        except Exception:
            place.failed()
        return response

    return send


def _tell_fetched(followed: _Followed, consumer: Consumer, request: Any, response: Any, sent_s: float) -> None:
    if response.API_VERSION >= _WITH_ERROR and response.error_code:
        return
    asked = {(topic, each[0]): each[1] for topic, partitions in request.topics for each in partitions}
    answers = dict(_answers(response, committed_only=followed.committed_only))
    followed.younger.tell(consumer, asked, answers)
    feeds.tell_fetched(consumer, asked, answers, (sent_s, time.monotonic()), followed.resumed)


def _answers(response: Any, *, committed_only: bool) -> Iterator[tuple[tuple[str, int], Answer]]:
    version = response.API_VERSION
    for topic, partitions in response.topics:
        for partition, error, written, *rest in partitions:
            stable = rest[0] if version >= _WITH_LAST_STABLE else -1
            start = rest[1] if version >= _WITH_START else -1
            end = stable if committed_only and stable >= 0 else written
            yield (topic, partition), Answer(error, end, written, start, control_records.offsets(rest[-1]))
