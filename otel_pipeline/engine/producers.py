"""The producers of one client library, of any messaging system: what an adapter makes once, when it patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.client_objects import ClientObjects
from otel_pipeline.engine.clients import Producer

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.engine import Engine


class Producers(ClientObjects[Producer]):
    """What the engine knows of each producer.

    Args:
        engine: counts what `make` raises; such a producer is left alone.
        make: makes the engine's side of a client, with what its settings say (`Producer`).
        gone: called when a client is gone.
    """

    __slots__ = ("engine",)

    def __init__(
        self, engine: Engine, make: Callable[[Any], Producer], gone: Callable[[Producer], object] | None = None
    ) -> None:
        self.engine = engine
        super().__init__(engine.guard, make, Producer(attributes={}, excluded=True), gone)
