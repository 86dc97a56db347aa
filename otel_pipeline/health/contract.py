"""The contract of a destination: which fields its values have, of which types, and which are always there.

A path is `customer.name`, `items[].sku`, `prices.*` (any key); `$` is the value itself. Shape only, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.health.contract_values import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_KEY_LETTERS,
    MAX_KEYS,
    TYPE_OF,
    TYPES,
    fields_of,
    key_text,
    reduced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

SCHEMA = 1
MAX_PATHS = 512
MAX_ADDED = 32
"""Unknown fields that are named of one value."""
ROOT = "$"
ANY_KEY = "*"
ITEM = "[]"
DIFFERENCES = ("field_added", "field_missing", "type_changed", "became_null", "int_to_float", "unreadable")
_SPECIAL = frozenset('.[]*\\"')
_EMPTY_KEY = '""'
_STEP = re.compile(r"\[\]|\.?((?:\\.|[^.\[\\])+)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class ContractError(ValueError):
    """What was read is not a contract; the message says where."""


class Field(NamedTuple):
    """What is agreed on for one path."""

    types: tuple[str, ...]
    """Sorted. None, or only `null`: the type is not known and not judged."""
    required: bool
    """Every object that the field belongs to has it."""


class Contract:
    """The fields that the values of one destination have. Immutable; used by any thread.

    Args:
        topic: the destination.
        fields: by path; at most 512.
        core: what the hash is made of where it is not the whole table: of a learned contract (see `ContractLearner`).

    Example:
        contract = Contract("orders", {"$": Field(("object",), True), "id": Field(("int",), True)})
        contract.differences({"id": "7"})  # [("id", "type_changed")]
    """

    __slots__ = ("_known", "fields", "hash", "topic")

    def __init__(self, topic: str, fields: Mapping[str, Field], *, core: Mapping[str, Field] | None = None) -> None:
        if len(fields) > MAX_PATHS:
            raise ContractError(f"{len(fields)} paths; a contract has at most {MAX_PATHS}")
        self.topic = topic
        self.fields: Mapping[str, Field] = MappingProxyType(dict(fields))
        self.hash = _hash(self.fields if core is None else core)
        """16 hexadecimal digits; the same in every process."""
        self._known = _compiled(self.fields)

    def matches(self, value: Any) -> bool:
        """Whether a value of plain dicts and lists has no difference. False says nothing: ask `differences`."""
        return _fits(self._known, value)

    def differences(self, value: Any) -> list[tuple[str, str]]:
        """What a value lacks or has else: (path, kind), each once; at most 32 of kind field_added.

        May raise what the methods of the value's own classes raise.
        """
        if _fits(self._known, value):
            return []
        found: dict[tuple[str, str], None] = {}
        _differ(self._known, value, found)
        return list(found)

    def to_json(self) -> dict[str, Any]:
        """What `contracts/<topic>.json` holds; its hash is of the whole table."""
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
        """The contract that a file holds.

        The hash in it is for people: a file may be edited, so it is worked out again.

        Raises:
            ContractError: it is none.
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
        """The contract in the text of a file.

        Raises:
            ContractError: it is none.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ContractError(f"not JSON: {error}") from None
        return cls.from_json(document)

    def dumps(self) -> str:
        """The text of its file: sorted, one line a field, so that a change reads well in a review."""
        document = self.to_json()
        rows = ",\n".join(f"    {json.dumps(path)}: {json.dumps(said)}" for path, said in document.pop("fields").items())
        head = "".join(f"  {json.dumps(name)}: {json.dumps(value)},\n" for name, value in document.items())
        return f'{{\n{head}  "fields": {{\n{rows}\n  }}\n}}\n'


def child_path(parent: str, key: str) -> str:
    """The path of a named field."""
    if parent == ROOT:
        parent = ""
    if key == ROOT and not parent:
        return "\\$"
    if not key:
        key = _EMPTY_KEY
    elif not _SPECIAL.isdisjoint(key):
        key = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in key)
    return f"{parent}.{key}" if parent else key


def any_path(parent: str) -> str:
    """The path of the fields whose keys are data."""
    return ANY_KEY if parent == ROOT else f"{parent}.{ANY_KEY}"


def item_path(parent: str) -> str:
    """The path of an array's items."""
    return ITEM if parent == ROOT else f"{parent}{ITEM}"


def steps(path: str) -> list[str]:
    """A path's steps as they are written: `a.b[]` is a, b, [].

    Raises:
        ContractError: it is no path.
    """
    taken: list[str] = []
    at = len(path) if path == ROOT else 0
    while at < len(path):
        found = _STEP.match(path, at)
        # A dot stands before each name but the first, and nowhere else.
        if found is None or (found[1] is not None and (found[0][0] == ".") == (at == 0)):
            raise ContractError(f"{path!r} is no path")
        taken.append(found[1] or ITEM)
        at = found.end()
    return taken


def step_key(step: str) -> str:
    """The key that a step stands for."""
    if step == _EMPTY_KEY:
        return ""
    return _ESCAPED.sub(r"\1", step) if "\\" in step else step


def accepted_types(types: Iterable[str]) -> frozenset[str]:
    """What a field takes: int is within float."""
    known = frozenset(types)
    return known | {"int"} if "float" in known else known


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


