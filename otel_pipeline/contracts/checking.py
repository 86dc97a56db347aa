"""Compares a value with a contract, laid out so that one that matches is walked without making an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_pipeline.contracts.measures import BECAME_NULL, FIELD_ADDED, FIELD_MISSING, INT_TO_FLOAT, TYPE_CHANGED
from otel_pipeline.contracts.paths import (
    ANY_KEY,
    ITEM,
    ROOT,
    ContractError,
    any_path,
    child_path,
    item_path,
    step_key,
    steps,
)
from otel_pipeline.contracts.values import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_KEY_LETTERS,
    MAX_KEYS,
    TYPE_OF,
    fields_of,
    key_text,
    reduced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

MAX_ADDED = 32
"""The number of unknown fields of one value that are named."""
MAX_DIFFERENCES = 512


class Field(NamedTuple):
    """What is agreed on for one path."""

    types: tuple[str, ...]
    """Sorted. None, or only `null`: the type is not known and not judged."""
    required: bool
    """True: every object that the field belongs to has it."""


def accepted_types(types: Iterable[str]) -> frozenset[str]:
    """Return the types that a field takes: int is within float."""
    known = frozenset(types)
    return known | {"int"} if "float" in known else known


class _Everything:
    """Stands where a set of classes stands, for a field that is not judged."""

    def __contains__(self, cls: object) -> bool:
        return True


class _OpenFields(dict[str, "type | None"]):
    """The usual class by key, and that of every other key."""

    __slots__ = ("other",)
    other: type | None

    def __missing__(self, _key: str) -> type | None:
        return self.other


_EVERYTHING = _Everything()
_CLASS = {name: cls for cls, name in TYPE_OF.items()}
_MOST_USUAL = (float, str, int, bool, bytes, list, dict, type(None))


class Known:
    """What is known of one path, laid out so that a value that matches is walked without making an object."""

    __slots__ = (
        "agreed",
        "any_key",
        "children",
        "classes",
        "items",
        "path",
        "required",
        "required_keys",
        "types",
        "usual",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.agreed = False
        """Whether the table has a row for it."""
        self.types: frozenset[str] = frozenset()
        self.required = False
        self.children: dict[str, Known] = {}
        self.any_key: Known | None = None
        self.items: Known | None = None
        self.classes: Container[type] = _EVERYTHING
        """Classes whose instances need no further look."""
        self.usual: dict[str, type | None] = {}
        """For each child's key the class that most of its values have: one comparison settles those."""
        self.required_keys: frozenset[str] = frozenset()

    def child(self, key: str) -> Known | None:
        """Return what is known of a field; None where nothing is."""
        return self.children.get(key) or self.any_key

    @property
    def below(self) -> list[Known]:
        """Everything one step down."""
        return [*self.children.values(), *(node for node in (self.any_key, self.items) if node is not None)]

    @property
    def judged(self) -> bool:
        """Whether its type is known."""
        return not self.types <= {"null"}

    @property
    def usual_class(self) -> type | None:
        """The class of most values; None where a class does not say enough."""
        return next((cls for cls in _MOST_USUAL if self.judged and cls in self.classes), None)

    def finish(self) -> None:
        """Work out what the walk needs, from below upwards."""
        for node in self.below:
            node.finish()
        if self.judged:
            classes = {_CLASS[name] for name in accepted_types(self.types)}
            if self.children or self.any_key is not None:
                classes.discard(dict)
            if self.items is not None:
                classes.discard(list)
            self.classes = frozenset(classes)
        self.usual = {key: node.usual_class for key, node in self.children.items()}
        if self.any_key is not None:
            self.usual = usual = _OpenFields(self.usual)
            usual.other = self.any_key.usual_class
        self.required_keys = frozenset(key for key, node in self.children.items() if node.required)


