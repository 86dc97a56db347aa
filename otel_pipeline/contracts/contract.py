"""The contract of a destination: which fields its values have, of which types, and which are always there.

A path is `customer.name`, `items[].sku`, `prices.*` (any key); `$` is the value itself. Shape only, never values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.checking import Field, compiled, differ, fits
from otel_pipeline.contracts.measures import FIELD_ADDED, FIELD_MISSING
from otel_pipeline.contracts.paths import ContractError
from otel_pipeline.contracts.values import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = 1
MAX_PATHS = 512


class Contract:
    """The fields that the values of one destination have. Immutable; used by any thread.

    Args:
        topic: the destination.
        fields: by path; at most 512.
        core: what the hash is made of where it is not the whole table: for a learned contract (see `ContractLearner`).

    Example:
        contract = Contract("orders", {"$": Field(("object",), True), "id": Field(("int",), True)})
        contract.differences({"id": "7"})  # [("id", "type_changed")]
    """

    __slots__ = ("_known", "core", "fields", "hash", "topic")

    def __init__(self, topic: str, fields: Mapping[str, Field], *, core: Mapping[str, Field] | None = None) -> None:
        if len(fields) > MAX_PATHS:
            raise ContractError(f"{len(fields)} paths; a contract has at most {MAX_PATHS}")
        self.topic = topic
        self.fields: Mapping[str, Field] = MappingProxyType(dict(fields))
        self.core: Mapping[str, Field] = self.fields if core is None else MappingProxyType(dict(core))
        """What the hash is made of."""
        self.hash = _hash(self.core)
        """16 hexadecimal digits; the same in every process."""
        self._known = compiled(self.fields)

    def matches(self, value: Any) -> bool:
        """Tell whether a value of plain dicts and lists has no difference. False proves nothing: ask `differences`."""
        return fits(self._known, value)

    def differences(self, value: Any) -> list[tuple[str, str]]:
        """List how a value departs from the contract: (path, kind), each once; at most 32 of kind field_added.

        May raise what the methods of the value's own classes raise.
        """
        return list(self.departures(value))

    def departures(self, value: Any) -> dict[tuple[str, str], str]:
        """Return the same differences, each with the type that is there instead; empty where there is nothing."""
        found: dict[tuple[str, str], str] = {}
        if not fits(self._known, value):
            differ(self._known, value, found)
        return found

    def with_optional(self, path: str, kind: str, types: Iterable[str]) -> Contract:
        """Return a contract from which values with this difference do not depart any more. Its hash stays the same.

        Args:
            path: where they differ.
            kind: how they differ.
            types: what was there instead.

        Raises:
            ContractError: that is impossible: the table is full, or its rows do not lead to the path.
        """
        field = self.fields.get(path, Field((), False))
        if kind == FIELD_MISSING:
            field = Field(field.types, False)
        elif kind != FIELD_ADDED:
            field = Field(tuple(sorted({*field.types, *types})), field.required)
        return Contract(self.topic, {**self.fields, path: field}, core=self.core)

    def to_json(self) -> dict[str, Any]:
        """Return what `contracts/<topic>.json` holds; its hash is of the whole table."""
        return {
            "schema": SCHEMA,
            "topic": self.topic,
            "hash": _hash(self.fields),
            "fields": {
                path: {"types": list(field.types), "required": field.required}
                for path, field in sorted(self.fields.items())
            },
        }

    @classmethod
    def from_json(cls, document: Any) -> Contract:
        """Read the contract that a file holds.

        The hash in it is for people: a file may be edited, so it is worked out again.

        Raises:
            ContractError: the document is not a contract.
        """
        if not isinstance(document, Mapping) or not isinstance(document.get("fields"), Mapping):
            raise ContractError("there is no mapping `fields`")
        if document.get("schema") != SCHEMA:
            raise ContractError(f"`schema` is {document.get('schema')!r}, this version reads {SCHEMA}")
        topic = document.get("topic")
        if not isinstance(topic, str):
            raise ContractError("`topic` is no string")
        return cls(topic, {path: _field(path, said) for path, said in document["fields"].items()})

    @classmethod
    def loads(cls, text: str | bytes) -> Contract:
        """Read the contract from the text of a file.

        Raises:
            ContractError: the text is not a contract.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ContractError(f"not JSON: {error}") from None
        return cls.from_json(document)

    def dumps(self) -> str:
        """Write the text of its file: sorted, one line per field, so that a change reads well in a review."""
        document = self.to_json()
        rows = ",\n".join(
            f"    {json.dumps(path)}: {json.dumps(said)}" for path, said in document.pop("fields").items()
        )
        head = "".join(f"  {json.dumps(name)}: {json.dumps(value)},\n" for name, value in document.items())
        return f'{{\n{head}  "fields": {{\n{rows}\n  }}\n}}\n'


def _field(path: Any, said: Any) -> Field:
    if not isinstance(path, str) or not isinstance(said, Mapping):
        raise ContractError(f"{path!r} is no field with `types` and `required`")
    types, required = said.get("types"), said.get("required")
    if not isinstance(types, list) or not all(isinstance(name, str) and name in TYPES for name in types):
        raise ContractError(f"`types` of {path!r} is no list of {', '.join(TYPES)}")
    if not isinstance(required, bool):
        raise ContractError(f"`required` of {path!r} is neither true nor false")
    return Field(tuple(sorted(set(types))), required)


def _hash(fields: Mapping[str, Field]) -> str:
    rows = sorted(f"{path}\t{' '.join(types)}\t{required:d}" for path, (types, required) in fields.items())
    return blake2b("\n".join(rows).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
