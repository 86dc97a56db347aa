"""What is measured, declared once: a metric's name, instrument, unit and attributes, with the values they can have.

Instruments, series that begin at 0, the page of metrics and the checker's registry are made from these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from otel_pipeline import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.engine.totals import Attributes, AttributeValue, Counter, Gauge, GaugeRead, Histogram, Totals

Instrument = Literal["counter", "histogram", "gauge"]
FLOW = (semconv.MESSAGING_DESTINATION_NAME, semconv.MESSAGING_CONSUMER_GROUP_NAME)
"""What most measures of a flow carry."""


@dataclass(frozen=True)
class Attribute:
    """An attribute of ours that tells the series of a measure apart."""

    key: str
    brief: str = ""
    """Empty for what spans carry as well: telemetry.yaml says it."""
    values: tuple[str, ...] = ()
    """All possible values; empty where others choose them, or where each detector names its own."""


@dataclass(frozen=True, eq=False)
class Measure:
    """One metric; without an instrument, a count that is evidence and no metric.

    Example:
        MISSING = Measure(
            "otel_pipeline.messages.missing", "counter", "{message}", "Messages that never came.", (DESTINATION, CAUSE)
        )
        EXPIRED = MISSING.label("expired")
    """

    name: str
    instrument: Instrument | None
    unit: str
    brief: str
    attributes: tuple[str | Attribute, ...] = ()
    """Those of the semantic conventions by name, which the flow or client fills in; ours as declarations."""
    buckets: tuple[float, ...] = semconv.AGE_BUCKETS_S

    @property
    def own(self) -> tuple[Attribute, ...]:
        """The attributes whose values tell its series of one flow apart."""
        return tuple(each for each in self.attributes if isinstance(each, Attribute))

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all its attributes."""
        return tuple(each.key if isinstance(each, Attribute) else each for each in self.attributes)

    def label(self, *values: str) -> Label:
        """Name one series by the values of its own attributes.

        Raises:
            ValueError: there are more or fewer of them, or one is not among an attribute's values.
        """
        for attribute, value in zip(self.own, values, strict=True):
            if attribute.values and value not in attribute.values:
                raise ValueError(f"{value!r} is no {attribute.key}: {', '.join(attribute.values)}")
        return Label(self, values)

    def among(self, known: Attributes) -> dict[str, AttributeValue]:
        """Pick, from what is known of a flow or client, the attributes that this measure has."""
        return {key: known[key] for key in self.keys if key in known}

    def counter(self, totals: Totals) -> Counter:
        """Return the counter of this name."""
        return totals.counter(self.name, self.unit, self.brief)

    def histogram(self, totals: Totals) -> Histogram:
        """Return the histogram of this name."""
        return totals.histogram(self.name, self.unit, self.brief, self.buckets)

    def gauge(self, totals: Totals, read: GaugeRead) -> Gauge:
        """Return the gauge of this name, which from now on calls `read` too."""
        return totals.gauge(self.name, self.unit, self.brief, read)


class Label(NamedTuple):
    """One series of a measure in one flow."""

    measure: Measure
    values: tuple[str, ...] = ()
    """The values of the measure's own attributes, in their order."""

    @property
    def attributes(self) -> dict[str, str]:
        """The own attributes with their values."""
        return {each.key: value for each, value in zip(self.measure.own, self.values, strict=True)}

    def __str__(self) -> str:
        """Write the values for people: `before_broker`."""
        return " ".join(self.values)


class Window(Protocol):
    """What one flow has counted within a time."""

    def __getitem__(self, label: Label) -> int:
        """Return the count of one series; 0 where it has none."""
        ...

    def of(self, measure: Measure) -> Mapping[tuple[str, ...], int]:
        """Return the counts of a measure by the values of its own attributes."""
        ...


class Sums(dict[Label, int]):
    """What was counted since the beginning: a window without a beginning."""

    def __missing__(self, label: Label) -> int:
        return 0

    def of(self, measure: Measure) -> dict[tuple[str, ...], int]:
        """Return the counts of a measure by the values of its own attributes."""
        return {label.values: count for label, count in self.items() if label.measure is measure}
