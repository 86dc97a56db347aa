"""Messages that a client sends together, and that one answer of the broker finishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.engine.failure import end_anyway
from otel_pipeline.engine.span_shape import ShapedSpan

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.clients import Destination
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.send import Sending
    from otel_pipeline.engine.span_shape import Values


class SentBatch:
    """The sends of one batch of a client's, all to one partition. Used by one thread at a time; nothing raises."""

    __slots__ = ("_partition", "engine", "sendings")

    def __init__(self, engine: Engine, partition: int) -> None:
        self.engine = engine
        self._partition = partition
        self.sendings: list[Sending] = []
        """Each with its `place`."""

    def take(self) -> list[Sending]:
        """Take out what is in it: whoever does finishes these sends."""
        sendings, self.sendings = self.sendings, []
        return sendings

    def failed(self, error_of: Callable[[int], BaseException]) -> None:
        """Finish them with the error of each place."""
        for sending in self.take():
            try:
                error = error_of(sending.place)
            except Exception:
                self.engine.guard.place("send.finish").failed()
                end_anyway(sending.span)
            else:
                sending.finish(None, None, error)

    def acknowledged(self, base_offset: int | None) -> None:
        """Finish them where the broker has written them, from this offset on; None where it does not say."""
        partition, taken = self._partition, self.take()
        destinations = {sending.destination for sending in taken}
        destination = destinations.pop() if len(destinations) == 1 else None
        if destination is None or not destination.bound:
            for sending in taken:
                sending.finish(partition, None if base_offset is None else base_offset + sending.place)
            return
        try:
            self._finish(destination, taken, base_offset)
        except Exception:
            self.engine.guard.place("send.finish").failed()
            for sending in taken:
                end_anyway(sending.span)

    def _finish(self, destination: Destination, taken: list[Sending], base_offset: int | None) -> None:
        """Do what `Sending.finish` does for each, once for all where that is the same."""
        now_ns = self.engine.monotonic_ns()
        seconds = [(now_ns - sending.started_ns) / 1e9 for sending in taken]
        destination.sent.cell.value += len(taken)
        destination.duration.cell.record_all(seconds)
        if base_offset is not None:
            destination.acknowledged[self._partition] = base_offset + taken[-1].place
        where = str(self._partition)
        ended: list[tuple[ShapedSpan, Values, int]] = []
        for sending in taken:
            span = sending.span
            if span is None:
                continue
            end_ns = sending.start_ns + now_ns - sending.started_ns
            at = None if base_offset is None else base_offset + sending.place
            if isinstance(span, ShapedSpan):
                ended.append((span, (where, at), end_ns))
            else:
                sending.end(span, where, at, end_ns)
        if ended:
            self.engine.spans.end_all(ended)
