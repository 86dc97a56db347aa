"""One table of what can be instrumented: adapter, client package, supported versions, what it replaces of others.

Other distributions add rows by the entry point `otel_pipeline_adapter` (docs/contributing.md).
"""

from __future__ import annotations

import importlib
import operator
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline import installed, library_names
from otel_pipeline.library_names import spelled
from otel_pipeline.settings import option
from otel_pipeline.unsupported import UNSUPPORTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.metadata import EntryPoint

    from otel_pipeline.settings import Doubt

ENTRY_POINTS = "otel_pipeline_adapter"


@dataclass(frozen=True)
class Adapter:
    """One client or inference library."""

    name: str
    """What configuration and `status()` call it."""
    module: str
    """The adapter's module, with `instrument(patches, engine)`; for models `instrument(patches, inferences, guard)`.
    `module:name` where the function is called otherwise.

    It returns None, or what `status()` is to say of how that was done.
    """
    package: str
    """What the application imports."""
    versions: str
    """The versions that are tested, as a PEP 440 specifier."""
    distributions: tuple[str, ...] = ()
    """The names under which the package index has it, where that is not `name` alone."""
    kind: str = "broker"
    """broker or model."""
    replaces: tuple[str, ...] = ()
    """Instrumentors of others, as `module:class`, that patch the same methods."""
    missing: str = ""
    """What the adapter does not patch yet. Such a one is used only where configuration names it: what is left out would
    look as if it did not happen."""
    settings: tuple[type, ...] = ()
    """Its classes that declare options; it has its own from `engine.settings.configured`."""

    @property
    def names(self) -> frozenset[str]:
        """All that configuration may call it: its name, its package, its distributions, in the spelling of `plain`."""
        return spelled((self.name, self.package, *self.distributions))

    def version(self) -> str | None:
        """Return the installed version; None when it is not installed."""
        found = installed.version(*(self.distributions or (self.name,)))
        return found if found is not None else getattr(sys.modules.get(self.package), "__version__", None)

    def unsupported(self) -> str | None:
        """Say why the installed version is not touched; None when it is supported."""
        version = self.version()
        if version is None:
            return "not installed"
        return None if is_within(version, self.versions) else f"version {version} is not supported ({self.versions})"

    def load(self) -> Callable[..., str | None]:
        """Load the adapter's function."""
        module, _, name = self.module.partition(":")
        function: Callable[..., str | None] = getattr(importlib.import_module(module), name or "instrument")
        return function


def _model(
    name: str,
    versions: str,
    package: str | None = None,
    *,
    module: str | None = None,
    distributions: tuple[str, ...] = (),
) -> Adapter:
    """Make the row of an inference library; without a module of its own it is in the table of `models/table.py`."""
    found = module or f"otel_pipeline.models.table:{name.upper().replace('-', '_')}"
    return Adapter(name, found, package or name, versions, distributions, kind="model")


ADAPTERS = (
    Adapter(
        name="kafka-python",
        module="otel_pipeline.brokers.kafka.kafka_python",
        package="kafka",
        distributions=("kafka-python", "kafka-python-ng"),
        versions=">=2.0.2,<4,!=2.2.0,!=2.2.1",
        replaces=("opentelemetry.instrumentation.kafka:KafkaInstrumentor",),
    ),
    Adapter(
        name="aiokafka",
        module="otel_pipeline.brokers.kafka.aiokafka",
        package="aiokafka",
        versions=">=0.10,<1",
        replaces=("opentelemetry.instrumentation.aiokafka:AIOKafkaInstrumentor",),
    ),
    Adapter(
        name="confluent-kafka",
        module="otel_pipeline.brokers.kafka.confluent_kafka",
        package="confluent_kafka",
        versions=">=2.3,<3",
        replaces=("opentelemetry.instrumentation.confluent_kafka:ConfluentKafkaInstrumentor",),
    ),
    Adapter(
        name="faststream",
        module="otel_pipeline.brokers.faststream",
        package="faststream",
        versions=">=0.6,<1",
    ),
    Adapter(
        name="faust-streaming",
        module="otel_pipeline.brokers.faust",
        package="faust",
        versions=">=0.15.3,<0.16",
    ),
    _model("scikit-learn", ">=1.3,<2", "sklearn", module="otel_pipeline.models.sklearn"),
    _model("torch", ">=2.1,<3", module="otel_pipeline.models.torch"),
    _model("xgboost", ">=1.6,<4", distributions=("xgboost", "xgboost-cpu")),
    _model("lightgbm", ">=3.3,<5"),
    _model("catboost", ">=1.1,<2"),
    _model("onnxruntime", ">=1.14,<2", distributions=("onnxruntime", "onnxruntime-gpu")),
    _model("statsmodels", ">=0.13,<1"),
    _model("sentence-transformers", ">=2.2,<7", "sentence_transformers"),
    _model("transformers", ">=4.30,<6"),
    _model("fastembed", ">=0.2,<1"),
    _model("mlflow", ">=2,<4", distributions=("mlflow", "mlflow-skinny")),
    _model("keras", ">=3,<4"),
    _model("spacy", ">=3,<4"),
)


