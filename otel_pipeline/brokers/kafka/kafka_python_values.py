"""Values that the application's own serializer or deserializer does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from otel_pipeline.engine.engine import Engine

_CALLERS = frozenset({"_serialize", "_deserialize"})


def tell_of_failure(engine: Engine, error: BaseException, side: Literal["producer", "consumer"]) -> None:
    """Count a value as unreadable where a (de)serializer raised this. Never raises.

    The client's methods that call them are on the traceback, with the topic: nothing has to be wrapped for the case
    that nothing goes wrong.
    """
    place = engine.guard.place("unreadable")
    if engine.unreadable is None or place.off:
        return
    try:
        frames = error.__traceback__
        while frames is not None:
            frame = frames.tb_frame
            if frame.f_code.co_name in _CALLERS and frame.f_globals.get("__name__", "").startswith("kafka."):
                topic = frame.f_locals.get("topic")
                if isinstance(topic, str):
                    engine.unreadable(topic, side)
                return
            frames = frames.tb_next
    except Exception:
        place.failed()
