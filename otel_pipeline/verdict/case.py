"""Everything that a light is judged from, and the rows that all of them share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_pipeline.detectors.order import UNPLACED
from otel_pipeline.detectors.partition import COVERAGE, HEADER_OK, MESSAGES
from otel_pipeline.detectors.shared import SHARED
from otel_pipeline.verdict import words
from otel_pipeline.verdict.light import Light

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.detectors.settings import HealthSettings
    from otel_pipeline.verdict.evidence import Evidence
    from otel_pipeline.verdict.history import Counts

JUDGED = 0.9
"""Share of what there was that has to be judged, or the light is not green."""
AGED_S = 60.0
"""Evidence is as old as the newest message; older than this it is none where the log has grown since."""
QUIET_S = 86_400.0
"""Where nothing was written for as long, what was judged before it says nothing about now."""


@dataclass(frozen=True, slots=True)
class Minimums:
    """How many cases a light needs."""

    fresh: int = 30
    order: int = 100


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a light is judged from."""

    evidence: Evidence
    total: Counts
    """What was counted since the flow began."""
    settings: HealthSettings
    minimums: Minimums
    windows: Mapping[float, Counts]
    """What was counted within each window, the shortest first."""
    held_s: Mapping[str, float]
    """How long conditions have held, s."""
    events: Mapping[str, str | None]
    """By what must not happen: red, amber or None."""
    wall_s: float = 0.0
    """Now, s since the epoch."""
    found: dict[tuple[int, Callable[[Counts], int]], tuple[float, Counts]] = field(default_factory=dict, repr=False)
    """The windows that rows have asked for."""

    def shortest(self, minimum: int, of: Callable[[Counts], int]) -> tuple[float, Counts]:
        """Return the shortest window with so many cases and its length, else the longest.

        Args:
            minimum: so many.
            of: counts cases; a function of a module, since its answers are remembered.
        """
        asked = minimum, of
        found = self.found.get(asked)
        if found is None:
            windows = list(self.windows.items())
            enough = ((window_s, counts) for window_s, counts in windows if of(counts) >= minimum)
            found = self.found[asked] = next(enough, windows[-1])
        return found

    @property
    def threshold_s(self) -> float:
        """The longest that an objective of the flow allows; 0 without one."""
        return max((each.threshold_s for each in self.evidence.freshness.objectives), default=0.0)

    @property
    def quiet(self) -> str:
        """What is added to a green light's words where no message has come for a while."""
        quiet_s = self.evidence.freshness.quiet_s
        return "" if quiet_s is None or quiet_s <= AGED_S else f"; quiet for {words.span(quiet_s)}"


def messages(counts: Counts) -> int:
    """Return how many messages were delivered."""
    return counts[MESSAGES]


def readable(counts: Counts) -> tuple[int, int]:
    """Return how many messages have a header of ours that can be read, and how many were looked at."""
    return counts[HEADER_OK], sum(counts.of(COVERAGE).values())


def not_placed(case: Case) -> Light | None:
    """Return grey where messages came through `extract()`, which has no place in a log."""
    unplaced = case.total[UNPLACED]
    if not unplaced:
        return None
    read = words.count(unplaced, "message was", "messages were")
    why = f"{read} read by extract(): their place in the log is not known"
    return Light("grey", why, "which clients are instrumented (docs/what-is-patched.md)", row="read by extract()")


def shared(case: Case) -> Light | None:
    """Return grey where a share group delivers: its consumers are told of no position, and of no end of the log."""
    if not case.total[SHARED]:
        return None
    return Light(
        "grey",
        "not known: a share group hands each message to one of its consumers, in no order",
        "deliveries again, and the group's lag at the broker",
        row="share group",
    )


def aged(case: Case) -> Light | None:
    """Grey where the newest message is old though more was written since; or where nothing was for a day."""
    quiet_s, grown = case.evidence.freshness.quiet_s, case.evidence.pace.grown
    if quiet_s is None or quiet_s <= max(AGED_S, case.threshold_s):
        return None
    if grown:
        since = words.clock(case.wall_s - quiet_s)
        return Light(
            "grey",
            f"nothing judged since {since}, while the log grew by {grown:,}",
            "the keeping-pace light: why these are not read",
            row="nothing judged",
        )
    return Light("grey", f"quiet for {words.span(quiet_s)}", row="quiet") if quiet_s > QUIET_S else None
