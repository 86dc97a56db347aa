"""Measures how long a commit or an acknowledgement took. It has no span: Java withdrew that as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline import semconv
from otel_pipeline.engine.failure import error_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.clients import Consumer
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.totals import AttributeValue


def settler(engine: Engine, operation: str) -> Callable[..., None]:
    """Make a function that is told that messages were settled; it never raises.

    It is called with (consumer, started_ns, error); what a client's callback adds is left out. `operation` is the
    library's own word.
    """
    histogram, monotonic_ns = engine.operation_duration, engine.monotonic_ns
    place = engine.guard.place("settle")

    def settled(consumer: Consumer, started_ns: int, error: BaseException | None, *_answer: Any) -> None:
        try:
            if place.off:
                return
            attributes: dict[str, AttributeValue] = {
                **consumer.metric_attributes,
                semconv.MESSAGING_OPERATION_NAME: operation,
                semconv.MESSAGING_OPERATION_TYPE: "settle",
            }
            if error is not None:
                attributes[semconv.ERROR_TYPE] = error_type(error)
            histogram.local(attributes).cell.record((monotonic_ns() - started_ns) / 1e9)
        except Exception:
            place.failed()

    return settled