def compiled(fields: Mapping[str, Field]) -> Known:
    """Turn a contract's table into the tree that is walked.

    Raises:
        ContractError: one of the paths is invalid, or too deep, or its parent has no row.
    """
    root = Known(ROOT)
    for path, field in fields.items():
        node = root
        walked = steps(path)
        if len(walked) > MAX_DEPTH:
            raise ContractError(f"{path!r} is deeper than {MAX_DEPTH}")
        for step in walked:
            node = _below(node, step)
        node.types = frozenset(field.types)
        node.required = field.required
        node.agreed = True
    _demand_rows(root)
    root.finish()
    return root


def _demand_rows(node: Known) -> None:
    """Refuse a path without a row of its own: it has no type, and nothing below it would ever be judged."""
    below = node.below
    if below and not node.agreed:
        raise ContractError(f"{node.path!r} has no row, {below[0].path!r} below it has one")
    for child in below:
        _demand_rows(child)


def _below(node: Known, step: str) -> Known:
    if step == ITEM:
        if node.items is None:
            node.items = Known(item_path(node.path))
        return node.items
    if step == ANY_KEY:
        if node.any_key is None:
            node.any_key = Known(any_path(node.path))
        return node.any_key
    key = step_key(step)
    if key not in node.children:
        node.children[key] = Known(child_path(node.path, key))
    return node.children[key]


def fits(node: Known, value: Any) -> bool:
    """Tell whether a value of plain dicts and lists has no difference. False proves nothing: ask `differ`."""
    return type(value) in node.classes or _parts_fit(node, value)


def _parts_fit(node: Known, value: Any) -> bool:  # noqa: PLR0911  # one call for each object, not two
    """Tell the same of a value whose class alone does not say so."""
    cls = type(value)
    if cls is dict:
        if "object" not in node.types or len(value) > MAX_KEYS:
            return False
        usual, children = node.usual, node.children
        try:
            for key, item in value.items():
                cls = type(item)
                if cls is not usual[key]:
                    child = children.get(key) or node.any_key
                    if child is None or (cls not in child.classes and not _parts_fit(child, item)):
                        return False
        except KeyError:
            return False
        complete: bool = node.required_keys <= value.keys()
        return complete
    items = node.items
    if cls is not list or items is None or "array" not in node.types:
        return False
    classes = items.classes
    for item in value if len(value) <= MAX_ITEMS else value[:MAX_ITEMS]:
        if type(item) not in classes and not _parts_fit(items, item):
            return False
    return True


def differ(node: Known, value: Any, found: dict[tuple[str, str], str]) -> None:
    """Note every difference of a value by (path, kind), with the type that is there; empty where there is nothing.

    May raise what the value's own methods raise.
    """
    if not node.judged:
        return
    name, value = reduced(value)
    if name not in node.types and not (name == "int" and "float" in node.types):
        found[node.path, _difference(node, name)] = name
    elif name == "object" and (node.children or node.any_key is not None):
        _differ_in_fields(node, value, found)
    elif name == "array" and node.items is not None:
        for item in value[:MAX_ITEMS]:
            differ(node.items, item, found)


def _difference(node: Known, name: str) -> str:
    if name == "null":
        return BECAME_NULL
    return INT_TO_FLOAT if name == "float" and "int" in node.types else TYPE_CHANGED


def _differ_in_fields(node: Known, value: dict[Any, Any], found: dict[tuple[str, str], str]) -> None:
    # Keys that are no strings are known by their text.
    plain = all(isinstance(key, str) for key in value)
    is_there: Callable[[str], bool] = value.__contains__ if plain else {key_text(key) for key in value}.__contains__
    for key in sorted(node.required_keys):
        if not is_there(key):
            found[node.children[key].path, FIELD_MISSING] = ""
    added = 0
    for key, item in fields_of(value):
        text = key_text(key)
        child = node.child(text)
        if child is not None:
            differ(child, item, found)
        elif added < MAX_ADDED and len(found) < MAX_DIFFERENCES:
            added += 1
            found[child_path(node.path, text[:MAX_KEY_LETTERS]), FIELD_ADDED] = ""
