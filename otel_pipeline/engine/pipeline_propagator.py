"""The header `otelp` where OpenTelemetry propagates: HTTP and gRPC hops, others' instrumentations of brokers.

Entry point `otel_pipeline`, for `OTEL_PROPAGATORS=tracecontext,baggage,otel_pipeline`.
"""

from __future__ import annotations

import time

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.batch import batch_in_hand
from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.delivery import in_hand
from otel_pipeline.engine.guard import place_in_force, step_aside
from otel_pipeline.engine.origin import Origin, origin_of
from otel_pipeline.engine.pipeline_header import RIGHT_CLOCK, OwnClock
from otel_pipeline.engine.request import origin_of_request, with_request

_own: list[tuple[str | None, OwnClock]] = [(None, RIGHT_CLOCK)]


def activate(environment: str | None, clock: OwnClock = RIGHT_CLOCK) -> None:
    """Set environment and clock of data that begins here; by `instrument()` and `uninstrument()`."""
    _own[0] = environment, clock


class PipelinePropagator(TextMapPropagator):
    """Carries where data began. It never raises; what it cannot read is as if it were not there.

    What is written is that of the data in hand, one hop further: of a message, a batch, or the request that is being
    served. Without any of them the data begins here.
    """

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Keep what the carrier says in the context; of several headers the last one, as everywhere."""
        found = context
        try:
            found = get_current() if context is None else context
            if not place_in_force("propagator").off:
                values = getter.get(carrier, pipeline_header.NAME)
                if values and pipeline_header.decode(values[-1]) is not None:
                    return with_request(found, origin_of(values[-1], 0))
        except Exception:
            step_aside("propagator")
        return Context() if found is None else found

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write where the data in hand began. There is no number: only a client that numbers its messages has one."""
        try:
            if not place_in_force("propagator").off:
                _inject(carrier, get_current() if context is None else context, setter)
        except Exception:
            step_aside("propagator")

    @property
    def fields(self) -> set[str]:
        """The one header."""
        return {pipeline_header.NAME}


def _inject(carrier: CarrierT, context: Context, setter: Setter[CarrierT]) -> None:
    origin = _rests_on(context)
    if origin is None:
        now_ms = time.time_ns() // 1_000_000
        environment, clock = _own[0]
        origin = Origin(now_ms, now_ms, 0, environment, 0, doubted=clock.off)
    fans_in = origin.inputs > 1 or origin.newest_ms != origin.origin_ms
    written = pipeline_header.encode(
        flags=pipeline_header.flags_of(fans_in=fans_in, doubted=origin.doubted),
        hops=origin.hops + 1,
        environment=origin.environment,
        origin_ms=origin.origin_ms,
        newest_ms=origin.newest_ms,
        path=origin.path,
        producer_id=0,
        sequence=0,
        tag=0,
    )
    setter.set(carrier, pipeline_header.NAME, written.decode("ascii"))


def _rests_on(context: Context) -> Origin | None:
    delivery = in_hand(context)
    if delivery is not None:
        return delivery.origin
    batch = batch_in_hand.get()
    return origin_of_request(context) if batch is None else batch.origin
