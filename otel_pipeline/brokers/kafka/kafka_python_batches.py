"""How kafka-python's batches are answered: all sends of one are finished by its answer, not one by one.

A batch's `produce_future` is done with (base offset, time, function of a record's place that makes its exception) since
3.0; a batch that is too large is split, and its answer never comes.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.forks import Step, forks
from otel_pipeline.engine.sent_batch import SentBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.engine.send import Sending

_KEPT = "_otel_pipeline_sent"
"""Where a batch of the client's keeps ours: it goes with it."""


class SentBatches:
    """Finds out which sends stand in which batch, while the client holds the partition's lock."""

    __slots__ = ("__weakref__", "_engine", "expected", "is_known", "place")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.place = engine.guard.place("send.together")
        self.is_known = False
        """Whether the client is as known; each send is followed by itself otherwise, and where the place is off."""
        self.expected: dict[int, Sending] = {}
        """By the id of the headers that the client was given, while it is in `send()`."""
        forks.add(self.begin_anew, Step.ZERO)

    def begin_anew(self) -> None:
        """Expect nothing, in a forked child: what other threads were sending is the parent's."""
        self.expected.clear()

    def instrument(self, patches: Patches) -> None:
        """Follow batches that are split, where the client is as known."""
        from kafka.producer.future import FutureRecordMetadata

        try:
            from kafka.producer.record_accumulator import RecordAccumulator

            patches.check_signature(RecordAccumulator.split_and_reenqueue, ("self", "batch"), ("now",))
        except (ImportError, AttributeError, TypeError):
            return
        if hasattr(FutureRecordMetadata, "_add_cb_eb") and hasattr(FutureRecordMetadata, "rebind"):
            patches.replace(RecordAccumulator, "split_and_reenqueue", self._make_split)
            self.is_known = True

    def add(self, batch: Any, future: Any, sending: Sending) -> None:
        """Note that the client has taken a message into its batch; `future` is its own."""
        together = batch.__dict__.get(_KEPT)
        if together is None or together.engine is not self._engine:
            together = SentBatch(self._engine, batch.topic_partition.partition)
            answered = functools.partial(_answered, together)
            batch.produce_future._add_cb_eb(answered, answered)
            batch.__dict__[_KEPT] = together
        sending.place = future.args[0]
        together.sendings.append(sending)

    def _make_split(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def split_and_reenqueue(accumulator: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                together = batch.__dict__.pop(_KEPT, None)
                for sending in () if together is None else together.take():
                    batch._record_futures[sending.place]._add_cb_eb(sending, sending)
            except Exception:
                self.place.failed()
            return original(accumulator, batch, *args, **kwargs)

        return split_and_reenqueue


def _answered(together: SentBatch, answer: Any) -> None:
    """Finish what one batch holds, in the client's own thread. Never raises."""
    try:
        if isinstance(answer, BaseException):
            together.failed(lambda _place: answer)
            return
        base_offset, _, error_of = answer
        if error_of is None:
            # With acks=0 the client answers itself, and 0 is all that it knows of offsets.
            told = base_offset >= 0 and together.sendings and together.sendings[0].is_confirmed
            together.acknowledged(base_offset if told else None)
        else:
            together.failed(error_of)
    except Exception:
        together.engine.guard.place("send.finish").failed()
