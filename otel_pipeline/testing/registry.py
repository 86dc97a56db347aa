"""Every name of ours in telemetry, with its definition: from telemetry.yaml and the tables beside the algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_pipeline import semconv
from otel_pipeline.contracts import measures as contracts
from otel_pipeline.detectors.measures import detectors
from otel_pipeline.verdict import monitoring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.engine.measures import Measure

FILE = Path(__file__).parents[1] / "telemetry.yaml"


@dataclass(frozen=True)
class OwnAttribute:
    """An attribute of ours."""

    key: str
    type: str
    """One of string, int, double and boolean."""
    unit: str
    brief: str
    values: tuple[str, ...] = ()
    """All values that there are, where that is known."""


@dataclass(frozen=True)
class OwnMetric:
    """A metric of ours."""

    name: str
    instrument: str
    unit: str
    brief: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = semconv.DURATION_BUCKETS_S


@cache
def written() -> Any:
    """Read what telemetry.yaml says."""
    import yaml

    return yaml.safe_load(FILE.read_text("utf-8"))


@cache
def attributes() -> Mapping[str, OwnAttribute]:
    """Return all attributes by their names: those of telemetry.yaml first."""
    found = {entry["key"]: _attribute(entry) for entry in written()["attributes"]}
    declared: dict[str, str] = {}
    values: dict[str, dict[str, None]] = {}
    for measure in _measures():
        for each in measure.own:
            declared.setdefault(each.key, each.brief)
            values.setdefault(each.key, {}).update(dict.fromkeys(each.values))
    # Where an attribute names none, its values are those of the counts, of whichever detector.
    for label in (label for table in detectors() for label in table.counts):
        for key, value in label.attributes.items():
            values[key][value] = None
    for key, brief in declared.items():
        if key not in found:
            found[key] = OwnAttribute(key, "string", "", brief, tuple(values[key]))
    return found


@cache
def metrics() -> Mapping[str, OwnMetric]:
    """Return all metrics by their names: those of telemetry.yaml first."""
    found = {entry["name"]: _metric(entry) for entry in written()["metrics"]}
    for each in _measures():
        if each.instrument is not None:
            found[each.name] = OwnMetric(each.name, each.instrument, each.unit, each.brief, each.keys, each.buckets)
    return found


@cache
def _measures() -> tuple[Measure, ...]:
    """Return the measures of every table, each once."""
    of_detectors = (measure for table in detectors() for measure in table.measures)
    return tuple(dict.fromkeys((*of_detectors, *contracts.MEASURES, *monitoring.MEASURES)))


def _attribute(entry: Any) -> OwnAttribute:
    said = entry["type"]
    members = () if isinstance(said, str) else tuple(member["value"] for member in said["members"])
    return OwnAttribute(
        entry["key"], said if isinstance(said, str) else "string", entry.get("unit", ""), entry["brief"], members
    )


def _metric(entry: Any) -> OwnMetric:
    return OwnMetric(entry["name"], entry["instrument"], entry["unit"], entry["brief"], tuple(entry["attributes"]))
