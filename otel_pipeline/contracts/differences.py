"""What departed from a contract: how often, since when, and which producers sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.contracts.evidence import Departure
from otel_pipeline.contracts.measures import CHECKED, DIFFERENCES, LEARNED, VIOLATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.contracts.measures import Side, Source
    from otel_pipeline.engine.measures import Label

MAX_DIFFERING = 20
MAX_PRODUCERS = 64
RAISED = "raised"
"""Stands where a type would, for a value whose deserializer raised."""
FORGOTTEN_NS = 3_600_000_000_000
"""A difference that was not met for an hour makes room for another one."""


class Difference:
    """One way in which values of a destination depart from its contract."""

    __slots__ = ("checked_before", "count", "first_ns", "kind", "last_ns", "learned_from", "path", "producers", "types")

    def __init__(self, path: str, kind: str, now_ns: int, checked_before: int) -> None:
        self.path = path
        self.kind = kind
        self.count = 0
        """Values that had it."""
        self.checked_before = checked_before
        """Values that were compared before the first of them."""
        self.first_ns = self.last_ns = now_ns
        self.producers: dict[int, int] = {}
        """Those values by producer id, as far as producers are told apart; 0 where the producer is not known."""
        self.learned_from = False
        """Whether a producer sent it that the contract was learned from: no deployment brought it."""
        self.types: set[str] = set()
        """What was there instead."""


class Differences:
    """Counts what departs from a contract, and what was compared. A count may miss one of two at the same instant."""

    __slots__ = ("by_kind", "checked", "known", "learned_from", "producers")

    def __init__(self) -> None:
        self.checked = 0
        """Values that were compared."""
        self.by_kind: dict[str, int] = {}
        self.known: dict[tuple[str, str], Difference] = {}
        """By path and kind; the first 20, of which those that are long gone make room."""
        self.producers: dict[int, int] = {}
        """Values that were compared, by producer id: the first 64."""
        self.learned_from: set[int] = set()
        """Producers of the values that a contract was learned from, of 64 at most."""

    def learned(self, producer: int) -> None:
        """Note the producer of a value that was learned from."""
        if len(self.learned_from) < MAX_PRODUCERS:
            self.learned_from.add(producer)

    def kept(self, producer: int) -> None:
        """Note a value that is as agreed on."""
        self.checked += 1
        if producer:
            producers = self.producers
            if producer in producers:
                producers[producer] += 1
            elif len(producers) < MAX_PRODUCERS:
                producers[producer] = 1

    def differed(self, found: Mapping[tuple[str, str], str], producer: int, now_ns: int) -> bool:
        """Note a value with these differences, each with what was there instead; returns whether one is new."""
        before = self.checked
        self.kept(producer)
        new = False
        for (path, kind), name in found.items():
            self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
            difference = self.known.get((path, kind))
            if difference is None:
                if not self._has_room(now_ns):
                    continue
                difference = self.known[path, kind] = Difference(path, kind, now_ns, before)
                new = True
            difference.count += 1
            difference.last_ns = now_ns
            if name:
                difference.types.add(name)
            sent = difference.producers
            if producer in sent:
                sent[producer] += 1
            elif len(sent) < MAX_PRODUCERS:
                sent[producer] = 1
            if self._is_of_old(producer):
                difference.learned_from = True
        return new

    def counts(self, side: Side, source: Source | None) -> dict[Label, int]:
        """Return what was counted, differences from the moment that there is a contract."""
        counted = {CHECKED.label(side): self.checked}
        for kind in DIFFERENCES:
            count = self.by_kind.get(kind, 0)
            if count or source is not None:
                counted[VIOLATIONS.label(side, kind, source or LEARNED)] = count
        return counted

    def departures(self, now_ns: int) -> list[Departure]:
        """Return the differences that are known."""
        return [self._departure(each, now_ns) for each in tuple(self.known.values())]

    def _departure(self, each: Difference, now_ns: int) -> Departure:
        sent_by = tuple(each.producers)
        return Departure(
            each.path,
            each.kind,
            each.count,
            of=self.checked - each.checked_before,
            first_s=(now_ns - each.first_ns) / 1e9,
            last_s=(now_ns - each.last_ns) / 1e9,
            producer=sent_by[0] if len(sent_by) == 1 and sent_by[0] else None,
            producers=len(self.producers),
            types=tuple(sorted(each.types)),
        )

    def _is_of_old(self, producer: int) -> bool:
        """Tell whether no deployment of the producer is known since the contract was learned."""
        of_old = self.learned_from
        return not producer or not of_old or producer in of_old or len(of_old) >= MAX_PRODUCERS

    def _has_room(self, now_ns: int) -> bool:
        known = self.known
        if len(known) < MAX_DIFFERING:
            return True
        key, oldest = min(list(known.items()), key=lambda each: each[1].last_ns)
        if now_ns - oldest.last_ns < FORGOTTEN_NS:
            return False
        del known[key]
        return True
