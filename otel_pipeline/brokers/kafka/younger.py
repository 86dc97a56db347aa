"""Partitions that are younger than their consumer: what a client leaves out of one that it begins by itself is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.engine.clients import MAX_PARTITION_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_pipeline.brokers.kafka.feeds import Answer
    from otel_pipeline.engine.clients import Consumer


class Younger:
    """Those of one consumer. `assigned` is for the application's thread, `tell` for the client's."""

    __slots__ = ("_counts", "_waiting")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        """How many partitions each topic had when the first of them was assigned."""
        self._waiting: set[tuple[str, int]] = set()
        """Whose first answer has not come yet."""

    def assigned(self, partitions: Iterable[tuple[str, int, bool]], count_of: Callable[[str], int]) -> None:
        """Note what is assigned.

        Args:
            partitions: topic, partition, and whether it has no position: nobody has committed one, and the application
                has chosen none.
            count_of: returns how many partitions a topic has; 0 where that is not known.
        """
        for topic, partition, missing in partitions:
            if topic not in self._counts and len(self._counts) < MAX_PARTITION_STATES:
                self._counts[topic] = count_of(topic)
            if missing and 0 < self._counts.get(topic, 0) <= partition:
                self._waiting.add((topic, partition))

    def tell(
        self,
        consumer: Consumer,
        asked: Mapping[tuple[str, int], int],
        answers: Mapping[tuple[str, int], Answer],
    ) -> None:
        """Tell where those have begun whose first answer has come; what is asked and answered, `tell_fetched` says."""
        for key in list(self._waiting):
            answer, position = answers.get(key), asked.get(key)
            if answer is None or position is None or answer.error or answer.start < 0:
                continue
            self._waiting.discard(key)
            observer = consumer.fetch_observer(*key)
            if observer is not None and position > answer.start and key not in consumer.partitions:
                observer.skipped(position - answer.start)
