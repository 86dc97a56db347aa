"""The ways in which a value departs from its contract, and the table of what is measured of contracts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from otel_pipeline import semconv
from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from otel_pipeline.engine.measures import Window

Side = Literal["producer", "consumer"]
Source = Literal["file", "learned"]

FIELD_ADDED = "field_added"
FIELD_MISSING = "field_missing"
TYPE_CHANGED = "type_changed"
BECAME_NULL = "became_null"
INT_TO_FLOAT = "int_to_float"
UNREADABLE = "unreadable"
DIFFERENCES = (FIELD_ADDED, FIELD_MISSING, TYPE_CHANGED, BECAME_NULL, INT_TO_FLOAT, UNREADABLE)
BREAKS = (FIELD_MISSING, TYPE_CHANGED, BECAME_NULL, UNREADABLE)
"""What breaks a reader. The others are reported, but break nothing."""
FILE: Source = "file"
LEARNED: Source = "learned"

SIDE = Attribute("otel_pipeline.side", "On which side a value was looked at.", get_args(Side))
SOURCE = Attribute("otel_pipeline.source", "Where a contract comes from.", get_args(Source))
CHECKED = Measure(
    "otel_pipeline.contract.checked",
    "counter",
    "{message}",
    "Messages whose value was compared with the contract.",
    (semconv.MESSAGING_DESTINATION_NAME, SIDE),
)
VIOLATIONS = Measure(
    "otel_pipeline.contract.violations",
    "counter",
    "{message}",
    "Differences from the contract.",
    (
        semconv.MESSAGING_DESTINATION_NAME,
        SIDE,
        Attribute("otel_pipeline.kind", "How a value departs from its contract.", DIFFERENCES),
        SOURCE,
    ),
)
INFO = Measure(
    "otel_pipeline.contract.info",
    "gauge",
    "{info}",
    "1 for the contract that is in force.",
    (semconv.MESSAGING_DESTINATION_NAME, SIDE, Attribute("otel_pipeline.hash", "Hash of a contract."), SOURCE),
)
PASSED = Measure("passed", None, "{message}", "Messages that came by since the contract is known.").label()
NOT_COMPARED = Measure("not compared", None, "{message}", "Of those looked at, values that none can judge.").label()
OF_NEW_KIND = Measure("of a new kind", None, "{message}", "Values of kinds that are still being learned.").label()
DELETED = Measure("deleted", None, "{message}", "Of those looked at, deletions, which have no value.").label()
MEASURES = (CHECKED, VIOLATIONS, INFO)


def checked(window: Window) -> int:
    """Count the values that were compared with the contract within a time."""
    return sum(window.of(CHECKED).values())


def by_kind(window: Window) -> dict[str, int]:
    """Count the differences within a time by kind; kinds without any are left out."""
    found: dict[str, int] = {}
    for (_, kind, _), count in window.of(VIOLATIONS).items():
        if count:
            found[kind] = found.get(kind, 0) + count
    return found
