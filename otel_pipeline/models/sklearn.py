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
from otel_pipeline.engine.model_methods import ModelMethods
from otel_pipeline.engine.model_objects import models
from otel_pipeline.engine.scope import NOTHING, decorate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.context import Context

    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.engine.scope import Scope

INFERENCE = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
_MAX_NESTED = 10
_OTHERS = ("catboost", "lightgbm", "xgboost")
TRAINING = ("fit", "fit_transform", "fit_predict", "partial_fit")


def instrument(patches: Patches, inferences: Inferences, guard: Guard) -> None:
    """Patch the classes that exist, and those that will be defined later."""
    from sklearn.base import BaseEstimator

    methods = ModelMethods(inferences, guard, _library, "sklearn", inner=_inner)
    place = methods.place

    def patch(estimator: type) -> None:
        for name in INFERENCE:
            _replace(patches, estimator, name, functools.partial(methods.around, name, rows_of))
        for name in TRAINING:
            _replace(patches, estimator, name, functools.partial(_apart, inferences, place))

    for estimator in _descendants(BaseEstimator):
        patch(estimator)
    _patch_new_classes(patches, BaseEstimator, patch, guard)
    _patch_workers(patches, inferences, place)


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


def _apart(inferences: Inferences, place: Place, method: Any) -> Any:
    """Run without spans of ours: training, and workers of a call that has one."""

    def opened(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Scope:
        before = get_current()
        if args:
            models.forget_calls(id(args[0]))  # What a search has found names it.
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


def _inner(estimator: Any) -> Iterator[Any]:
    """Yield what an estimator stands for: a pipeline for its last step, a search for what it has found."""
    for _ in range(_MAX_NESTED):
        steps = getattr(estimator, "steps", None)
        estimator = steps[-1][1] if isinstance(steps, list) and steps else getattr(estimator, "best_estimator_", None)
        if estimator is None or isinstance(estimator, str):  # "passthrough"
            return
        yield estimator


def _library(estimator: Any) -> str:
    """Return whose class it is: others have estimators, too."""
    *_, last = estimator, *_inner(estimator)
    top = type(last).__module__.partition(".")[0]
    return top if top in _OTHERS else "scikit-learn"


def rows_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Count the rows without touching the data; None where that is impossible."""
    data = args[0] if args else kwargs.get("X")
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    return len(data) if isinstance(data, (list, tuple)) else None


def _patch_new_classes(patches: Patches, base: type, patch: Callable[[type], None], guard: Guard) -> None:
    """Patch each class when it is made: when the outermost `__init_subclass__` is done.

    scikit-learn's own one wraps `transform` too. Patched before it, ours could not be taken out again.
    """
    place = guard.place("sklearn.class")
    new = _NewClasses(base, patch, place)
    enter, done, left = new.enter, new.done, new.left

    def make(original: Any) -> Any:
        inherited = original.__func__ if isinstance(original, classmethod) else original

        @functools.wraps(inherited)
        def __init_subclass__(cls: type, **kwargs: Any) -> None:  # noqa: N807
            outermost = enter(cls)
            try:
                inherited(cls, **kwargs)
            except BaseException:
                place.told(left, outermost)
                raise
            place.told(done, outermost)

        hook: Any = classmethod(__init_subclass__)  # type: ignore[arg-type]
        return hook

    for owner in (base, _output_mixin()):
        if owner is not None:
            patches.replace(owner, "__init_subclass__", make)


class _NewClasses:
    """The classes that are being made."""

    def __init__(self, base: type, patch: Callable[[type], None], place: Place) -> None:
        self._base, self._patch, self._place = base, patch, place
        self.under_way: set[type | None] = set()

    def enter(self, cls: type) -> type | None:
        """Return the class, where this is its outermost `__init_subclass__`."""
        try:
            if self._place.off or cls in self.under_way:
                return None
            self.under_way.add(cls)
        except Exception:
            self._place.failed()
            return None
        return cls

    def left(self, cls: type | None) -> None:
        """Forget a class that could not be made."""
        self.under_way.discard(cls)

    def done(self, cls: type | None) -> None:
        """Patch a class that is made."""
        self.under_way.discard(cls)
        if cls is not None and issubclass(cls, self._base):
            self._patch(cls)


def _output_mixin() -> type | None:
    """Return the class whose `__init_subclass__` wraps `transform`; None where there is none, as in later versions."""
    try:
        from sklearn.utils import _set_output
    except ImportError:
        return None
    return getattr(_set_output, "_SetOutputMixin", None)


def _patch_workers(patches: Patches, inferences: Inferences, place: Place) -> None:
    """Patch joblib's workers: its threads do not inherit the context, and each tree of a forest would be a call."""
    from sklearn.utils import parallel

    worker = getattr(parallel, "_FuncWrapper", None)
    if worker is not None:
        patches.replace(worker, "__call__", functools.partial(_apart, inferences, place))
