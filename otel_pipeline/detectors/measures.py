"""The seam of detectors: each file of this package has its algorithm, and in `DETECTOR` the one table of its measures.

From the tables come instruments, series that begin at 0, evidence, history, docs/telemetry.md and the checker's
registry. Third parties come in by the entry point `otel_pipeline_observer`, which names such a table of theirs.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from otel_pipeline.engine.measures import Attribute, Label, Measure, Window
from otel_pipeline.installed import entry_points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint

    from otel_pipeline.detectors.settings import DestinationSettings, HealthSettings
    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.guard import Guard, Place
    from otel_pipeline.engine.totals import Attributes

ENTRY_POINTS = "otel_pipeline_observer"
MAX_VALUES = 256
BOUND = Attribute("otel_pipeline.bound", "Which end of an interval.", ("lower", "upper"))
_RESERVED = ("messaging.", "otel_pipeline.")
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


LightName = Literal["fresh", "order", "pace", "contract", "environment", "delivered"]


class Row(NamedTuple):
    """What a rule says of a light."""

    state: Literal["amber", "red"]
    """Red is for what a person has declared and is broken; what was learned or guessed gives amber at most."""
    why: str
    look: str | None = None
    """What to look at, or to do."""
    figures: Mapping[str, float] = _NOTHING


Windows: TypeAlias = "Mapping[float, Window]"
"""What a flow has counted within the last 300, 3,600 and 86,400 s, by these lengths."""


class Rule(NamedTuple):
    """A row of a light, below the red and amber rows that the light has itself."""

    light: LightName
    judge: Callable[[Windows], Row | None]
    """None: all is well."""


@dataclass(frozen=True, eq=False)
class Detector:
    """The table of one detector. Each row names a measure, and how it is read.

    A *part* is what watches one partition: any object. It is told what it has a method for:

    | method | it is told of |
    |---|---|
    | `delivered(messages, now_ms)` | messages that were handed to the application |
    | `processed(offset, now_ms)` | a message that was processed, from any thread |
    | `processed_to(offset, now_ms)` | a batch that was processed, which ended with this offset |
    | `began(offset, message)` | a message that `process()` has in hand from now on, from any thread |
    | `ended(offset)` | a message that was processed while `process()` had some in hand |
    | `look(value)` | values that are compared with the contract, as objects: a sample, for at most 1 % of the time |

    What a part raises is counted; one that keeps raising is switched off. It must not block.
    """

    name: str
    watch: Callable[[WatchedPartition], Any] | None = None
    """Makes the part of a partition at its first message; None where nothing is asked for."""
    counts: Mapping[Label, Callable[[Any], int]] = field(default_factory=dict)
    """How each count is read from a part. Counts only grow, and exist at 0 from the moment their flow is seen."""
    open_counts: Mapping[Measure, Callable[[Any], Mapping[tuple[str, ...], int]]] = field(default_factory=dict)
    """The same where the values are not known beforehand: counts by the values of the measure's own attributes.

    The first `MAX_VALUES` of a partition are kept.
    """
    born: Callable[[HealthSettings, DestinationSettings], Iterable[Label]] = lambda _settings, _destination: ()
    """Names those of these that are to exist at 0 from the beginning."""
    flow_gauges: Mapping[Measure, Callable[[Any], Iterable[tuple[Attributes, float]]]] = field(default_factory=dict)
    """How gauges are read from a flow as it is now (`FlowNow`): what is added to its attributes, and the value."""
    gauges: Mapping[Measure, Callable[[Any], Iterable[tuple[Attributes, float]]]] = field(default_factory=dict)
    """How gauges are read from the engine."""
    recorded: tuple[Measure, ...] = ()
    """What its own code records or defines: histograms, and counts that belong to no partition."""
    rules: tuple[Rule, ...] = ()
    """What its counts mean for a light. It sees every count of the flow."""
    settings: tuple[type, ...] = ()
    """The classes that declare the options of a third party's detector (`otel_pipeline/settings.py`)."""

    def place(self, guard: Guard) -> Place:
        """Return the place where its failures are counted."""
        return guard.place(f"detector.{self.name}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All measures of the table, each once."""
        found = [label.measure for label in self.counts]
        found += [*self.open_counts, *self.flow_gauges, *self.gauges, *self.recorded]
        return tuple(dict.fromkeys(found))


def where_known(read: Callable[[Any], float | None]) -> Callable[[Any], Iterator[tuple[Attributes, float]]]:
    """Make the reading of a gauge that has one value, and no series while it is None."""

    def readings(source: Any) -> Iterator[tuple[Attributes, float]]:
        value = read(source)
        if value is not None:
            yield {}, value

    return readings


@cache
def own_detectors() -> tuple[Detector, ...]:
    """Load the tables of this package, in the order of their files' names."""
    package = __name__.rpartition(".")[0]
    path = import_module(package).__path__
    modules = [import_module(f"{package}.{each.name}") for each in pkgutil.iter_modules(path)]
    return tuple(each.DETECTOR for each in modules if hasattr(each, "DETECTOR"))


def detectors(guard: Guard | None = None, points: Iterable[EntryPoint] | None = None) -> tuple[Detector, ...]:
    """Load all tables: this package's, and those of third parties.

    Args:
        guard: counts and reports those that cannot be used, which are left out.
        points: the entry points of third parties; those that are installed where none are given.
    """
    found = list(own_detectors())
    for point in _installed() if points is None else points:
        try:
            detector = point.load()
            reason = _unusable(detector, found)
            if reason is None:
                found.append(detector)
        # A module that ends the program when it is imported must not end this one.
        except (Exception, SystemExit) as error:
            reason = f"loading it failed with {type(error).__name__}"
        if reason is not None and guard is not None:
            guard.problem(f"observer.{point.name}", f"the detector {point.name!r} is left out: {reason}")
    return tuple(found)


def _installed() -> Iterable[EntryPoint]:
    try:
        return entry_points(ENTRY_POINTS)
    except Exception:
        return ()  # Some installed distribution's files are broken, which is said where options are looked for.


def _unusable(detector: Any, known: Iterable[Detector]) -> str | None:
    """Say why a third party's table cannot be used; None where it can."""
    if not isinstance(detector, Detector):
        return f"{ENTRY_POINTS} has to name a Detector"
    for rule in detector.rules:
        if rule.light not in get_args(LightName):
            return f"there is no light {rule.light!r}"
    if any(each.name == detector.name for each in known):
        return f"there is another detector {detector.name!r}"
    taken = {measure.name: measure for each in known for measure in each.measures}
    for measure in detector.measures:
        owner = taken.setdefault(measure.name, measure)
        if owner is not measure or (measure.name.startswith(_RESERVED) and not _is_ours(measure, known)):
            return f"{measure.name} is another's metric"
    return None


def _is_ours(measure: Measure, known: Iterable[Detector]) -> bool:
    return any(measure in each.measures for each in known)