class _Everything:
    """Stands where a set of classes stands, for a field that is not judged."""

    def __contains__(self, cls: object) -> bool:
        return True


class _OpenFields(dict[str, "Collection[type]"]):
    """Accepted classes by key, and those of every other key."""

    __slots__ = ("other",)
    other: Collection[type]

    def __missing__(self, _key: str) -> Collection[type]:
        return self.other


_EVERYTHING = _Everything()
_CLASS = {name: cls for cls, name in TYPE_OF.items()}


class _Known:
    """What is known of one path, laid out so that a value that matches is walked without making an object."""

    __slots__ = ("accepts", "any_key", "children", "classes", "items", "path", "required", "required_keys", "types")

    def __init__(self, path: str) -> None:
        self.path = path
        self.types: frozenset[str] = frozenset()
        self.required = False
        self.children: dict[str, _Known] = {}
        self.any_key: _Known | None = None
        self.items: _Known | None = None
        self.classes: Collection[type] = _EVERYTHING
        """Classes whose instances need no further look."""
        self.accepts: dict[str, Collection[type]] = {}
        """Of the children."""
        self.required_keys: tuple[str, ...] = ()

    def child(self, key: str) -> _Known | None:
        return self.children.get(key) or self.any_key

    @property
    def judged(self) -> bool:
        return not self.types <= {"null"}

    def finish(self) -> None:
        """Work out what the walk needs, from below upwards."""
        below = [*self.children.values(), *(node for node in (self.any_key, self.items) if node is not None)]
        for node in below:
            node.finish()
        if self.judged:
            classes = {_CLASS[name] for name in accepted_types(self.types)}
            if self.children or self.any_key is not None:
                classes.discard(dict)
            if self.items is not None:
                classes.discard(list)
            self.classes = frozenset(classes)
        self.accepts = {key: node.classes for key, node in self.children.items()}
        if self.any_key is not None:
            self.accepts = _OpenFields(self.accepts)
            self.accepts.other = self.any_key.classes
        self.required_keys = tuple(key for key, node in self.children.items() if node.required)


def _compiled(fields: Mapping[str, Field]) -> _Known:
    root = _Known(ROOT)
    for path, field in fields.items():
        node = root
        walked = steps(path)
        if len(walked) > MAX_DEPTH:
            raise ContractError(f"{path!r} is deeper than {MAX_DEPTH}")
        for step in walked:
            node = _below(node, step)
        node.types = frozenset(field.types)
        node.required = field.required
    root.finish()
    return root


def _below(node: _Known, step: str) -> _Known:
    if step == ITEM:
        if node.items is None:
            node.items = _Known(item_path(node.path))
        return node.items
    if step == ANY_KEY:
        if node.any_key is None:
            node.any_key = _Known(any_path(node.path))
        return node.any_key
    key = step_key(step)
    if key not in node.children:
        node.children[key] = _Known(child_path(node.path, key))
    return node.children[key]


def _fits(node: _Known, value: Any) -> bool:
    cls = type(value)
    if cls in node.classes:
        return True
    if cls is dict:
        if "object" not in node.types or len(value) > MAX_KEYS:
            return False
        accepts = node.accepts
        try:
            for key, item in value.items():
                if type(item) not in accepts[key]:
                    child = node.child(key)
                    if child is None or not _fits(child, item):
                        return False
        except KeyError:
            return False
        for key in node.required_keys:
            if key not in value:
                return False
        return True
    if cls is list and "array" in node.types and node.items is not None:
        items = node.items
        for item in value if len(value) <= MAX_ITEMS else value[:MAX_ITEMS]:
            if not _fits(items, item):
                return False
        return True
    return False


def _differ(node: _Known, value: Any, found: dict[tuple[str, str], None]) -> None:
    if not node.judged:
        return
    name, value = reduced(value)
    if name not in node.types and not (name == "int" and "float" in node.types):
        found[node.path, _difference(node, name)] = None
    elif name == "object" and (node.children or node.any_key is not None):
        _differ_in_fields(node, value, found)
    elif name == "array" and node.items is not None:
        for item in value[:MAX_ITEMS]:
            _differ(node.items, item, found)


def _difference(node: _Known, name: str) -> str:
    if name == "null":
        return "became_null"
    return "int_to_float" if name == "float" and "int" in node.types else "type_changed"


def _differ_in_fields(node: _Known, value: dict[Any, Any], found: dict[tuple[str, str], None]) -> None:
    # In a value of more fields than are looked at, or with keys that are no strings, presence is asked by text.
    plain = all(type(key) is str for key in fields_of(value))
    is_there: Callable[[str], bool] = value.__contains__ if plain else {key_text(key) for key in value}.__contains__
    for key in node.required_keys:
        if not is_there(key):
            found[node.children[key].path, "field_missing"] = None
    added = 0
    for key, item in fields_of(value):
        text = key_text(key)
        child = node.child(text)
        if child is not None:
            _differ(child, item, found)
        elif added < MAX_ADDED and len(found) < MAX_PATHS:
            added += 1
            found[child_path(node.path, text[:MAX_KEY_LETTERS]), "field_added"] = None
