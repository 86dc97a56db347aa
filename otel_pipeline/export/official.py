"""Official gen_ai instrumentations that are installed: each is switched on when the application imports its client.

Loading one imports its client, which can take seconds. What it is for is read from the metadata of its distribution.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline import installed
from otel_pipeline.export import generative
from otel_pipeline.status import AdapterStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import EntryPoint

    from opentelemetry.trace import TracerProvider

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.patching import Patches

IS_ON = "the official instrumentation"
_SWITCHED_OFF = "switched off by configuration"
_EXTRAS = ("instruments", "instruments-any")
_PACKAGES = {
    "boto3": "botocore.client",
    "google-cloud-aiplatform": "vertexai",
    "google-genai": "google.genai",
    "langchain": "langchain_core",
    "openai-agents": "agents",
    "weaviate-client": "weaviate",
}
"""What is imported, where that is not the distribution's name: the module that is patched, or its package."""


class Client(NamedTuple):
    """A client library that an instrumentation is for."""

    distribution: str
    package: str
    """What the application imports."""
    version: str | None
    """None where it is not installed."""
    supported: str
    """As a PEP 440 specifier."""
    fits: bool


def clients(point: EntryPoint) -> list[Client]:
    """Return the clients that an instrumentation is for, as its distribution says; none where it does not say."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in getattr(point.dist, "requires", None) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not any(marker.evaluate({"extra": e}) for e in _EXTRAS):
            continue
        version = installed.version(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        package = _PACKAGES.get(requirement.name, requirement.name.replace("-", "_"))
        found.append(Client(requirement.name, package, version, str(requirement.specifier), fits))
    return found


class Official:
    """Those of one pipeline. Not for use from several threads at once: the pipeline and the import system hold locks.

    Args:
        states: where the state of each is kept, by its name.
        tracers: what they make their spans with.
        stamp: called once there is one: lets its spans say how old their data is.
    """

    def __init__(
        self,
        guard: Guard,
        states: dict[str, AdapterStatus],
        tracers: TracerProvider,
        stamp: Callable[[], object],
    ) -> None:
        self._guard = guard
        self._states = states
        self._tracers = tracers
        self._stamp = stamp
        self._undo: list[Callable[[], Any]] = []
        self._points: tuple[EntryPoint, ...] = ()

    def switch_on_when_imported(
        self, patches: Patches, points: Iterable[EntryPoint], is_wanted: Callable[[str], bool]
    ) -> None:
        """Switch each on now where its client is imported already, else when it is; where that cannot be, say why."""
        self._points = tuple(points)
        for point in self._points:
            self._begin(patches, point, is_wanted)

    def change(self, patches: Patches, is_wanted: Callable[[str], bool]) -> None:
        """Take in that others are wanted now; what is switched on stays so."""
        for point in self._points:
            state = self._states[point.name]
            if state.reason == _SWITCHED_OFF or (state.state == "waiting" and not is_wanted(point.name)):
                self._begin(patches, point, is_wanted)

    def _begin(self, patches: Patches, point: EntryPoint, is_wanted: Callable[[str], bool]) -> None:
        if not is_wanted(point.name):
            self._conclude(point, "skipped", _SWITCHED_OFF)
            return
        try:
            self._switch_on(patches, point)
        except (Exception, SystemExit):  # SystemExit: what they import is not ours.
            self._guard.failed(f"genai.{point.name}")
            self._conclude(point, "failed", "see the log")

    def switch_off(self) -> None:
        """Switch off what was switched on here."""
        undo, self._undo = self._undo, []
        for switch_off in undo:
            try:
                switch_off()
            except Exception:
                self._guard.failed("uninstrument")

    def _switch_on(self, patches: Patches, point: EntryPoint) -> None:
        known = clients(point)
        if not known:
            self._load(point)  # It does not say what it instruments: it has to be asked.
            return
        usable = [client for client in known if client.fits]
        if not usable:
            self._conclude(point, "skipped", _why_not(point, known))
            return
        self._conclude(point, "waiting", f"until {' or '.join(client.package for client in usable)} is imported")
        own = getattr(point, "module", "")

        def imported(_module: Any) -> None:
            if not _is_being_imported(own):
                self._load_once(point)

        for client in usable:
            patches.when_imported(client.package, imported)
        if own:
            # Others import it, and with it the client, before they switch it on without our tracers.
            patches.when_imported(own, lambda _module: self._load_once(point))

    def _load_once(self, point: EntryPoint) -> None:
        if self._states[point.name].state != "waiting":
            return
        try:
            self._load(point)
        except (Exception, SystemExit):
            self._guard.failed(f"genai.{point.name}")
            self._conclude(point, "failed", "see the log")

    def _load(self, point: EntryPoint) -> None:
        state, switch_off = generative.switch_on(point, self._tracers)
        self._conclude(point, state, "its client library is not installed" if state == "skipped" else IS_ON)
        if switch_off is not None:
            self._undo.append(switch_off)
        if state == "instrumented":
            self._stamp()

    def _conclude(self, point: EntryPoint, state: str, reason: str) -> None:
        self._states[point.name] = AdapterStatus(point.name, state, reason)


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def _why_not(point: EntryPoint, known: list[Client]) -> str:
    """Say why none of the clients can be instrumented: a version that is there is told first."""
    for client in known:
        if client.version is not None:
            dist = point.dist
            by = "" if dist is None else f" by {dist.name} {dist.version}"
            return f"{client.distribution} {client.version} is not supported{by} ({client.supported})"
    return f"its client library is not installed ({' or '.join(client.distribution for client in known)})"
