"""Notes which file a model is loaded from: where the library reads one, by a method of the model or by a function."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.model_objects import models

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.patching import Patches


def note_files(
    patches: Patches,
    place: Place,
    owner: type | ModuleType,
    name: str,
    parameter: str,
    note: Callable[[Any, Any], None] = models.loaded,
) -> bool:
    """Patch what loads a model: a method of it, its constructor included, or a function that returns one.

    Args:
        patches: remembers what was there.
        place: counts what cannot be noted.
        owner: the class, or the module.
        name: of the method or function.
        parameter: which of its parameters has the path; what is no path is left alone.
        note: told the model and the path. It may raise.

    Returns:
        whether there is such a method or function here.
    """
    original = inspect.getattr_static(owner, name, None)
    if not isinstance(original, FunctionType):
        return False
    parameters = list(inspect.signature(original).parameters)
    if parameter not in parameters:
        return False
    position, is_method = parameters.index(parameter), isinstance(owner, type)

    def make(load: Any) -> Any:
        @functools.wraps(load)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = load(*args, **kwargs)
            try:
                path = args[position] if len(args) > position else kwargs.get(parameter)
                if path is not None and not place.off:
                    note(args[0] if is_method else result, path)
            except OSError:
                return result  # The library has read it from elsewhere, or it is gone.
            except Exception:
                place.failed()
            return result

        return call

    patches.replace(owner, name, make)
    return True
