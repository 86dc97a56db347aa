"""Which libraries are patched, and why not the others: each now, or when the application imports it."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.patching import DriftedError
from otel_pipeline.library_names import EVERY, GENAI, THREADING, spelled
from otel_pipeline.status import AdapterStatus
from otel_pipeline.unsupported import BY_HAND, UNSUPPORTED, is_first_import

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.registry import Adapter, LibrarySettings
    from otel_pipeline.unsupported import Unsupported

_LOGGER = logging.getLogger("otel_pipeline")
_SWITCHED_OFF = "switched off by configuration"
_NOT_YET = "it is not instrumented"


class Libraries:
    """The libraries of one pipeline. Not for use from several threads at once: the pipeline holds a lock.

    Args:
        states: where the state of each library is kept, by its name.
        adapters: all that there are, as `registry.adapters` gives them.
        settings: which the configuration wants.
    """

    def __init__(
        self,
        guard: Guard,
        states: dict[str, AdapterStatus],
        adapters: Iterable[Adapter],
        settings: LibrarySettings,
    ) -> None:
        self._guard = guard
        self._states = states
        self._named = frozenset[str]() if settings.libraries == "auto" else spelled(settings.libraries)
        self._wanted = None if settings.libraries == "auto" else self._named
        self._disabled = spelled(settings.disable)
        self._engines: Mapping[str, tuple[Any, ...]] = {}
        self._adapters = tuple(adapters)
        self._unsupported: tuple[Unsupported, ...] = ()

    def instrument(self, patches: Patches, engines: Mapping[str, tuple[Any, ...]]) -> None:
        """Patch each; `engines` are the arguments after `patches`, by the adapter's kind."""
        self._engines = engines
        for adapter in self._adapters:
            self._instrument(patches, adapter, engines.get(adapter.kind))
        self._unsupported = tuple(row for row in UNSUPPORTED if self._is_of_interest(row))
        for row in self._unsupported:
            self._tell_when_imported(patches, row, partial(str, row.instead))
            if self._wanted is not None and not row.names.isdisjoint(self._wanted):
                self._guard.problem(
                    f"unsupported.{row.name}", f"`libraries` names {row.name}: {_NOT_YET}; {row.instead}"
                )

    def wants(self, names: Iterable[str]) -> bool:
        """Tell whether configuration wants what these names are for."""
        every = {*spelled(names), EVERY}
        return every.isdisjoint(self._disabled) and (self._wanted is None or not every.isdisjoint(self._wanted))

    def widen(self, patches: Patches, settings: LibrarySettings) -> None:
        """Take in what is asked for later: more libraries, and others to leave alone; what cannot be is reported."""
        more = frozenset[str]() if settings.libraries == "auto" else spelled(settings.libraries)
        late = spelled(settings.disable) - self._disabled
        self._named |= more
        self._wanted = None if self._wanted is None else self._wanted | more
        self._disabled |= late
        for adapter in self._adapters:
            state, reason = self._states[adapter.name].state, self._not_wanted(adapter)
            if state == "skipped" and reason is None:
                self._instrument(patches, adapter, self._engines.get(adapter.kind))
            elif state == "waiting" and reason is not None:
                self._states[adapter.name] = AdapterStatus(adapter.name, "skipped", reason, adapter.version())
        self.report_late(name for name, state in self._states.items() if state.state == "instrumented")
        if THREADING in late:
            self.report_late((THREADING,))

    def report_late(self, instrumented: Iterable[str]) -> None:
        """Report what is instrumented by now although configuration does not want it any more."""
        for name in instrumented:
            known = next((adapter.names for adapter in self._adapters if adapter.name == name), {name, GENAI})
            if not self.wants(known):
                said = f"`disable` names {name} in a second instrument(): it is instrumented already, and stays so"
                self._guard.problem(f"again.disable.{name}", said)

    def unsupported(self) -> list[AdapterStatus]:
        """Return what is installed, and known, and not instrumented."""
        found = [(row, row.version()) for row in self._unsupported]
        return [AdapterStatus(row.name, "unsupported", row.instead, version) for row, version in found if version]

    def _is_of_interest(self, row: Unsupported) -> bool:
        """Tell whether the application may want to hear of it: it is not switched off, nor instrumented by others."""
        return self.wants(row.names) and all(row.package != adapter.package for adapter in self._adapters)

    def _tell_when_imported(self, patches: Patches, row: Unsupported | Adapter, why: Callable[[], str]) -> None:
        """Say once, when the application imports a library, that its messages are not seen."""
        is_there = row.package in sys.modules

        def tell(_module: Any) -> None:
            if is_first_import(row.package, is_there=is_there):
                _LOGGER.info("otel_pipeline: %s %s: %s; %s", row.name, row.version() or "", _NOT_YET, why())

        patches.when_imported(row.package, tell)

    def replace_others(self) -> None:
        """Take off instrumentations of others that patch the same methods; said once each."""
        for adapter in self._adapters:
            if self._states[adapter.name].state == "instrumented":
                _replace_others(adapter, self._guard)

    def _not_wanted(self, adapter: Adapter) -> str | None:
        """Say why the library is left alone; None where it is wanted."""
        names = adapter.names
        if not self.wants(names):
            return _SWITCHED_OFF
        reason = adapter.unsupported()
        if reason is None and adapter.missing and names.isdisjoint(self._named):
            return f"it lacks {adapter.missing}; name it in `libraries` to use it all the same"
        return reason

    def _instrument(self, patches: Patches, adapter: Adapter, engine: tuple[Any, ...] | None) -> None:
        """Patch a library now, or when it is imported; where that cannot be, say why."""
        guard, version = self._guard, adapter.version()

        def conclude(state: str, reason: str = "") -> None:
            self._states[adapter.name] = AdapterStatus(adapter.name, state, reason, version)

        reason = self._not_wanted(adapter)
        if reason is None and engine is None:
            reason = f"its kind is {adapter.kind!r}, which is none"
        if reason is not None or engine is None:
            if version is not None and adapter.kind == "broker" and reason != _SWITCHED_OFF:
                self._tell_when_imported(patches, adapter, lambda: f"{reason}; else {BY_HAND}")
            return conclude("skipped", reason or "")
        conclude("waiting", f"until {adapter.package} is imported")

        def act(_module: Any) -> None:
            if self._not_wanted(adapter) is not None:
                return  # It was switched off meanwhile.
            _replace_others(adapter, guard)
            before = len(patches)
            try:
                said = adapter.load()(patches, *engine)
            except DriftedError as drifted:
                patches.undo(before)
                conclude("skipped", str(drifted))
                guard.problem(f"drifted.{adapter.name}", f"{adapter.name}: {drifted}; it is left alone")
            except (Exception, SystemExit):  # SystemExit: the module need not be ours.
                guard.failed(f"instrument.{adapter.name}")
                # Half of a client patched would tell half of the truth.
                patches.undo(before)
                conclude("failed", "see the log")
            else:
                but_for = f"but for {adapter.missing}" if adapter.missing else ""
                conclude("instrumented", "; ".join(filter(None, (said, but_for))))

        return patches.when_imported(adapter.package, act)


def _replace_others(adapter: Adapter, guard: Guard) -> None:
    """Take off other instrumentations of one client: two of them give two spans and two contexts per message."""
    for name in adapter.replaces:
        module_name, _, class_name = name.partition(":")
        module = sys.modules.get(module_name)
        kind = getattr(module, class_name, None)
        try:
            other = kind() if kind is not None else None
            if other is not None and other.is_instrumented_by_opentelemetry:
                other.uninstrument()
                guard.problem(
                    f"replaced.{class_name}",
                    f"{module_name} had instrumented {adapter.name} too; it was taken off: no message has two spans",
                )
        except Exception:
            guard.failed(f"replace.{class_name}")
