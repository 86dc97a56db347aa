"""Measures the share of nulls by field, on request: a field that goes null may keep its contract and mislead models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_pipeline.detectors.measures import Detector, Row, Rule, Windows
from otel_pipeline.detectors.shares import wilson_lower, wilson_upper
from otel_pipeline.engine.measures import FLOW, Attribute, Measure
from otel_pipeline.settings import option

if TYPE_CHECKING:
    from otel_pipeline.detectors.watched_partition import FieldsSeen, WatchedPartition

FIELD = Attribute("otel_pipeline.field.path", "Path of a field, as in a contract.")
VALUES = Measure("otel_pipeline.field.values", "counter", "{value}", "Values of fields, of a sample.", (*FLOW, FIELD))
NULLS = Measure("otel_pipeline.field.nulls", "counter", "{value}", "Those of them that are null.", (*FLOW, FIELD))


@dataclass(frozen=True)
class NullRateSettings:
    """What is said of one destination's fields."""

    null_rate: tuple[str, ...] = option(
        "destinations.*.null_rate", "names", (), "Paths of fields, 32 at most, whose share of nulls is measured."
    )


def _watch(at: WatchedPartition) -> FieldsSeen | None:
    return at.fields_seen(at.said(NullRateSettings).null_rate, "null_rate")


def _departs(windows: Windows) -> Row | None:
    """Find a field whose share of nulls is surely over twice that of the day before, plus one percentage point."""
    recent, day = windows[300.0], windows[86400.0]
    for (path,), n in recent.of(VALUES).items():
        nulls, before = recent[NULLS.label(path)], day[VALUES.label(path)] - n
        usual = wilson_upper(day[NULLS.label(path)] - nulls, before)
        if wilson_lower(nulls, n) > 2 * usual + 0.01:
            why = f"{path} is null in {nulls / n:.0%} of {n} values; before, in at most {usual:.1%}"
            return Row("amber", why, "the producer's last release", {f"{path} null_rate": nulls / n})
    return None


DETECTOR = Detector(
    "null_rate",
    watch=_watch,
    open_counts={
        VALUES: lambda seen: {(path,): field.values for path, field in seen.by_path.items()},
        NULLS: lambda seen: {(path,): field.nulls for path, field in seen.by_path.items()},
    },
    rules=(Rule("contract", _departs),),
)
