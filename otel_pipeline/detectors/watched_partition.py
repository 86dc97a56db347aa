"""What a detector is asked to watch: one partition at one consumer, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_pipeline.detectors.objectives import ObjectiveCounts
    from otel_pipeline.detectors.producer_numbers import Room
    from otel_pipeline.detectors.settings import DestinationSettings, HealthSettings
    from otel_pipeline.detectors.wall_clock import WallClock
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.measures import Measure
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.totals import HistogramCell, ThreadCells

T = TypeVar("T")


class ValueWatch(Protocol):
    """Looks at the values of one destination, as often as it costs little (`contracts/watch.py`)."""

    sampler: Any
    """`left`, `low` and `high`: whether the next message is to be examined."""

    def examine(
        self, value: Any, size_bytes: int, told: Callable[[Any], None] | None = None, producer: int = 0
    ) -> None:
        """Look at this value of a producer; `told` gets it as an object, where it is one."""

    def reader(self, fields: MessageFields) -> Callable[[Message], Any]:
        """Make what reads a message's value for it."""
        ...

    def check_many(
        self,
        messages: Sequence[Message],
        value_of: Callable[[Message], Any],
        sizes: Sequence[int],
        told: Callable[[Any], None] | None = None,
        headers: Sequence[Any] = (),
    ) -> None:
        """Look at those messages of a batch that are due; their data-flow headers name the producers."""


class FieldSeen(Protocol):
    """What was seen of one field, in the values that were looked at."""

    @property
    def values(self) -> int:
        """How often the field was there."""

    @property
    def nulls(self) -> int:
        """How often it was null."""


class FieldsSeen(Protocol):
    """Looks at named fields of values (`contracts/fields.py`)."""

    @property
    def by_path(self) -> Mapping[str, FieldSeen]:
        """What was seen of each field."""

    def look(self, value: Any) -> None:
        """Take in a value."""


class Values(Protocol):
    """What looks at values (`contracts/contracts.py`)."""

    def of(self, destination: str, side: Literal["producer", "consumer"]) -> ValueWatch | None:
        """Return what looks at one destination's values; None where nothing is to be looked at."""

    def fields(self, destination: str, paths: Sequence[str], option: str) -> FieldsSeen | None:
        """Make what looks at these fields; None where that is impossible, which is reported under `option`."""


@dataclass(frozen=True)
class WatchedPartition:
    """One partition at one consumer, as a detector may know it. It may be kept: it does not keep the consumer."""

    destination: str
    partition: int
    group: str | None
    fields: MessageFields
    """How to read a message of this client."""
    settings: HealthSettings
    """What the configuration says; a detector's own options are `settings.configured.of(Own)`."""
    destination_settings: DestinationSettings
    """What the configuration says of the destination."""
    guard: Guard
    monotonic_s: Callable[[], float]
    room: Room
    """How many producers may be followed."""
    work_ns: Callable[[], int]
    """The clock that the engine measures durations with, ns."""
    objectives: tuple[ObjectiveCounts, ...]
    """The objectives that look at the messages of the flow."""
    clock: WallClock
    values: Values | None
    """None where the destination's values are not looked at."""
    cell: Callable[[Measure], HistogramCell]
    """Returns a histogram's cell of this flow, for the consumer's thread alone."""
    cells: Callable[[Measure], ThreadCells[HistogramCell]]
    """The same for any thread."""

    def said(self, owner: type[T]) -> T:
        """Return what the configuration says of the destination, for a detector with options of its own."""
        return self.settings.configured.destination(owner, self.destination)

    def fields_seen(self, paths: Sequence[str], option: str) -> FieldsSeen | None:
        """Make what looks at these fields of sampled values; None where there are no fields, or no values are sampled.

        Args:
            paths: as a contract writes them, 32 at most.
            option: the option that asks for them, to be named where one is no path.
        """
        return self.values.fields(self.destination, paths, option) if paths and self.values is not None else None
