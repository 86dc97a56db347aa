"""What is done with a value that is looked at: a contract is learned from it, or it is compared with the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.agreement import Agreement
from otel_pipeline.contracts.differences import RAISED, Differences
from otel_pipeline.contracts.healing import Healing
from otel_pipeline.contracts.measures import DELETED, NOT_COMPARED, OF_NEW_KIND, PASSED, UNREADABLE
from otel_pipeline.contracts.paths import ROOT
from otel_pipeline.contracts.schema_ids import SchemaIds
from otel_pipeline.contracts.text import NOT_READ, NOTHING, SURE_AFTER, TEXTS, TextReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.contracts.contract import Contract
    from otel_pipeline.contracts.measures import Side
    from otel_pipeline.contracts.sampling import Sampler
    from otel_pipeline.engine.measures import Label

_NO_DIFFERENCE: Mapping[tuple[str, str], str] = {}
_NOT_JSON: Mapping[tuple[str, str], str] = {(ROOT, UNREADABLE): "bytes"}


class Judge:
    """Learns from values, then judges them. Used by several threads; a count may miss one of two at the same instant.

    Args:
        destination: its name.
        side: producer: before the serializer; consumer: after the deserializer.
        contract: from the file; None learns it.
        learn_messages: after how many a learned contract is known; 0 learns none.
        sampler: told of what makes further looks useful or vain.
    """

    __slots__ = (
        "_deleted",
        "_in_vain",
        "_not_compared",
        "_of_new_kind",
        "_passed_before",
        "_raised",
        "_sampler",
        "_side",
        "_text",
        "agreement",
        "found",
        "healing",
        "known_ns",
        "schemas",
    )

    def __init__(
        self, destination: str, side: Side, contract: Contract | None, learn_messages: int, sampler: Sampler
    ) -> None:
        self.found = Differences()
        self.schemas = SchemaIds(learn_messages)
        self.agreement = Agreement(destination, contract, learn_messages)
        root = contract.fields.get(ROOT) if contract is not None else None
        self._text = TextReader(
            expected=root is not None and {*root.types} <= {"object", "array"} and any(root.types),
            deserialized=side == "consumer",
        )
        self.healing = Healing(self.found, self.agreement, self._text)
        self._side = side
        self._sampler = sampler
        sampler.watchful = self.agreement.from_file
        sampler.learning = self.agreement.is_learning
        self._in_vain = 0
        """Looks in a row from which nothing was learned."""
        self._deleted = 0
        self._not_compared = 0
        self._of_new_kind = 0
        self._passed_before = 0
        """Messages that came by before the contract was known."""
        self._raised = 0
        self.known_ns = 0
        """When the contract had been learned."""

    def judge(self, value: Any, size_bytes: int, producer: int, now_ns: int) -> Any:
        """Take in a value; returns it as an object, NOTHING where it is none. May raise what the value's methods raise.

        Args:
            value: what the application gave or got.
            size_bytes: of the message's value.
            producer: the id of who sent it; 0 where that is not known.
            now_ns: monotonic.
        """
        schema = ""
        if type(value) is not dict and isinstance(value, TEXTS):
            value, schema = self._read(value, size_bytes)
        else:
            self._text.objects = True
        contract = self.agreement.contract
        if value is NOTHING:
            self.in_vain()
            found = _NO_DIFFERENCE
        elif value is NOT_READ:
            value, found = NOTHING, _NOT_JSON
        elif contract is None:
            self._learn(value, producer, now_ns)
            return value
        else:
            if self.agreement.kinds is not None:
                contract = self._of_kind(value, contract)
                if contract is None:
                    return value
            found = _NO_DIFFERENCE if contract.matches(value) else contract.departures(value)
        if found:
            self._differs(found, producer, now_ns)
        elif value is not NOTHING:
            self.found.kept(producer)
            schema = ""  # Another version of the same shape.
        if schema:
            self.schemas.is_new(schema, now_ns)
            self._sampler.differed(new=True)
        return value

    def deleted(self) -> None:
        """Note a deletion in a compacted topic: no value at all, and no object with fields anywhere."""
        if self.agreement.contract is None:
            self.in_vain()
        else:
            self._deleted += 1

    def in_vain(self) -> None:
        """Note a value that none can judge, or learn from. After a hundred of them in a row one in 1,024 will do."""
        if self.agreement.contract is not None:
            self._not_compared += 1
            return
        self._in_vain += 1
        if self._in_vain >= SURE_AFTER:
            self._sampler.rest()
            self.schemas.settle()

    def raised(self, now_ns: int) -> None:
        """Note a value whose deserializer raised."""
        self._raised += 1
        self._differs({(ROOT, UNREADABLE): RAISED}, 0, now_ns)

    def counts(self) -> dict[Label, int]:
        """Return what was counted so far."""
        counted = self.found.counts(self._side, self.agreement.source)
        if self.agreement.contract is not None:
            counted[PASSED] = self._sampler.passed - self._passed_before + self._raised
            counted[NOT_COMPARED] = self._not_compared
            counted[OF_NEW_KIND] = self._of_new_kind
            counted[DELETED] = self._deleted
        return counted

    def _read(self, text: Any, size_bytes: int) -> tuple[Any, str]:
        """Return what text or bytes stand for, and the schema's id where it was not known before."""
        schema = ""
        if not isinstance(text, str):
            text, schema = self.schemas.unframed(text)
        return self._text.read(text, size_bytes), schema

    def _learn(self, value: Any, producer: int, now_ns: int) -> None:
        known = self.agreement.learn(value)
        self._in_vain = 0
        if producer:
            self.found.learned(producer)
        if self._sampler.resting:
            self._sampler.wake()
        if known:
            self._sampler.learning = False
            self.known_ns = now_ns
            self._passed_before = self._sampler.passed

    def _of_kind(self, value: Any, whole: Contract) -> Contract | None:
        """Return what a value of an envelope is judged by; None for a new kind, which is learned."""
        agreement = self.agreement
        contract = agreement.judged_by(value)
        if contract is None:
            self._of_new_kind += 1
            self._sampler.differed(new=agreement.learn_kind(value))
        elif contract is whole and contract.matches(value):
            agreement.learn_kind(value)
        return contract

    def _differs(self, found: Mapping[tuple[str, str], str], producer: int, now_ns: int) -> None:
        self._sampler.differed(new=self.found.differed(found, producer, now_ns))
