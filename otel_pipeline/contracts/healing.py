"""Takes into a learned contract what turns out to be as the stream has always been."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from otel_pipeline.contracts.differences import RAISED
from otel_pipeline.contracts.evidence import Settled
from otel_pipeline.contracts.measures import UNREADABLE
from otel_pipeline.contracts.paths import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.contracts.agreement import Agreement
    from otel_pipeline.contracts.differences import Difference, Differences
    from otel_pipeline.contracts.text import TextReader

QUARTER_NS = 900_000_000_000
QUARTERS = 4
"""Each quarter of an hour must have had the difference, or it is not steady."""
RARE = 0.1
"""Share of the messages: what departs in more of them is no exception that 1,000 messages may not have had."""
MAX_SETTLED = 5


class Healing:
    """Compares the counts of one watch with those of an hour ago. Used by one thread at a time.

    Args:
        found: what departs from the contract.
        agreement: the contract.
        text: what takes values for JSON.
    """

    __slots__ = ("_agreement", "_found", "_looks", "_settled", "_text")

    def __init__(self, found: Differences, agreement: Agreement, text: TextReader) -> None:
        self._found = found
        self._agreement = agreement
        self._text = text
        self._looks: deque[tuple[int, int, dict[tuple[str, str], int]]] = deque(maxlen=QUARTERS + 1)
        """When, how many values had been compared, and how many of them had each difference."""
        self._settled: deque[tuple[Settled, int]] = deque(maxlen=MAX_SETTLED)

    def settled(self, now_ns: int) -> list[Settled]:
        """Return what was taken in lately."""
        return [replace(each, ago_s=(now_ns - at_ns) / 1e9) for each, at_ns in self._settled]

    def look(self, now_ns: int, deployed_ns: int | None = None) -> list[Settled]:
        """Take in what was steady and rare in each quarter of the last hour; returns it.

        Args:
            now_ns: monotonic; to be called often, it looks once in a quarter of an hour.
            deployed_ns: when the first deployment of a producer was seen. What began later stays a difference.
        """
        looks, found = self._looks, self._found
        if looks and now_ns - looks[-1][0] < QUARTER_NS:
            return []
        looks.append((now_ns, found.checked, {key: each.count for key, each in tuple(found.known.items())}))
        taken = [Settled(each.path, each.kind, share) for each, share in self._steady(deployed_ns) if self._take(each)]
        self._settled.extend((each, now_ns) for each in taken)
        return taken

    def _steady(self, deployed_ns: int | None) -> Iterator[tuple[Difference, float]]:
        """Yield what can be taken in, with its share of the messages."""
        looks = list(self._looks)
        if len(looks) <= QUARTERS:
            return
        for key, difference in tuple(self._found.known.items()):
            of_old = difference.learned_from and (deployed_ns is None or difference.first_ns < deployed_ns)
            # A deserializer that raises is the application's error, however rare.
            if not of_old or difference.first_ns > looks[0][0] or RAISED in difference.types:
                continue
            counts = [(checked, counts.get(key, 0)) for _, checked, counts in looks]
            quarters = [
                (counts[at + 1][0] - counts[at][0], counts[at + 1][1] - counts[at][1]) for at in range(QUARTERS)
            ]
            if all(0 < differing < RARE * checked for checked, differing in quarters):
                yield difference, (counts[-1][1] - counts[0][1]) / (counts[-1][0] - counts[0][0])

    def _take(self, difference: Difference) -> bool:
        """Take a difference in; False where the contract has no room for it."""
        path, kind = difference.path, difference.kind
        if kind == UNREADABLE:
            self._text.expect_anything()
        else:
            try:
                self._agreement.settle(path, kind, difference.types)
            except ContractError:
                return False
        self._found.known.pop((path, kind), None)
        return True


def _grown(counts: list[int], at: int) -> int:
    return counts[at + 1] - counts[at]
