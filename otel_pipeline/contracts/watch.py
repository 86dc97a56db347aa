"""Watches the values of one destination on one side: learns their contract or has it from a file, then compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.fields import FieldHealth, FieldsHealth
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.measures import (
    BREAKS,
    CHECKED,
    DIFFERENCES,
    FILE,
    LEARNED,
    UNREADABLE,
    VIOLATIONS,
)
from otel_pipeline.contracts.paths import ROOT
from otel_pipeline.contracts.sampling import Sampler
from otel_pipeline.contracts.text import NOT_READ, NOTHING, TEXTS, TextReader
from otel_pipeline.engine.forks import forks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.measures import Side, Source
    from otel_pipeline.engine.measures import Label

MAX_DIFFERING = 20
_LAST_100 = (1 << 100) - 1
_UNREADABLE = ((ROOT, UNREADABLE),)


@dataclass(slots=True)
class ContractEvidence:
    """Whether values have the shape that was agreed on, beside what is counted."""

    source: Source | None = None
    """None while it is not known."""
    learned: int = 0
    learn_messages: int = 1000
    unlearnable: int = 0
    """Values that were looked at and from which nothing can be learned: none, or no JSON."""
    broken_of_last_100: int = 0
    """Of the last 100 messages checked, those with a difference that breaks."""
    differing_paths: list[str] = field(default_factory=list)
    fields: dict[str, float] = field(default_factory=dict)
    """Null rate, minimum and maximum of the fields that were asked for, as `path null_rate`."""
    sides_differ: bool = False
    """This process sends and receives the destination with different contracts."""


class ContractWatch:
    """What is known of the values of one destination, on one side. Used by several threads, never raises, never waits.

    Without a file it learns from the first messages and then freezes: what comes later never becomes the contract.
    Counts only grow; under several threads one may miss a message that another thread was looking at.

    Args:
        destination: its name.
        side: producer: before the serializer; consumer: after the deserializer.
        contract: from the file; None learns it.
        learn_messages: after how many a learned contract is known; 0 learns none.
        fields_on_request: paths, at most 32, of which null rate and range are kept. Empty keeps no value of any kind.
        clock_ns: a clock that only grows, ns.

    Raises:
        ContractError: `fields_on_request` names what is no path, or too many.

    Example:
        watch = ContractWatch("orders", "consumer")
        watch.check({"id": 7}, size_bytes=9)
    """

    def __init__(
        self,
        destination: str,
        side: Side,
        *,
        contract: Contract | None = None,
        learn_messages: int = 1000,
        fields_on_request: Collection[str] = (),
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.destination = destination
        self.side = side
        self.learn_messages = learn_messages
        self.checked = 0
        """Messages compared with a known contract, or found unreadable."""
        self.failed = 0
        """Messages that could not be looked at: a fault here, or in the value's own methods."""
        self.violations: dict[str, int] = {}
        """Differences by kind."""
        self._contract = contract
        self._from_file = contract is not None
        self._learner = ContractLearner(destination) if contract is None and learn_messages > 0 else None
        self._learned = 0
        self.unlearnable = 0
        """Values that were looked at and from which nothing can be learned: none, or no JSON."""
        self._learning = Lock()
        self._differing: dict[tuple[str, str], int] = {}
        self._history = 0
        """A bit for each of the last 100 messages: whether it broke."""
        root = contract.fields.get(ROOT) if contract is not None else None
        self._text = TextReader(expected=root is not None and {*root.types} <= {"object", "array"} and any(root.types))
        self._fields = FieldsHealth(fields_on_request) if fields_on_request else None
        self._clock_ns = clock_ns
        self.sampler = Sampler(clock_ns)
        self.sampler.watchful = self._from_file
        self.sampler.learning = self._learner is not None
        forks.add(self._renew)

    def check(self, value: Any, size_bytes: int, told: Callable[[Any], None] | None = None) -> None:
        """Take note of a message with this value that was sent or received.

        Args:
            value: what the application gave or got; bytes are taken for JSON where they look like it.
            size_bytes: of the serialized value; any constant where it is not known.
            told: as in `examine`.
        """
        sampler = self.sampler
        sampler.left = left = sampler.left - 1
        if left > 0 and sampler.low <= size_bytes <= sampler.high:
            return
        self.examine(value, size_bytes, told)

    def check_many(
        self,
        messages: Sequence[Any],
        value_of: Callable[[Any], Any],
        size_of: Callable[[Any], int],
        told: Callable[[Any], None] | None = None,
    ) -> None:
        """Check a batch of messages, in one step where none of them is to be examined; `told` as in `examine`."""
        sampler, sizes = self.sampler, [*map(size_of, messages)]
        if sampler.low > min(sizes) or max(sizes) > sampler.high:
            for message, size_bytes in zip(messages, sizes, strict=True):
                self.check(value_of(message), size_bytes, told)
            return
        at, end = 0, len(sizes)
        while sampler.left <= end - at:
            at += max(sampler.left, 1)
            sampler.left = 0
            self.examine(value_of(messages[at - 1]), sizes[at - 1], told)
        sampler.left -= end - at

    def unreadable(self) -> None:
        """Count a value whose deserializer raised."""
        self._judged(_UNREADABLE)

    @property
    def source(self) -> Source | None:
        """Where the contract comes from; None while it is not known."""
        if self._contract is None:
            return None
        return FILE if self._from_file else LEARNED

    @property
    def hash(self) -> str | None:
        """Hash of the contract in force; None while it is not known."""
        contract = self._contract
        return None if contract is None else contract.hash

    @property
    def contract(self) -> Contract | None:
        """The contract in force."""
        return self._contract

    @property
    def learned(self) -> int:
        """Messages learned from."""
        return self._learned

    @property
    def broken_of_last_100(self) -> int:
        """Of the last 100 messages checked, those with a difference that breaks."""
        return self._history.bit_count()

    @property
    def differing_paths(self) -> list[str]:
        """The first 20 differences that there were, as `path kind`."""
        return [f"{path} {kind}" for path, kind in tuple(self._differing)]

    @property
    def schema_ids(self) -> Mapping[str, int]:
        """Values by the registry id, GUID or Avro fingerprint they begin with; at most 16 and `other`."""
        return self._text.schema_ids

    @property
    def field_health(self) -> Mapping[str, FieldHealth]:
        """What was seen of the fields that were asked for, by path."""
        return {} if self._fields is None else self._fields.by_path

    def counts(self) -> dict[Label, int]:
        """Return what was counted so far; the differences from the moment that there is a contract."""
        counted = {CHECKED.label(self.side): self.checked}
        source = self.source
        if source is not None:
            for kind in DIFFERENCES:
                counted[VIOLATIONS.label(self.side, kind, source)] = self.violations.get(kind, 0)
        return counted

    def evidence(self) -> ContractEvidence:
        """Return what the verdict is made from, beside the counts."""
        return ContractEvidence(
            source=self.source,
            learned=self._learned,
            learn_messages=self.learn_messages,
            unlearnable=self.unlearnable,
            broken_of_last_100=self.broken_of_last_100,
            differing_paths=self.differing_paths,
            fields={
                f"{path} {name}": value
                for path, health in self.field_health.items()
                for name, value in (
                    ("null_rate", health.null_rate),
                    ("minimum", health.minimum),
                    ("maximum", health.maximum),
                )
                if value is not None
            },
        )

    def examine(self, value: Any, size_bytes: int, told: Callable[[Any], None] | None = None) -> None:
        """Compare or learn a message that was taken: `check` calls this when the sampler says so.

        Args:
            value: as in `check`.
            size_bytes: as in `check`.
            told: called with the value as an object, where there is one. The time it takes counts as ours.
        """
        started_ns = self._clock_ns()
        try:
            self.sampler.take(size_bytes)
            # No value at all is a deletion in a compacted topic, and no object with fields anywhere.
            if value is None:
                self._nothing_to_learn()
            else:
                self._look(value, told)
        except Exception:
            self.failed += 1
        self.sampler.spent(self._clock_ns() - started_ns)

    def _look(self, value: Any, told: Callable[[Any], None] | None) -> None:
        if type(value) is not dict and isinstance(value, TEXTS):
            value = self._text.read(value)
            if value is NOTHING:
                self._nothing_to_learn()
                return
            if value is NOT_READ:
                self._judged(_UNREADABLE)
                return
        contract = self._contract
        if contract is None:
            self._learn(value)
        else:
            self._judged(() if contract.matches(value) else contract.differences(value))
        if self._fields is not None:
            self._fields.look(value)
        if told is not None:
            told(value)

    def _nothing_to_learn(self) -> None:
        """End the learning from each message where there is nothing to learn from; from a sample it goes on."""
        if self._learner is not None:
            self.unlearnable += 1
            if self.unlearnable >= self.learn_messages:
                self.sampler.learning = False

    def _learn(self, value: Any) -> None:
        # Who comes while another thread learns goes on: one message less is learned, and nobody waits.
        if not self._learning.acquire(blocking=False):
            return
        try:
            learner = self._learner
            if learner is None:
                return
            learner.learn(value)
            self._learned = learner.learned
            if self._learned >= self.learn_messages:
                self._learner = None
                self._contract = learner.contract()
                self.sampler.learning = False
        finally:
            self._learning.release()

    def _judged(self, found: Sequence[tuple[str, str]]) -> None:
        self.checked += 1
        if not found:
            self._history = self._history << 1 & _LAST_100
            return
        broken = new = False
        for difference in found:
            kind = difference[1]
            broken = broken or kind in BREAKS
            self.violations[kind] = self.violations.get(kind, 0) + 1
            if difference in self._differing:
                self._differing[difference] += 1
            elif len(self._differing) < MAX_DIFFERING:
                self._differing[difference] = 1
                new = True
        self._history = (self._history << 1 | broken) & _LAST_100
        self.sampler.differed(new=new)

    def _renew(self) -> None:
        """Replace the lock in a forked child: it may be held by a thread that is not there."""
        self._learning = Lock()
