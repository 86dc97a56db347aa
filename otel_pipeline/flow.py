"""`otel_pipeline.flow`: data that waits in windows, joins and caches before something is made of it.

One message at a time needs none of this, nor does a batch: what is sent or decided meanwhile rests on what is in hand.
Where state outlives a message, only the application knows what a result rests on:

    window.append(flow.capture())            # beside the value that is kept
    with flow.joined(*window):               # the result rests on all of them, and on the message in hand
        producer.send("averages", mean(values))

    flow.input("customer-features", age_s=row.age)    # read from elsewhere: the decision rests on it too
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from opentelemetry.context import Context, attach, get_current

from otel_pipeline.detectors import inputs
from otel_pipeline.engine.batch import origin_in_hand
from otel_pipeline.engine.delivery import DELIVERY_KEY, OpenDelivery, back_to, execution, in_hand
from otel_pipeline.engine.failure import text_of
from otel_pipeline.engine.guard import guarded, place_in_force, step_aside
from otel_pipeline.engine.origin import Origin, merge

if TYPE_CHECKING:
    from types import TracebackType

_MAX_NAME_BYTES = 256
_NOTHING = Origin(0, 0, 0, None, 0, 0)
_UNKNOWN = Origin(0, 0, 0, None, 0, 1)


@dataclass(frozen=True, slots=True)
class Captured:
    """The origin of data that is kept for later: six numbers, to be stored beside it."""

    origin: Origin

    @property
    def age_s(self) -> float | None:
        """Age of the oldest of it now, s; None when its origin is not known."""
        return self.origin.age_s


_LOST = Captured(_UNKNOWN)


@guarded("flow", _LOST)
def capture() -> Captured:
    """Return what the data in hand rests on, to be given to `joined` later. Outside a delivery its origin is unknown.

    Never raises; safe in any thread and task.
    """
    return Captured(origin_in_hand() or _UNKNOWN)


class Joined:
    """One use of `joined`."""

    __slots__ = ("_before", "_captured", "_own")

    def __init__(self, captured: tuple[Captured, ...]) -> None:
        self._captured = captured
        self._before: Context | None = None
        self._own: Context | None = None

    def __enter__(self) -> Captured:
        before = None
        try:
            before = get_current()
            return self._begin(before)
        except BaseException:
            step_aside("flow", back_to, before)
        self._before = None
        return _LOST

    def _begin(self, before: Context) -> Captured:
        if place_in_force("flow").off:
            return _LOST
        origins = [each.origin for each in self._captured if isinstance(each, Captured) and each.origin.inputs]
        here = origin_in_hand()
        if here is not None:
            origins.append(here)
        # One of unknown origin, 0, makes the oldest unknown: an age that leaves it out would be too good.
        joined = merge(origins) if origins else _NOTHING
        delivery = _standing_for(in_hand(before), joined, before)
        self._before = before
        self._own = delivery.own = Context({**before, DELIVERY_KEY: delivery})
        captured = Captured(joined)
        attach(self._own)  # Without a token, as all of ours: a generator may be closed in another context.
        return captured

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            self._leave()
        except BaseException:
            step_aside("flow", self._leave)

    def _leave(self) -> None:
        if self._before is not None and get_current() is self._own:
            attach(self._before)
        self._before = None


def joined(*captured: Captured) -> Joined:
    """Let what is sent or decided inside rest on all of these, and on the message in hand where there is one.

    The oldest origin decides on the age; newest, most hops and the number of inputs are kept beside it. A context
    manager; never raises; safe in any thread and task.
    """
    return Joined(captured)


@guarded("flow", None)
def input(  # noqa: A001 - the word that the verb has in streaming; used as `flow.input`
    name: str, *, event_time: datetime | float | None = None, age_s: float | None = None
) -> None:
    """Note that the message in hand is worked on with data from elsewhere: a feature store, a cache, a table.

    Args:
        name: what it is, of low cardinality: `otel_pipeline.input.age` has the first 100 by name.
        event_time: when that data was true: a datetime (without zone: UTC) or s since the epoch.
        age_s: how old it is, s; the alternative to `event_time`.

    Without either, its age is unknown and so is, honestly, that of the decision; `otel_pipeline.input.unknown_ages`
    counts that. Outside a delivery nothing happens.
    """
    delivery = in_hand()
    if delivery is None or delivery.ended:
        return
    origin_ms = _origin_ms(event_time, age_s)
    inputs.taken(text_of(name, _MAX_NAME_BYTES), int(time.time() * 1000) - origin_ms if origin_ms > 0 else None)
    before = delivery.origin
    if origin_ms <= 0:
        # One input of unknown age makes the oldest origin unknown.
        delivery.known_origin = before._replace(origin_ms=0, inputs=before.inputs + 1)
        return
    delivery.known_origin = merge([before, Origin(origin_ms, origin_ms, 0, None, 0)])


def _origin_ms(event_time: datetime | float | None, age_s: float | None) -> int:
    try:
        if isinstance(event_time, datetime):
            zoned = event_time if event_time.tzinfo is not None else event_time.replace(tzinfo=timezone.utc)
            return int(zoned.timestamp() * 1000)
        if event_time is not None:
            return int(event_time * 1000)
        if age_s is not None:
            return int((time.time() - age_s) * 1000)
    except (ValueError, OverflowError, TypeError):
        return 0
    return 0


class _NoPartition:
    """Stands in for the partition where a join has no message in hand."""

    destination = ""
    partition = None
    observer = None


def _standing_for(delivery: OpenDelivery | None, origin: Origin, before: Context) -> OpenDelivery:
    """Make a delivery like the one in hand, with the joined origin; it is never finished, because it was not opened."""
    state = _NoPartition if delivery is None else delivery.state
    offset, traceparent = (None, None) if delivery is None else (delivery.offset, delivery.traceparent)
    joined_delivery = OpenDelivery(state, None, offset, 0, traceparent, None, None, 0, 0, before)
    if delivery is not None:
        joined_delivery.batched, joined_delivery.span = delivery.batched, delivery.span
    joined_delivery.known_origin = origin
    joined_delivery.execution = execution()
    return joined_delivery
