"""The classes that declare options: ours, and those that other distributions bring."""

from __future__ import annotations

import importlib
import pkgutil
from functools import partial
from typing import TYPE_CHECKING, Any

from otel_pipeline import installed
from otel_pipeline.registry import ADAPTERS, adapters
from otel_pipeline.settings import declared_in, options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.metadata import EntryPoint

    from otel_pipeline.registry import Adapter

_HOMES = (
    "otel_pipeline.export.settings",
    "otel_pipeline.registry",
    "otel_pipeline.engine.settings",
    "otel_pipeline.contracts.settings",
    "otel_pipeline.verdict.settings",
    "otel_pipeline.detectors",
)
"""Modules that declare options, and packages each of whose modules may declare some, in the order of the page."""
_OBSERVERS = "otel_pipeline_observer"


def own_settings() -> tuple[type, ...]:
    """Return this package's settings classes, without the configuration's own."""
    found = [owner for name in _HOMES for module in _modules(name) for owner in declared_in(module)]
    return (*found, *(owner for adapter in ADAPTERS for owner in adapter.settings))


def settings_classes(problem: Callable[[str, str], None], rows: Iterable[Adapter] | None = None) -> tuple[type, ...]:
    """Return all settings classes; an adapter's or observer's entry point may have `settings`, a tuple of such classes.

    Args:
        problem: is told, by key and message, what cannot be loaded or does not fit the others, and is left out.
        rows: all adapters, as `registry.adapters` gives them; asked for where they are not given.
    """
    found = own_settings()
    theirs = [row for row in (adapters(problem) if rows is None else rows) if row not in ADAPTERS]
    brought = [(row.name, row.module, partial(getattr, row, "settings")) for row in theirs]
    brought += [(point.name, point.value, partial(_named_by, point)) for point in _observers(problem)]
    for name, where, read in brought:
        try:
            more = tuple(read())
            _check(found, more)
        # A module that ends the program when it is imported must not end this one.
        except (Exception, SystemExit) as error:
            problem(f"settings.{name}", f"the options of {where} are left out: {error}")
        else:
            found = (*found, *more)
    return found


def _observers(problem: Callable[[str, str], None]) -> list[EntryPoint]:
    try:
        return list(installed.entry_points(_OBSERVERS))
    except Exception as error:  # Some installed distribution's files are broken.
        problem("settings", f"options of other distributions are left out: {error}")
        return []


def _named_by(point: EntryPoint) -> Any:
    return getattr(point.load(), "settings", ())


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
