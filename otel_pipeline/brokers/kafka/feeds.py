"""What observers are told of a consumer's assignments, commits and fetches, in terms that every Kafka client has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.engine.clients import MAX_PARTITION_STATES
from otel_pipeline.engine.delivery import in_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.observer import Resumed

OFFSET_OUT_OF_RANGE = 1


class Answer(NamedTuple):
    """What a broker said of one partition."""

    error: int
    """The error code of Kafka's protocol; 0 is none."""
    end: int
    """The offset of the next message to come that may be read; below 0 where it is not said."""
    written: int = -1
    """The offset of the next message to come, that of an open transaction included; below 0 where it is not said."""
    start: int = -1
    """The offset of the first message that the log still has; below 0 where it is not said."""
    markers: Sequence[int] = ()
    """Offsets of what came that are no messages: where transactions end."""


def _unknown(_topic: str) -> None:
    """Return None, for a client that does not tell."""


def resumed(settings: Mapping[str, object]) -> Resumed:
    """Return which message a client goes on with when its position is gone from the log."""
    return "earliest" if settings.get("auto_offset_reset") == "earliest" else "latest"


def teller_of_assignments(
    guard: Guard, assignment_of: Callable[[Any], Mapping[tuple[str, int], object]]
) -> Callable[[Any, Consumer, Iterable[tuple[str, int]]], None]:
    """Make a function that tells of partitions that have been assigned anew since their last messages. It never raises.

    It is called with (client, consumer, the partitions from which messages have come), before these are counted.

    Args:
        guard: counts what `assignment_of` raises.
        assignment_of: takes a client and returns an object for each partition, the same one while it stays assigned.
    """
    place = guard.place("assigned")

    def tell_assigned(client: Any, consumer: Consumer, partitions: Iterable[tuple[str, int]]) -> None:
        try:
            if place.off:
                return
            known, assignment = consumer.assignments, assignment_of(client)
            for partition in partitions:
                before, current = known.get(partition), assignment.get(partition)
                if current is None or current is before:
                    continue
                if len(known) >= MAX_PARTITION_STATES:
                    known.clear()
                known[partition[0], partition[1]] = current
                state = consumer.partitions.get(partition)
                if before is not None and state is not None and state.observer is not None:
                    state.observer.assigned()
        except Exception:
            place.failed()

    return tell_assigned


def tell_committed(consumer: Consumer, offsets: Iterable[tuple[tuple[str, int], int]]) -> None:
    """Tell of the group's new positions, which the application has set itself: it may still have messages in hand."""
    if not consumer.explicit:
        return
    delivery = in_hand()
    if delivery in consumer.deliveries() and not consumer.iterator_spans:
        delivery = None  # It was handed out here, and `process()` has it elsewhere.
    for partition, offset in offsets:
        state = consumer.partitions.get(partition)
        if state is not None and state.observer is not None:
            mine = delivery is not None and (delivery.destination, delivery.partition) == tuple(partition)
            state.observer.committed(offset, delivery.offset if mine and delivery is not None else None)


def tell_fetched(
    consumer: Consumer,
    asked: Mapping[tuple[str, int], int],
    answers: Mapping[tuple[str, int], Answer],
    times_s: tuple[float, float],
    reset: Resumed,
    log_of: Callable[[str], object] = _unknown,
) -> None:
    """Tell of the ends of partitions, from any thread.

    Args:
        consumer: whose fetch it was.
        asked: the position from which each partition was asked for.
        answers: what came; a partition that has none is unchanged (KIP-227).
        times_s: when the request was sent and when it was answered, of a monotonic clock.
        reset: see `resumed`.
        log_of: returns the id of a topic of this name, which is another one when it is made anew; None: not known.
    """
    sent_s, arrived_s = times_s
    for asked_for, position in asked.items():
        key = (asked_for[0], asked_for[1])
        observer = consumer.fetch_observer(*key)
        if observer is None:
            continue
        answer = answers.get(key)
        if answer is None:
            observer.of_log(log_of(key[0]))
            observer.fetched(sent_s, arrived_s, position, None)
        elif answer.error == OFFSET_OUT_OF_RANGE:
            observer.out_of_range(position, reset)
        elif answer.error == 0:
            end = answer.end if answer.end >= 0 else None
            observer.of_log(log_of(key[0]))
            observer.fetched(sent_s, arrived_s, position, end, answer.written, answer.start)
            if answer.markers:
                observer.markers(answer.markers)
