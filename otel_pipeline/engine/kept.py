"""What a client had given when an exception of the application came before it was returned: Ctrl-C, a time limit.

Signal handlers run between any two steps of the main thread, ours too. The next call returns what was kept, so that no
message is lost by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Kept(NamedTuple):
    """What was to be returned."""

    given: Any
    """A message, or what the client's call for many returns."""
    many: bool
    """Whether it is the latter."""
    told: bool
    """Whether observers know of it."""
    positions: dict[tuple[str, int], int | None]
    """Where the client stood in these partitions."""

    def is_next(self, positions: Mapping[tuple[str, int], Any]) -> bool:
        """Tell whether the client stands where it stood: the application has not gone elsewhere, as by a seek."""
        return self.positions == standing(self.positions, positions)


def standing(
    partitions: Iterable[tuple[str, int]], positions: Mapping[tuple[str, int], Any]
) -> dict[tuple[str, int], int | None]:
    """Pick the next offsets of these partitions out of `clients.Position`s; a client's own keys become plain pairs."""
    found = {(topic, partition): positions.get((topic, partition)) for topic, partition in partitions}
    return {key: None if position is None else position.offset for key, position in found.items()}
