"""Acts when the program imports a module, and leaves to others how it is found and loaded.

wrapt has this as well, and imports asyncio, which then every program would load
(docs/decisions/0040-what-a-start-may-load.md).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_waiting: dict[str, list[Callable[[ModuleType], object]]] = {}
"""Hooks by the module that they wait for."""


def when_imported(name: str, hook: Callable[[ModuleType], object]) -> None:
    """Call the hook when the module has been imported, once; now where it is there. Safe in any thread.

    The hook must not raise: that would fail the import.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _waiting.setdefault(name, []).append(hook)
    module = sys.modules.get(name)
    if module is not None:
        _tell(name, module)


def _tell(name: str, module: ModuleType) -> None:
    for hook in _waiting.pop(name, ()):
        hook(module)


class _Finder:
    """Asks the other finders, where somebody waits for the module, and stands around what loads it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _waiting:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                loader: Any = spec.loader
                if hasattr(loader, "exec_module") and type(loader) is not _Loader:
                    loader = _Loader(loader)
                    spec.loader = loader
                return spec
        return None


class _Loader:
    """The module's own loader, which also tells when it has loaded."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._own.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        if spec is not None and spec.loader is self:
            spec.loader = self._own
        if getattr(module, "__loader__", self) is self:
            module.__loader__ = self._own
        self._own.exec_module(module)
        _tell(module.__name__, sys.modules.get(module.__name__, module))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


_FINDER: Any = _Finder()
