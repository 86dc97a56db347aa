"""What is known of the contract of one destination on one side, beside what is counted: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_pipeline.contracts.measures import (
    BECAME_NULL,
    FIELD_ADDED,
    FIELD_MISSING,
    INT_TO_FLOAT,
    TYPE_CHANGED,
    UNREADABLE,
)

if TYPE_CHECKING:
    from otel_pipeline.contracts.measures import Source

_DEPARTED = {
    FIELD_MISSING: "absent",
    FIELD_ADDED: "there",
    TYPE_CHANGED: "of another type",
    BECAME_NULL: "null",
    INT_TO_FLOAT: "a fraction",
    UNREADABLE: "no JSON",
}
_SETTLED = {
    FIELD_MISSING: "optional",
    FIELD_ADDED: "optional",
    TYPE_CHANGED: "of several types",
    BECAME_NULL: "null at times",
    INT_TO_FLOAT: "a number of any kind",
    UNREADABLE: "not always JSON",
}


@dataclass(frozen=True, slots=True)
class Departure:
    """One way in which values depart from the contract."""

    path: str
    kind: str
    count: int = 1
    of: int = 1
    """Values that were compared since the first of them, it included."""
    first_s: float = 0.0
    """Since the first of them came."""
    last_s: float = 0.0
    """Since the last of them came."""
    producer: int | None = None
    """The only producer that sent it; None where there are several, or it is not known."""
    producers: int = 0
    """The number of producers whose values were compared, as far as they are told apart."""
    types: tuple[str, ...] = ()
    """What was there instead."""

    def __str__(self) -> str:
        return f"{self.path} {self.kind}"


@dataclass(frozen=True, slots=True)
class Settled:
    """A difference that turned out to be as the stream has always been, and is none any more."""

    path: str
    kind: str
    share: float
    """Of the messages of the last hour."""
    ago_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.path}: {_DEPARTED[self.kind]} in {100 * self.share:.2g} %, {_SETTLED[self.kind]} after all"


@dataclass(slots=True)
class ContractEvidence:
    """Whether values have the shape that was agreed on, beside what is counted."""

    source: Source | None = None
    """None while it is not known."""
    wanted: bool = True
    """False where the configuration asks for no contract."""
    learned: int = 0
    learn_messages: int = 1000
    in_vain: bool = False
    """Nothing was found to learn from: values are no objects and no JSON, or there are only deletions."""
    departures: list[Departure] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    """The last ones."""
    new_schemas: dict[str, float] = field(default_factory=dict)
    """Ids of a registry that came after the contract was known, with what may be another shape; since then, s."""
    schemas: list[str] = field(default_factory=list)
    """All ids that values begin with."""
    stopped: list[str] = field(default_factory=list)
    """Fields that were in all values of the first half of learning, and in none of the second."""
    known_s: float = 0.0
    """Since the contract had been learned."""
    kinds_by: str | None = None
    """The path of the field that says which kind a value is; None without one."""
    new_kinds: int = 0
    """Kinds that came later, and are still being learned."""
    fields: dict[str, float] = field(default_factory=dict)
    """Null rate, minimum and maximum of the fields that were asked for, as `path null_rate`."""
    sides_differ: bool = False
    """This process sends and receives the destination with different contracts."""
