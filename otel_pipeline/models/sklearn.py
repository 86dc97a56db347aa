"""scikit-learn.

Patched: predict, predict_proba, predict_log_proba, decision_function and transform of every estimator class, of which
the outermost call counts; fit, fit_transform, fit_predict and partial_fit, because nothing inside training is
inference; __init_subclass__ of BaseEstimator and _SetOutputMixin, for classes defined later; parallel._FuncWrapper, for
inner calls in joblib's threads; joblib.load, for the file that a model came from.
"""

from __future__ import annotations

import copy
import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.apart import apart
from otel_pipeline.engine.model_methods import ModelMethods
from otel_pipeline.models.loaders import note_files
from otel_pipeline.models.rows import rows_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.patching import Patches

INFERENCE = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
_MAX_NESTED = 10
_OTHERS = ("catboost", "lightgbm", "xgboost")
_ROWS = rows_at(0, "X")
TRAINING = ("fit", "fit_transform", "fit_predict", "partial_fit")


def instrument(patches: Patches, inferences: Inferences, guard: Guard) -> None:
    """Patch the classes that exist, and those that will be defined later."""
    from sklearn.base import BaseEstimator

    methods = ModelMethods(inferences, guard, _library, "sklearn", inner=_inner)
    place = methods.place

    def patch(estimator: type) -> None:
        for name in INFERENCE:
            _replace(patches, estimator, name, functools.partial(methods.around, name, _ROWS))
        for name in TRAINING:
            _replace(patches, estimator, name, functools.partial(apart, inferences, place))

    for estimator in _descendants(BaseEstimator):
        patch(estimator)
    _patch_new_classes(patches, BaseEstimator, patch, guard)
    _patch_workers(patches, inferences, place)
    patches.when_imported("joblib", functools.partial(_note_joblib, patches, place))


def _note_joblib(patches: Patches, place: Place, joblib: Any) -> None:
    note_files(patches, place, joblib, "load", "filename")


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
        patches.replace(worker, "__call__", functools.partial(apart, inferences, place))
