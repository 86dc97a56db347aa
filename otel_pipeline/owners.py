"""The classes that declare options: ours, and those that other distributions bring."""

from __future__ import annotations

import importlib
import pkgutil
from importlib import metadata
from typing import TYPE_CHECKING, Any

from otel_pipeline.registry import ADAPTERS
from otel_pipeline.settings import declared_in, options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOMES = (
    "otel_pipeline.export.settings",
    "otel_pipeline.registry",
    "otel_pipeline.engine.settings",
    "otel_pipeline.contracts.settings",
    "otel_pipeline.verdict.settings",
    "otel_pipeline.detectors",
)
"""Modules, and packages each of whose modules may declare some: in the order of the page."""
_ENTRY_POINTS = ("otel_pipeline_adapter", "otel_pipeline_observer")


def own_settings() -> tuple[type, ...]:
    """Those of this package, without the configuration's own."""
    found = [owner for name in _HOMES for module in _modules(name) for owner in declared_in(module)]
    return (*found, *(owner for adapter in ADAPTERS for owner in adapter.settings))


def settings_classes(problem: Callable[[str, str], None]) -> tuple[type, ...]:
    """All of them: what an entry point of an adapter or observer names may have `settings`, a tuple of such classes.

    Args:
        problem: is told, by key and message, what cannot be loaded or does not fit to the others, and is left out.
    """
    found = own_settings()
    for point in _brought(problem):
        try:
            brought = tuple(getattr(point.load(), "settings", ()))
            _check(found, brought)
        # A module that ends the program when it is imported must not end this one.
        except (Exception, SystemExit) as error:
            problem(f"settings.{point.name}", f"the options of {point.value} are left out: {error}")
        else:
            found = (*found, *brought)
    return found


def _brought(problem: Callable[[str, str], None]) -> list[metadata.EntryPoint]:
    try:
        # Asked once: each time all installed distributions are read.
        found = metadata.entry_points()
        return [point for group in _ENTRY_POINTS for point in found.select(group=group)]
    except Exception as error:  # Some installed distribution's files are broken.
        problem("settings", f"options of other distributions are left out: {error}")
        return []


def _check(ours: tuple[type, ...], brought: tuple[type, ...]) -> None:
    """Raise where they cannot be read together."""
    from otel_pipeline.config.loading import table_of

    for owner in brought:
        if not any(options(owner)):
            raise ValueError(f"{owner!r} is no dataclass with options")
    table_of((*ours, *brought)).check()


def _modules(name: str) -> Iterator[Any]:
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        yield module
        return
    for each in pkgutil.iter_modules(module.__path__, f"{name}."):
        yield importlib.import_module(each.name)
