"""torch: the modules that somebody has put into `eval()`, each by its own class, and none of those within them.

Patched: nn.Module.eval, which is called on a root and not on its children; `__call__` of the class of each such root,
of OptimizedModule, which torch.compile makes, and of what torch.jit.load returns; torch.load and torch.jit.load, for
the file that a model came from; torch.jit.trace and trace_module, which run the model besides. Not counted: what runs
in training mode or with gradients, and what is traced, scripted, exported or compiled at that moment.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any

from otel_pipeline import semconv
from otel_pipeline.engine.apart import apart
from otel_pipeline.engine.model_methods import ModelMethods
from otel_pipeline.engine.model_objects import UNKNOWN, models
from otel_pipeline.models import names, rows
from otel_pipeline.models.loaders import note_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.model_objects import Identity
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.engine.totals import AttributeValue

MAX_CLASSES = 1_000
"""Of roots; those of more are left alone: somebody makes a class for each of them."""


def instrument(patches: Patches, inferences: Inferences, guard: Guard) -> None:
    """Patch what marks a class, and the classes that are not put into `eval()`."""
    import torch

    methods = ModelMethods(inferences, guard, "torch", "torch", _of_library, names.within("_orig_mod", "module"))
    roots = Roots(torch, methods)
    patches.when_restored(roots.restore)
    patches.replace(torch.nn.Module, "eval", functools.partial(_make_eval, roots, methods))
    patches.when_imported("torch._dynamo.eval_frame", lambda module: roots.mark(module.OptimizedModule))
    for name in ("trace", "trace_module"):
        patches.replace(torch.jit, name, functools.partial(apart, inferences, methods.place))
    note_files(patches, methods.place, torch, "load", "f", functools.partial(_loaded, torch, None))
    note_files(patches, methods.place, torch.jit, "load", "f", functools.partial(_loaded, torch, roots))


def _make_eval(roots: Roots, methods: ModelMethods, original: Any) -> Any:
    @functools.wraps(original)
    def eval(self: Any) -> Any:  # noqa: A001 - as it is called there
        result = original(self)
        try:
            if methods.inferences.active and not methods.place.off:
                roots.mark(type(self))
        except Exception:
            methods.place.failed()
        return result

    return eval


def _loaded(torch: Any, roots: Roots | None, model: Any, path: Any) -> None:
    """Note the file of a whole module; what else is loaded, such as weights, is no model."""
    if isinstance(model, torch.nn.Module):
        models.loaded(model, path)
        if roots is not None:
            roots.mark(type(model))


def _of_library(module: Any) -> Identity:
    return names.of_hub(module) if hasattr(module, "config") else UNKNOWN


class Roots:
    """The classes whose calls count. Safe in any thread; keeps none of them alive."""

    def __init__(self, torch: Any, methods: ModelMethods) -> None:
        self._torch, self._methods = torch, methods
        self._marked: weakref.WeakKeyDictionary[type, tuple[Any, Any]] = weakref.WeakKeyDictionary()
        """What a class had of its own, None where it has inherited it, and what it has now."""
        self._lock = threading.Lock()

    def mark(self, kind: type) -> None:
        """Count the calls of this class's modules."""
        if kind in self._marked or kind is self._torch.nn.Module:
            return
        with self._lock:
            if kind not in self._marked and len(self._marked) < MAX_CLASSES:
                own: Any = kind
                before, made = vars(kind).get("__call__"), self._counted(kind.__call__)
                own.__call__ = made
                self._marked[kind] = before, made

    def restore(self) -> None:
        """Put every class back; a `__call__` that somebody else has wrapped meanwhile stays, and does nothing."""
        with self._lock:
            for kind, (before, made) in list(self._marked.items()):
                own: Any = kind
                if vars(kind).get("__call__") is not made:
                    continue
                if before is None:
                    del own.__call__
                else:
                    own.__call__ = before
            self._marked.clear()

    def _counted(self, original: Any) -> Callable[..., Any]:
        torch = self._torch
        counted = self._methods.around("predict", rows.of_tensors, original, _describe)
        # What the compiler asks first it answers itself; it must look at nothing else of ours.
        is_compiling, is_grad_enabled, is_tracing = (
            torch.compiler.is_compiling,
            torch.is_grad_enabled,
            torch.jit.is_tracing,
        )

        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - a method of the marked class
            if is_compiling() or is_grad_enabled() or self.training or is_tracing():
                return original(self, *args, **kwargs)
            return counted(self, *args, **kwargs)

        return __call__


def _describe(
    _name: str, _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any
) -> dict[str, AttributeValue]:
    """Return where it runs."""
    device = next((found for each in (*args, *kwargs.values()) if (found := getattr(each, "device", None))), None)
    return {} if device is None else {semconv.OTEL_PIPELINE_INFERENCE_DEVICE: str(device)}
