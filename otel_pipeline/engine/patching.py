"""Remembers what was patched, so that it can be restored."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from otel_pipeline.engine import import_hooks
from otel_pipeline.engine.immutable_types import changeable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from otel_pipeline.engine.guard import Guard, Place

_MISSING: Any = object()


class DriftedError(Exception):
    """A client's method is not as the adapter knows it: the adapter stays off."""

    def __init__(self, name: str, expected: Sequence[str], found: Sequence[str]) -> None:
        super().__init__(f"{name} takes ({', '.join(found)}), known is ({', '.join(expected)})")


_NOT_BEGUN = object()


class Around:
    """A replacement for rare methods of a client, coroutine functions or not, that acts before and after the call.

    Args:
        place: counts what `before` and `after` raise; the application's call is made all the same.
        before: called with (client, positional arguments, keyword arguments).
        after: called with (client, what `before` returned, what the method raised or None); not where `before` raised.
    """

    __slots__ = ("_after", "_before", "_place")

    def __init__(
        self,
        place: Place,
        before: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any],
        after: Callable[[Any, Any, BaseException | None], object],
    ) -> None:
        self._place, self._before, self._after = place, before, after

    def __call__(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Make the replacement."""
        return self._awaited(original) if inspect.iscoroutinefunction(original) else self._called(original)

    def _begin(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _NOT_BEGUN if self._place.off else self._before(client, args, kwargs)

    def _end(self, client: Any, begun: Any, error: BaseException | None) -> None:
        if not self._place.off and begun is not _NOT_BEGUN:
            self._after(client, begun, error)

    def _called(self, original: Callable[..., Any]) -> Callable[..., Any]:
        begin, end, place = self._begin, self._end, self._place

        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            begun = _NOT_BEGUN
            try:
                begun = begin(self, args, kwargs)
            except Exception:
                place.failed()
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                place.told(end, self, begun, error)
                raise
            try:
                end(self, begun, None)
            except Exception:
                place.failed()
            return result

        return call

    def _awaited(self, original: Callable[..., Any]) -> Callable[..., Any]:
        begin, end, place = self._begin, self._end, self._place

        @functools.wraps(original)
        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            begun = _NOT_BEGUN
            try:
                begun = begin(self, args, kwargs)
            except Exception:
                place.failed()
            try:
                result = await original(self, *args, **kwargs)
            except BaseException as error:
                place.told(end, self, begun, error)
                raise
            try:
                end(self, begun, None)
            except Exception:
                place.failed()
            return result

        return call


class Patches:
    """Replaces attributes of classes and modules, and puts back what was there.

    A replacement that somebody else has wrapped meanwhile cannot be taken out: it stays, and asks its engine whether it
    is active. Not to be used by several threads at once: `instrument()` and `uninstrument()` hold a lock.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._waiting: dict[str, list[Callable[[ModuleType], None]]] = {}
        self._also: list[Callable[[], None]] = []

    @staticmethod
    def check_signature(function: Callable[..., Any], expected: Sequence[str], more: Sequence[str] = ()) -> None:
        """Raise `DriftedError` unless the parameters are the expected ones, followed by some of `more` at most."""
        found = list(inspect.signature(function).parameters)
        rest = found[len(expected) :]
        if found[: len(expected)] != list(expected) or not set(rest) <= set(more):
            raise DriftedError(getattr(function, "__qualname__", repr(function)), expected, found)

    def replace(self, owner: type | ModuleType, name: str, make: Callable[[Any], Any]) -> None:
        """Set the attribute to `make(original)`; the original is the class's own, or inherited.

        Nothing happens where this was done already.

        Raises:
            ImmutableTypeError: the class is of C, and this Python does not let it be changed.
        """
        if any(known is owner and attribute == name for known, attribute, _, _ in self._replaced):
            return
        own = owner.__dict__.get(name, _MISSING)
        original = inspect.getattr_static(owner, name) if own is _MISSING else own
        replacement = make(original)
        with changeable(owner):
            setattr(owner, name, replacement)
        self._replaced.append((owner, name, own, replacement))

    def __len__(self) -> int:
        """Count the attributes that have been replaced so far."""
        return len(self._replaced)

    def restore(self) -> list[str]:
        """Put everything back; returns what others have wrapped meanwhile and therefore stays."""
        self._waiting.clear()
        for act in self._also:
            try:
                act()
            except Exception:
                self._guard.failed("restore")
        self._also.clear()
        return self.undo(0)

    def undo(self, since: int) -> list[str]:
        """Put back all replacements but the first `since`; returns what stays."""
        kept = []
        undone, self._replaced[since:] = self._replaced[since:], []
        for owner, name, own, replacement in reversed(undone):
            if owner.__dict__.get(name) is not replacement:
                kept.append(f"{owner.__name__}.{name}")
            else:
                with changeable(owner):
                    _put_back(owner, name, own)
        return kept

    def when_restored(self, act: Callable[[], None]) -> None:
        """Call this as well when everything is put back: it puts back what was changed elsewhere meanwhile."""
        self._also.append(act)

    def when_imported(self, module: str, act: Callable[[ModuleType], None]) -> None:
        """Act now if the module is imported, else when it is. What `act` raises never breaks that import."""
        found = sys.modules.get(module)
        spec = getattr(found, "__spec__", None)
        if found is not None and not getattr(spec, "_initializing", False):
            self._act(module, act, found)
            return
        self._waiting.setdefault(module, []).append(act)
        if module in _hooked:
            _hooked[module].add(self)
            return
        _hooked[module] = WeakSet((self,))
        # Within another hook of this module it is called at once.
        import_hooks.when_imported(module, functools.partial(_imported, module))

    def _act(self, module: str, act: Callable[[ModuleType], None], imported: ModuleType) -> None:
        try:
            act(imported)
        except Exception:
            self._guard.failed(f"import.{module}")

    def imported(self, name: str, module: ModuleType) -> None:
        """Act on a module that has just been imported. Never raises."""
        for act in self._waiting.pop(name, ()):
            self._act(name, act, module)


def _put_back(owner: type | ModuleType, name: str, own: Any) -> None:
    if own is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, own)


_hooked: dict[str, WeakSet[Patches]] = {}
"""By module, who waits for it. Hooks are not removed: there is one for each module, which keeps nothing."""


def _imported(name: str, module: ModuleType) -> None:
    for patches in list(_hooked.pop(name, ())):  # The hook is gone.
        patches.imported(name, module)
