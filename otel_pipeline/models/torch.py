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
from itertools import count
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from otel_pipeline.engine.apart import apart
from otel_pipeline.engine.model_methods import ModelMethods
from otel_pipeline.engine.model_objects import UNKNOWN, models
from otel_pipeline.engine.prepared import inside
from otel_pipeline.models import names, rows
from otel_pipeline.models.cuda import DeviceClock
from otel_pipeline.models.loaders import note_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.inference import Inferences
    from otel_pipeline.engine.model_objects import Identity
    from otel_pipeline.engine.patching import Patches

TIMED_EVERY = 16
"""Of calls on a device that are not recorded: two events cost 5 us."""
MAX_CLASSES = 1_000
"""Of roots; those of more are left alone: somebody makes a class for each of them."""


def instrument(patches: Patches, inferences: Inferences, guard: Guard) -> None:
    """Patch what marks a class, and the classes that are not put into `eval()`."""
    import torch

    methods = ModelMethods(inferences, guard, "torch", "torch", _of_library, names.within("_orig_mod", "module"))
    roots = Roots(torch, methods)
    inferences.pending = roots.clocks.poll
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
        self.clocks = Clocks(torch, methods)

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
        self.clocks.poll(last=True)
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
        counted = self._methods.around("predict", rows.of_tensors, original, device_of=_device_of)
        on_device = OnDevice(self._methods, original, self.clocks)
        # What the compiler asks first it answers itself; it must look at nothing else of ours.
        is_compiling, is_grad_enabled, is_tracing = (
            torch.compiler.is_compiling,
            torch.is_grad_enabled,
            torch.jit.is_tracing,
        )

        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - a method of the marked class
            if is_compiling() or is_grad_enabled() or self.training or is_tracing():
                return original(self, *args, **kwargs)
            if _is_on_cuda(args, kwargs):
                return on_device(self, args, kwargs)
            return counted(self, *args, **kwargs)

        return __call__


class Clocks:
    """The clocks of all devices that calls were made on. Safe in any thread."""

    def __init__(self, torch: Any, methods: ModelMethods) -> None:
        self._cuda, self._methods = _Cuda(torch), methods
        self._by_device: dict[int, DeviceClock] = {}

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> DeviceClock | None:
        """Return that of the one device that all of the arguments are on; None where there are several."""
        every = (*args, *kwargs.values())
        devices = {each.get_device() for each in every if getattr(each, "is_cuda", False)}
        if len(devices) != 1:
            return None
        (device,) = devices
        found = self._by_device.get(device)
        if found is None:
            made = DeviceClock(self._cuda, device, self._methods.inferences.monotonic_ns, self._methods.place)
            found = self._by_device.setdefault(device, made)
        return found

    def poll(self, *, last: bool = False) -> None:
        """End the calls whose results exist by now; with `last` all of them."""
        for clock in list(self._by_device.values()):
            clock.poll(last=last)


class _Cuda:
    """`torch.cuda`, and the handle of the current stream where this version tells it."""

    def __init__(self, torch: Any) -> None:
        cuda = torch.cuda
        self.Event, self.current_stream, self.current_device = cuda.Event, cuda.current_stream, cuda.current_device
        self.is_current_stream_capturing = cuda.is_current_stream_capturing
        self.current_raw_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None)


class OnDevice:
    """Calls one class's modules with arguments on a CUDA device: timed until the result exists, where that is known.

    Of calls that are not recorded every sixteenth is timed so; the others are, by the host's clock, in a series
    of their own.
    """

    def __init__(self, methods: ModelMethods, original: Any, clocks: Clocks) -> None:
        self._methods, self._original, self._clocks = methods, original, clocks
        self._by_host = methods.around("predict", rows.of_tensors, original, clock="host", device_of=_device_of)
        self._known, self._learn = methods.learner("predict", "device")
        self._rows_of = methods.counting(rows.of_tensors)
        self._turns = count()

    def __call__(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call."""
        call = clock = pair = None
        began_ns = 0
        try:
            if self._is_timed() and (clock := self._clocks.of(args, kwargs)) is not None:
                prepared = self._known.get(id(model)) or self._learn(model)
                began_ns = self._methods.inferences.monotonic_ns()
                pair = clock.before()
                call = (
                    None
                    if pair is None
                    else self._methods.begin(prepared, self._rows_of(args, kwargs), _device_of(args, kwargs))
                )
        except Exception:
            self._methods.place.failed()
        if call is None or clock is None or pair is None:
            if clock is not None and pair is not None:
                clock.give_back(pair)
            return self._by_host(model, *args, **kwargs)
        inside.model = call.model
        try:
            result = self._original(model, *args, **kwargs)
        except BaseException as error:
            inside.model = None
            clock.give_back(pair)
            call.clock = "host"
            self._methods.place.told(call.finish, error)
            raise
        inside.model = None
        try:
            call.suspend()
            clock.after(pair, call, began_ns)
        except Exception:
            self._methods.place.failed(call.abandon)
        return result

    def _is_timed(self) -> bool:
        if inside.model is not None or not self._methods.inferences.active or self._methods.place.off:
            return False
        span: Any = get_current_span()
        return span.is_recording() or not span.get_span_context().is_valid or next(self._turns) % TIMED_EVERY == 0


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return where the first tensor is."""
    for each in (*args, *kwargs.values()):
        device = getattr(each, "device", None)
        if device is not None:
            return str(device)
    return None


def _is_on_cuda(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    for each in args:
        if getattr(each, "is_cuda", False):
            return True
    if kwargs:
        for each in kwargs.values():
            if getattr(each, "is_cuda", False):
                return True
    return False
