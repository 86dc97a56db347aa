"""Where the logs end that a consumer of confluent-kafka reads: as its own fetches have told it. No broker is asked."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka.confluent_kafka_clients import raise_unless_closed
from otel_pipeline.brokers.kafka.feeds import Answer, resumed, tell_fetched
from otel_pipeline.engine.clients import Position

if TYPE_CHECKING:
    from otel_pipeline.brokers.kafka.confluent_kafka_clients import ConsumerHandle
    from otel_pipeline.engine.clients import Consumer

APART_S = 0.9
"""Between two looks; who wants to know looks once a second."""
LATE_S = 0.5
"""How much longer than it was asked to a broker may have waited with an answer."""
BLIND_AFTER_S = 5.0
"""What is before the end and does not come for so long may be what readers never get: an open or aborted transaction,
or the mark of one that is over. Nothing here tells them apart."""


def look(handle: ConsumerHandle, client: Any, consumer: Consumer) -> None:
    """Read the ends, and tell of them. In the thread that uses the client, between two of its calls.

    In another thread the client would keep us waiting until its own call returns, and for ever where one call follows
    the other: seen with 2.16.1.
    """
    from confluent_kafka import KafkaException, TopicPartition

    now_s = monotonic()
    handle.look_at_s = now_s + APART_S
    settings, down = handle.settings, handle.is_down(now_s)
    asks = consumer.open is None and consumer.batch is None
    asked, answers = {}, {}
    for key in list(handle.partitions()):
        at = handle.at.get(key)
        try:
            end = client.get_watermark_offsets(TopicPartition(*key), cached=True)[1]
        except KafkaException:  # It is not assigned yet, or no more.
            continue
        except RuntimeError as error:
            return raise_unless_closed(error)
        if at is None or end < 0:
            continue
        waits_s = handle.waits(key, end, now_s, asks=asks)
        (handle.blind.add if end > at and waits_s >= BLIND_AFTER_S else handle.blind.discard)(key)
        # It fetches on and on, except where its queue may be full: then the end is as old as the last fetch.
        if not down and end - at < settings.get("queued_min_messages", 0):
            asked[key] = at
            answers[key] = Answer(0, end)
    late_s = settings.get("fetch_wait_max_ms", 0) / 1000 + LATE_S
    return tell_fetched(consumer, asked, answers, (now_s - late_s, now_s), resumed(settings))


def positions(handle: ConsumerHandle) -> dict[tuple[str, int], Position]:
    """Return the next offset of each partition. Any thread: the client itself is not asked."""
    return {
        key: Position(None if key in handle.blind else handle.at.get(key), key in handle.paused)
        for key in handle.partitions()
    }


def is_member(handle: ConsumerHandle) -> bool:
    """Tell whether the group has given the client its partitions, and takes them when it does not poll."""
    return handle.subscribed and bool(handle.settings.get("group_id"))
