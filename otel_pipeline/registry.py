"""What there is: the libraries that can be instrumented, the classes that declare options, and what others bring."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from otel_pipeline.settings import declared_in, option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Adapter:
    """One client or inference library."""

    name: str
    """What configuration and `status()` call it."""
    module: str
    """Our module; it has `instrument(patches, ...)`."""
    package: str
    """What the application imports."""
    distributions: tuple[str, ...]
    """Under which names the package index has it."""
    versions: str
    """The versions that are tested, as a PEP 440 specifier."""
    kind: str
    """broker or model."""
    replaces: tuple[str, ...] = ()
    """Instrumentors of others, as `module:class`, that patch the same methods."""
    settings: tuple[type, ...] = ()
    """Its classes that declare options; it has its own from `engine.settings.configured`."""

    def version(self) -> str | None:
        """The installed version; None when it is not installed."""
        for distribution in self.distributions:
            try:
                return metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        return getattr(sys.modules.get(self.package), "__version__", None)

    def unsupported(self) -> str | None:
        """Why the installed version is not touched; None when it is supported."""
        version = self.version()
        if version is None:
            return "not installed"
        try:
            supported = SpecifierSet(self.versions).contains(Version(version), prereleases=True)
        except InvalidVersion:
            supported = False
        return None if supported else f"version {version} is not supported ({self.versions})"

    def load(self) -> Callable[..., None]:
        """The adapter's `instrument` function."""
        module: Any = importlib.import_module(self.module)
        function: Callable[..., None] = module.instrument
        return function


ADAPTERS = (
    Adapter(
        name="kafka-python",
        module="otel_pipeline.brokers.kafka.kafka_python",
        package="kafka",
        distributions=("kafka-python", "kafka-python-ng"),
        versions=">=2.0.2,<4,!=2.2.0,!=2.2.1",
        kind="broker",
        replaces=("opentelemetry.instrumentation.kafka:KafkaInstrumentor",),
    ),
    Adapter(
        name="scikit-learn",
        module="otel_pipeline.models.sklearn",
        package="sklearn",
        distributions=("scikit-learn",),
        versions=">=1.3,<2",
        kind="model",
    ),
)


@dataclass(frozen=True)
class LibrarySettings:
    """What is instrumented."""

    libraries: Literal["auto"] | tuple[str, ...] = option(
        "libraries",
        "libraries",
        "auto",
        "Which libraries to instrument; auto is all that are installed.",
        argument="libraries",
    )
    disable: tuple[str, ...] = option(
        "disable",
        "names",
        (),
        "Libraries to leave alone. All sources add up: a safety switch cannot be overridden.",
        variable="OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        argument="disable",
        adds_up=True,
    )


_OWNERS = (
    "otel_pipeline.export.settings",
    "otel_pipeline.registry",
    "otel_pipeline.engine.settings",
    "otel_pipeline.contracts.settings",
    "otel_pipeline.verdict.settings",
    "otel_pipeline.detectors",
)
"""Modules whose classes declare options, and packages each of whose modules may: the order of the pages."""
_BROUGHT = ("otel_pipeline_adapter", "otel_pipeline_observer")
"""Entry points of third parties. What they name may have `settings`: classes that declare options."""


def own_settings() -> tuple[type, ...]:
    """The settings classes of this package, but for the configuration's own."""
    found = [owner for name in _OWNERS for module in _modules(name) for owner in declared_in(module)]
    return (*found, *(owner for adapter in ADAPTERS for owner in adapter.settings))


def settings_classes(problem: Callable[[str, str], None]) -> tuple[type, ...]:
    """All settings classes; of those that third parties bring, the ones that fit: `problem` is told of the others."""
    found = own_settings()
    for point in (point for group in _BROUGHT for point in metadata.entry_points(group=group)):
        try:
            both = (*found, *getattr(point.load(), "settings", ()))
            _check(both)
        except Exception as error:
            problem(f"settings.{point.name}", f"the options of {point.value} are left out: {error}")
        else:
            found = both
    return found


def _check(owners: tuple[type, ...]) -> None:
    """Raise where they cannot be read together."""
    from otel_pipeline.config.loading import table_of

    table_of(owners).check()


def _modules(name: str) -> Iterator[Any]:
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        yield module
        return
    for each in pkgutil.iter_modules(module.__path__, f"{name}."):
        yield importlib.import_module(each.name)
