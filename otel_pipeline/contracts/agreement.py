"""The contract of one destination on one side, as far as it is known: from a file, or learned and then frozen."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.discriminator import DiscriminatorSearch
from otel_pipeline.contracts.kinds import Kinds
from otel_pipeline.contracts.learning import ContractLearner
from otel_pipeline.contracts.measures import FILE, LEARNED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.measures import Source


class Agreement:
    """Learns a contract without a file. Used by several threads, of which none waits for another.

    Args:
        destination: its name.
        contract: from the file; None learns it.
        learn_messages: after how many a learned contract is known; 0 learns none.
    """

    __slots__ = (
        "_destination",
        "_learn_messages",
        "_learner",
        "_learning",
        "_search",
        "contract",
        "from_file",
        "kinds",
        "learned",
        "stopped",
    )

    def __init__(self, destination: str, contract: Contract | None, learn_messages: int) -> None:
        self.contract = contract
        """The one in force; None while it is not known."""
        self.from_file = contract is not None
        self.learned = 0
        """Values learned from."""
        self.kinds: Kinds | None = None
        """Of an envelope; None where no field says a kind."""
        self.stopped: list[str] = []
        """Fields that were in all values of the first half of learning, and in none of the second."""
        self._destination = destination
        self._learn_messages = learn_messages
        self._search: DiscriminatorSearch | None = DiscriminatorSearch()
        self._learner = ContractLearner(destination) if contract is None and learn_messages > 0 else None
        self._learning = Lock()

    @property
    def is_learning(self) -> bool:
        """Whether more values are to be learned from."""
        return self._learner is not None

    @property
    def source(self) -> Source | None:
        """Where the contract comes from; None while it is not known."""
        if self.contract is None:
            return None
        return FILE if self.from_file else LEARNED

    def learn(self, value: Any) -> bool:
        """Learn from a value; returns whether the contract is known now. May raise what the value's methods raise."""
        # Who comes while another thread learns goes on: one message less is learned, and nobody waits.
        if not self._learning.acquire(blocking=False):
            return False
        try:
            learner = self._learner
            if learner is None:
                return False
            learner.learn(value)
            self.learned = learner.learned
            if self.kinds is not None:
                self._learn_kind(self.kinds, value)
            elif self._search is not None and type(value) is dict:
                self._look_for_kinds(self._search, value)
            if 2 * self.learned == self._learn_messages:
                learner.half()
            if self.learned < self._learn_messages:
                return False
            self._know(learner)
            return True
        finally:
            self._learning.release()

    def judged_by(self, value: Any) -> Contract | None:
        """Return the contract that a value is judged by; None for a new kind, of which nothing can be said."""
        whole, kinds = self.contract, self.kinds
        return whole if kinds is None or whole is None else kinds.of(value, whole)

    def learn_kind(self, value: Any) -> bool:
        """Learn from a value whose kind is not known yet; returns whether it is the first of its kind.

        May raise what the value's methods raise.
        """
        kinds = self.kinds
        if kinds is None or not self._learning.acquire(blocking=False):
            return False
        try:
            before = len(kinds.new)
            self._learn_kind(kinds, value)
            return len(kinds.new) > before
        finally:
            self._learning.release()

    def settle(self, path: str, kind: str, types: Iterable[str]) -> None:
        """Take a difference into a learned contract.

        Raises:
            ContractError: that is impossible: see `Contract.with_optional`.
        """
        if self.contract is not None:
            self.contract = self.contract.with_optional(path, kind, types)
            if self.kinds is not None:
                self.kinds.settle(path, kind, types)

    def _look_for_kinds(self, search: DiscriminatorSearch, value: dict[Any, Any]) -> None:
        search.see(value)
        if search.is_over:
            self._search = None
            found = search.found()
            self.kinds = None if found is None else Kinds(self._destination, *found)

    def _learn_kind(self, kinds: Kinds, value: Any) -> None:
        kinds.learn(value)
        if kinds.is_full:
            self.kinds = None

    def _know(self, learner: ContractLearner) -> None:
        self._learner = self._search = None
        self.stopped = learner.stopped()
        if self.kinds is not None:
            self.kinds.freeze()
        self.contract = learner.contract()

    def renew(self) -> None:
        """Replace the lock in a forked child: it may be held by a thread that is not there."""
        self._learning = Lock()
