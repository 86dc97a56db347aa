"""Runs what is no model call although it predicts: training, and workers of a call that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, get_current, set_value

from otel_pipeline.engine.inference import INFERENCE_KEY
from otel_pipeline.engine.model_objects import models
from otel_pipeline.engine.scope import NOTHING, decorate

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.scope import Scope


def apart(inferences: Inferences, place: Place, method: Any) -> Any:
    """Return the method of a model, or of a worker, inside of which no model call counts."""

    def opened(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Scope:
        before = get_current()
        if args:
            models.forget_calls(id(args[0]))  # What it is called may come from what training has found.
        wanted = inferences.active and not place.off and not before.get(INFERENCE_KEY)
        return _Apart(before) if wanted else NOTHING

    return decorate(method, opened, lambda: place)


class _Apart:
    """The scope of a call without spans of ours."""

    refusal: Exception | None = None

    def __init__(self, before: Context) -> None:
        self._before = before
        self._inside = set_value(INFERENCE_KEY, True, before)
        self.resume()

    def resume(self) -> None:
        attach(self._inside)

    def suspend(self) -> None:
        if get_current() is self._inside:
            attach(self._before)

    def finish(self, _error: BaseException | None) -> None:
        self.suspend()

    abandon = suspend