def adapters(problem: Callable[[str, str], None]) -> tuple[Adapter, ...]:
    """Return ours, and those that other installed distributions offer; `problem` is told of one that cannot be had."""
    found = {adapter.name: adapter for adapter in ADAPTERS}
    for point in _entry_points(problem):
        try:
            offered = point.load()
            reason = _refused(offered, found)
        # A module that ends the program when it is imported must not end this one.
        except (Exception, SystemExit) as error:
            reason = f"loading it failed with {type(error).__name__}"
        if reason is None:
            found[offered.name] = offered
        else:
            said = f"{ENTRY_POINTS} {point.name} ({point.value}) is not used: {reason}"
            problem(f"{ENTRY_POINTS}.{point.name}", said)
    return tuple(found.values())


def _entry_points(problem: Callable[[str, str], None], group: str = ENTRY_POINTS) -> list[EntryPoint]:
    try:
        return list(installed.entry_points(group))
    except Exception as error:  # Some installed distribution's files are broken.
        problem(group, f"{group} cannot be read: {type(error).__name__}")
        return []


def is_within(version: str, versions: str) -> bool:
    """Tell whether a version is in a range, pre-releases too, as PEP 440 has them; raise ValueError for no range.

    Numbers and plain bounds are compared here: what packaging costs at the start, only other ones need.
    """
    bounds = [_BOUND.fullmatch(bound.strip()) for bound in versions.split(",")]
    if _NUMBERS.fullmatch(version) and all(bounds):
        found = _numbers(version)
        return all(_COMPARE[bound[1]](found, _numbers(bound[2])) for bound in bounds if bound is not None)
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    known = SpecifierSet(versions)
    try:
        return known.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


_NUMBERS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,5}")
_BOUND = re.compile(rf"(>=|<=|!=|==|<|>)\s*({_NUMBERS.pattern})")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def _numbers(version: str) -> tuple[int, ...]:
    """Return what is compared: 1.0 is 1."""
    found = [int(number) for number in version.split(".")]
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _refused(offered: object, found: dict[str, Adapter]) -> str | None:
    """Say why this row cannot be used; None where it can."""
    if not isinstance(offered, Adapter):
        return f"it is a {type(offered).__name__}, and not an otel_pipeline.registry.Adapter"
    if offered.name in found:
        return f"there is an adapter {offered.name} already"
    is_within("0", offered.versions)
    return None


def doubt(name: str) -> Doubt | None:
    """Say what is wrong with a library's name in the configuration; None where there is such a library."""
    ours = [each for adapter in ADAPTERS for each in (adapter.package, *adapter.distributions)]
    ours += [each for row in UNSUPPORTED for each in (row.name, row.package, *row.distributions)]
    shown = [adapter.name for adapter in ADAPTERS]
    found = library_names.doubt(name, ours, shown)
    if found is None:
        return None
    # Only now, because this opens the files of all installed distributions.
    return library_names.doubt(name, (*ours, *_offered_names()), shown)


def _offered_names() -> Iterator[str]:
    """Yield what other distributions call theirs, importing nothing: adapters, and official instrumentors."""
    for group in (ENTRY_POINTS, "opentelemetry_instrumentor"):
        for point in _entry_points(lambda _key, _message: None, group):
            yield point.name
            offered = getattr(sys.modules.get(point.module), point.attr, None)
            if isinstance(offered, Adapter):
                yield from offered.names


@dataclass(frozen=True)
class LibrarySettings:
    """What is instrumented."""

    libraries: Literal["auto"] | tuple[str, ...] = option(
        "libraries",
        "libraries",
        "auto",
        "Which libraries to instrument; auto is all that are installed.",
        argument="libraries",
        doubt=doubt,
    )
    disable: tuple[str, ...] = option(
        "disable",
        "names",
        (),
        "Libraries to leave alone. All sources add up: a safety switch cannot be overridden.",
        variable="OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        argument="disable",
        adds_up=True,
        doubt=doubt,
    )
