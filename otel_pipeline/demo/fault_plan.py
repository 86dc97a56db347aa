"""Which faults `otel-pipeline demo --faults` puts between the services, and what each must be found as."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.contracts.measures import (
    BECAME_NULL,
    FIELD_ADDED,
    FIELD_MISSING,
    INT_TO_FLOAT,
    TYPE_CHANGED,
    UNREADABLE,
    VIOLATIONS,
)
from otel_pipeline.demo.check import FEATURES, RAW
from otel_pipeline.detectors.environments import FOREIGN
from otel_pipeline.detectors.freshness import STALENESS
from otel_pipeline.detectors.objectives import SLO_EVENTS
from otel_pipeline.detectors.order import DUPLICATE, MISSING, REDELIVERED, REORDERED, REWOUND
from otel_pipeline.detectors.times import EVENT_TIME_REGRESSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.engine.measures import Label
    from otel_pipeline.testing.faults import FaultOptions, Injected

SEED = 7
EXPECT_EVERY_SECONDS = 5.0
"""The same as in the demo's configuration."""
FREEZE_AT = 280
"""The offset that each partition has reached when the freeze begins; it ends once it was found."""


@dataclass(frozen=True)
class Series:
    """A metric and the attributes that tell what was found; `a|b` is either value."""

    metric: str
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def title(self) -> str:
        """For people."""
        said = " ".join(
            value.split("|")[0] for name, value in self.attributes.items() if name in _TELLING and value != "false"
        )
        return f"{self.metric} {said}".rstrip()


_TELLING = {
    semconv.OTEL_PIPELINE_VIOLATION,
    semconv.OTEL_PIPELINE_KIND,
    semconv.OTEL_PIPELINE_SLO_NAME,
    semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT,
}


@dataclass(frozen=True)
class Fault:
    """One fault: in which hop, in which window, and as what it is to be found."""

    title: str
    topic: str
    """The topic that the relay reads."""
    name: str
    """The name of its count in `Injected`."""
    series: Series
    first: int
    """First and last offset of the window, in each partition or in the one that is named."""
    last: int | None
    options: FaultOptions | None = None
    """The relay's options; None for a freeze, which is switched on by hand."""
    partition: int | None = None
    sampled: bool = False
    """Whether values are compared by sampling: then some of the injected are enough."""

    def count(self, injected: Injected) -> int:
        """Return how many the relay has injected."""
        if self.partition is not None:
            return injected.by_partition.get(self.partition, {}).get(self.name, 0)
        return int(getattr(injected, self.name))

    def window(self, place: tuple[int, int]) -> bool:
        """Tell whether a message at this partition and offset is in the window."""
        partition, offset = place
        return (
            self.partition in {None, partition} and self.first <= offset and (self.last is None or offset <= self.last)
        )


def _order(label: Label) -> Series:
    return Series(label.measure.name, label.attributes)


def _contract(kind: str) -> Series:
    return Series(
        VIOLATIONS.name,
        {semconv.OTEL_PIPELINE_KIND: kind, semconv.OTEL_PIPELINE_SIDE: "consumer"},
    )


FREEZE = Fault(
    "frozen",
    FEATURES,
    "freeze",
    Series(STALENESS.name, {semconv.MESSAGING_CONSUMER_GROUP_NAME: "scorer"}),
    FREEZE_AT,
    None,
)
FAULTS = (
    Fault("lost", FEATURES, "drop", Series(MISSING.name), 40, 79, {"drop": 0.15}),
    Fault("duplicated", FEATURES, "duplicate", _order(DUPLICATE), 80, 119, {"duplicate": 0.15}),
    Fault("reordered", FEATURES, "reorder", _order(REORDERED), 120, 159, {"reorder": 0.15, "displacement": 10}),
    Fault(
        "field renamed",
        RAW,
        "change_field",
        _contract(FIELD_MISSING),
        160,
        189,
        {"change_field": "white", "change": "rename", "change_to": "full"},
        partition=0,
        sampled=True,
    ),
    Fault(
        "field null",
        RAW,
        "change_field",
        _contract(BECAME_NULL),
        190,
        219,
        {"change_field": "white", "change": "null"},
        partition=1,
        sampled=True,
    ),
    Fault(
        "field retyped",
        RAW,
        "change_field",
        _contract(TYPE_CHANGED),
        220,
        249,
        {"change_field": "white", "change": "retype"},
        partition=2,
        sampled=True,
    ),
    Fault(
        "foreign data",
        FEATURES,
        "foreign_environment",
        Series(FOREIGN.name, {semconv.OTEL_PIPELINE_POLICY: "flag|reject"}),
        250,
        279,
        {"foreign_environment": "test", "foreign_environment_share": 0.15},
    ),
    FREEZE,
    # The last: what comes behind a delayed message is late too.
    Fault(
        "delayed",
        RAW,
        "delay",
        Series(
            SLO_EVENTS.name,
            SLO_EVENTS.label("scans_fresh", "false").attributes,
        ),
        400,
        None,
        {"delay": 8.0},
    ),
)
ALSO = {"field renamed": _contract(FIELD_ADDED)}
"""What else a fault is found as, at most as often."""
NEVER = (
    *(_order(label) for label in (REDELIVERED, REWOUND, EVENT_TIME_REGRESSION)),
    *(_contract(kind) for kind in (INT_TO_FLOAT, UNREADABLE)),
    Series(VIOLATIONS.name, {semconv.OTEL_PIPELINE_SIDE: "producer"}),
)
"""What nobody has injected."""
