"""One table of what can be instrumented: adapter, client package, supported versions, what it replaces of others."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from otel_pipeline.settings import option

if TYPE_CHECKING:
    from collections.abc import Callable


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
