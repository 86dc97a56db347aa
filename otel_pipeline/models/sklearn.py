"""scikit-learn.

Patched: predict, predict_proba, predict_log_proba, decision_function and transform of every estimator class, of which
the outermost call counts; fit, fit_transform, fit_predict and partial_fit, because nothing inside training is
inference; __init_subclass__ of BaseEstimator and _SetOutputMixin, for classes defined later; parallel._FuncWrapper, for
inner calls in joblib's threads.
"""

from __future__ import annotations

import copy
import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, get_current, set_value

from otel_pipeline.engine.inference import INFERENCE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.patching import Patches

INFERENCE = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
_MAX_NESTED = 10
TRAINING = ("fit", "fit_transform", "fit_predict", "partial_fit")


def instrument(patches: Patches, inferences: Inferences, guard: Guard) -> None:
    """Patch the classes that exist, and those that will be defined later."""
    from sklearn.base import BaseEstimator

    def patch(estimator: type) -> None:
        for name in INFERENCE:
            _replace(patches, estimator, name, functools.partial(_inference, inferences, guard, name))
        for name in TRAINING:
            _replace(patches, estimator, name, functools.partial(_apart, inferences))

    for estimator in _descendants(BaseEstimator):
        patch(estimator)
    _patch_new_classes(patches, BaseEstimator, patch, guard)
    _patch_workers(patches, inferences)


def _descendants(kind: type) -> Iterator[type]:
    seen: set[type] = {kind}
    waiting = [kind]
    while waiting:
        children: list[type] = waiting.pop().__subclasses__()
        for child in children:
            if child not in seen:
                seen.add(child)
                waiting.append(child)
                yield child


def _replace(patches: Patches, estimator: type, name: str, wrap: Callable[[Any], Any]) -> None:
    """Patch a method where it is defined: in the class, or in a mixin that is no estimator itself."""
    for owner in estimator.__mro__:
        found = owner.__dict__.get(name)
        if found is not None:
            # A class that others share is patched once; what is no method, a property say, is left alone.
            if isinstance(found, FunctionType) or isinstance(getattr(found, "fn", None), FunctionType):
                patches.replace(owner, name, functools.partial(_of_method, wrap))
            return


def _of_method(wrap: Callable[[Any], Any], method: Any) -> Any:
    """Replace a plain method, or one behind `available_if`, whose condition stays as it is."""
    if isinstance(method, FunctionType):
        return wrap(method)
    conditional = copy.copy(method)
    conditional.fn = wrap(method.fn)
    return conditional


def _inference(inferences: Inferences, guard: Guard, operation: str, method: Any) -> Any:
    place = guard.place("sklearn")

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not inferences.active or get_current().get(INFERENCE_KEY):
            return method(self, *args, **kwargs)
        try:
            model, rows = _model(self), None if place.off else _rows(args[0] if args else kwargs.get("X"))
        except Exception:
            place.failed()
            model, rows = type(self).__name__, None
        inference = inferences.begin(model, operation=operation, library="scikit-learn", rows=rows)
        try:
            result = method(self, *args, **kwargs)
        except BaseException as error:
            inference.finish(error)
            raise
        inference.finish()
        return result

    return call


def _apart(inferences: Inferences, method: Any) -> Any:
    """Run without spans of ours: training, and workers of a call that has one."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = get_current()
        if not inferences.active or before.get(INFERENCE_KEY):
            return method(self, *args, **kwargs)
        inside = set_value(INFERENCE_KEY, True, before)
        attach(inside)
        try:
            return method(self, *args, **kwargs)
        finally:
            if get_current() is inside:
                attach(before)

    return call


def _model(estimator: Any) -> str:
    """Return the class's name: for a pipeline that of its last step, for a search that of the estimator it found."""
    for _ in range(_MAX_NESTED):
        steps = getattr(estimator, "steps", None)
        inner = steps[-1][1] if isinstance(steps, list) and steps else getattr(estimator, "best_estimator_", None)
        if inner is None or isinstance(inner, str):  # "passthrough"
            break
        estimator = inner
    return type(estimator).__name__


def _rows(data: Any) -> int | None:
    """Count the rows without touching the data; None where that is impossible."""
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    return len(data) if isinstance(data, (list, tuple)) else None


def _patch_new_classes(patches: Patches, base: type, patch: Callable[[type], None], guard: Guard) -> None:
    """Patch each class when it is made: when the outermost `__init_subclass__` is done.

    scikit-learn's own one wraps `transform` too. Patched before it, ours could not be taken out again.
    """
    place = guard.place("sklearn.class")
    under_way: set[type] = set()

    def make(original: Any) -> Any:
        inherited = original.__func__ if isinstance(original, classmethod) else original

        @functools.wraps(inherited)
        def __init_subclass__(cls: type, **kwargs: Any) -> None:  # noqa: N807
            if cls in under_way:
                inherited(cls, **kwargs)
                return
            under_way.add(cls)
            try:
                inherited(cls, **kwargs)
            finally:
                under_way.discard(cls)
            if place.off or not issubclass(cls, base):
                return
            try:
                patch(cls)
            except Exception:
                place.failed()

        hook: Any = classmethod(__init_subclass__)  # type: ignore[arg-type]
        return hook

    for owner in (base, _output_mixin()):
        if owner is not None:
            patches.replace(owner, "__init_subclass__", make)


def _output_mixin() -> type | None:
    """Return the class whose `__init_subclass__` wraps `transform`; None where there is none, as in later versions."""
    try:
        from sklearn.utils import _set_output
    except ImportError:
        return None
    return getattr(_set_output, "_SetOutputMixin", None)


def _patch_workers(patches: Patches, inferences: Inferences) -> None:
    """Patch joblib's workers: its threads do not inherit the context, and each tree of a forest would be a call."""
    from sklearn.utils import parallel

    worker = getattr(parallel, "_FuncWrapper", None)
    if worker is not None:
        patches.replace(worker, "__call__", functools.partial(_apart, inferences))
