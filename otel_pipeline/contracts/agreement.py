"""The contract of one destination on one side, as far as it is known: from a file, or learned and then frozen."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

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

    __slots__ = ("_learn_messages", "_learner", "_learning", "contract", "from_file", "learned")

    def __init__(self, destination: str, contract: Contract | None, learn_messages: int) -> None:
        self.contract = contract
        """The one in force; None while it is not known."""
        self.from_file = contract is not None
        self.learned = 0
        """Values learned from."""
        self._learn_messages = learn_messages
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
            if self.learned < self._learn_messages:
                return False
            self._learner = None
            self.contract = learner.contract()
            return True
        finally:
            self._learning.release()

    def settle(self, path: str, kind: str, types: Iterable[str]) -> None:
        """Take a difference into a learned contract.

        Raises:
            ContractError: that is impossible: see `Contract.with_optional`.
        """
        if self.contract is not None:
            self.contract = self.contract.with_optional(path, kind, types)

    def renew(self) -> None:
        """Replace the lock in a forked child: it may be held by a thread that is not there."""
        self._learning = Lock()
