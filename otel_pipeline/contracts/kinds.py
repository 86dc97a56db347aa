"""The contract of an envelope: one for each kind of message, where a field says which kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.discriminator import MAX_KINDS, at, is_kind, path_of
from otel_pipeline.contracts.learning import REQUIRED_PARENTS, ContractLearner
from otel_pipeline.contracts.paths import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.discriminator import Keys

KIND_VALUES = REQUIRED_PARENTS
"""Values that the contract of a kind is learned from."""
MAX_PATHS = 1024
"""Paths of all kinds together."""


class Kinds:
    """Learns a contract for each kind of value. Not safe for several threads at once, but for `of`.

    Args:
        topic: the destination.
        keys: where the kind stands.
        cls: of what stands there.
    """

    __slots__ = ("_cls", "_contracts", "_frozen", "_keys", "_learners", "_topic", "new", "path")

    def __init__(self, topic: str, keys: Keys, cls: type) -> None:
        self._topic = topic
        self._keys = keys
        self._cls = cls
        self._learners: dict[Any, ContractLearner] = {}
        self._contracts: dict[Any, Contract] = {}
        self._frozen = False
        self.path = path_of(keys)
        self.new: set[Any] = set()
        """Kinds that came after the whole contract was known, and are not known themselves: nothing is said of them."""

    @property
    def is_full(self) -> bool:
        """Whether there is no room for all kinds: then the field says none."""
        paths = sum(learner.paths for learner in self._learners.values())
        paths += sum(len(contract.fields) for contract in self._contracts.values())
        return len(self._learners) + len(self._contracts) > MAX_KINDS or paths > MAX_PATHS

    def of(self, value: Any, whole: Contract) -> Contract | None:
        """Return what a value is judged by: the contract of its kind, else the whole one; None for a new kind."""
        kind = at(value, self._keys)
        if not is_kind(kind, self._cls):
            return whole
        contract = self._contracts.get(kind)
        if contract is None and kind in self._learners and kind not in self.new:
            return whole
        return contract

    def learn(self, value: Any) -> None:
        """Take in a value. May raise what the methods of the value's own classes raise."""
        kind = at(value, self._keys)
        if not is_kind(kind, self._cls) or kind in self._contracts:
            return
        learner = self._learners.get(kind)
        if learner is None:
            learner = self._learners[kind] = ContractLearner(self._topic)
            if self._frozen:
                self.new.add(kind)
        learner.learn(value)
        if self._frozen and learner.learned >= KIND_VALUES:
            self._know(kind)

    def freeze(self) -> None:
        """Take for known what was learned often enough. The others go on learning, each for itself."""
        self._frozen = True
        for kind, learner in tuple(self._learners.items()):
            if learner.learned >= KIND_VALUES:
                self._know(kind)

    def settle(self, path: str, how: str, types: Iterable[str]) -> None:
        """Take a difference into the contracts of all kinds that have the path, or can have it."""
        for kind, contract in tuple(self._contracts.items()):
            try:
                self._contracts[kind] = contract.with_optional(path, how, types)
            except ContractError:
                continue

    def _know(self, kind: Any) -> None:
        self._contracts[kind] = self._learners.pop(kind).contract()
        self.new.discard(kind)
