"""What a light is: its colour, the row of its table that holds, and what that row says to a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.detectors.measures import LightName
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.history import Counts

State = Literal["grey", "green", "amber", "red"]
RANK: Mapping[State, int] = {"grey": 0, "green": 1, "amber": 2, "red": 3}
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Light:
    """One light, as it is now."""

    state: State
    why: str
    look: str | None = None
    """What to look at, or to do."""
    row: str = ""
    """Which row of its table holds, by the name that docs/health.md has."""
    judged: int = 0
    """Cases that it was judged from."""
    seen: int = 0
    """Cases that there were; those that are not judged have no number, or no known age, for example."""
    window_s: float = 0.0
    """The time that they are from, s; 0 where it is not a share of cases."""
    figures: Mapping[str, float] = field(default_factory=dict)
    since_s: float = 0.0
    """When it took this state, s since the epoch."""

    def of_row(self, name: str) -> Light:
        """Return it with the name of its row."""
        # `dataclasses.replace` costs as much as judging the rest.
        return Light(
            self.state, self.why, self.look, name, self.judged, self.seen, self.window_s, self.figures, self.since_s
        )

    def since(self, wall_s: float) -> Light:
        """Return it with the time, s since the epoch, when it took its state."""
        return Light(
            self.state, self.why, self.look, self.row, self.judged, self.seen, self.window_s, self.figures, wall_s
        )


@dataclass(frozen=True)
class Table(Generic[C]):
    """The rows of a light, read from the top: the first that holds is the light. The last one holds always.

    Red and amber rows come first, judged of what is judged; then what is not known, which is grey; then green.
    """

    name: LightName
    title: str
    """For people: `in order`."""
    rows: Mapping[str, Callable[[C], Light | None]]
    """By their names; None where one does not hold."""
    events: Mapping[str, Callable[[Counts, Evidence], int | None]] = field(default_factory=dict)
    """What must not happen at all: how often it did since the flow began; None where that is not looked at now.

    Red for 5 min after it did, then amber for an hour: `Case.events`.
    """
    held: Mapping[str, Callable[[Evidence], bool]] = field(default_factory=dict)
    """Conditions whose rows need to know how long they have held: `Case.held_s`."""

    def read(self, case: C) -> Light:
        """Return the light of a case."""
        for name, row in self.rows.items():
            light = row(case)
            if light is not None:
                return light if light.row else light.of_row(name)
        raise LookupError(f"no row of {self.name} holds")  # A test tries the last row of each table.
