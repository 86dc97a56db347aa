"""Learns a contract from values: merges what was seen, and decides when it counts as agreed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.contracts.checking import Field
from otel_pipeline.contracts.contract import MAX_PATHS, Contract
from otel_pipeline.contracts.paths import ROOT, any_path, child_path, item_path
from otel_pipeline.contracts.values import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_KEY_LETTERS,
    TYPE_OF,
    fields_of,
    key_text,
    reduced,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED_PARENTS = 300
"""Objects that must all have had a field before it is required."""
KNOWN_VALUES = 30
"""Values after which the types of a field that is not always there are known."""
MAX_NAMED = 32
"""Number of rare keys of one object that stay named; more than that are data, not names."""
FOLD_PARENTS = 20
FOLD_KEYS = 128
"""Number of keys of one object at which rare ones fold even before `FOLD_PARENTS` objects were seen."""
CORE_SHARE = 0.05
"""Share of a field's values below which a type is not in the hash, or of its parents without it: one side may not have
met them."""


_PLAIN = {cls: name for cls, name in TYPE_OF.items() if name not in ("object", "array")}


class _Seen:
    """What was seen at one path."""

    __slots__ = ("any_key", "arrays", "children", "half", "items", "objects", "open", "present", "types")

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.present = 0
        """Parents that had it; for an array's items, arrays that were not empty."""
        self.objects = 0
        self.arrays = 0
        self.half = (0, 0)
        """How many parents had it, and how many objects there were, when half was learned."""
        self.children: dict[str, _Seen] = {}
        self.any_key: _Seen | None = None
        self.items: _Seen | None = None
        self.open = False
        """Whether some of its keys found no place in the table."""

    @property
    def below(self) -> Iterator[_Seen]:
        yield from self.children.values()
        if self.any_key is not None:
            yield self.any_key
        if self.items is not None:
            yield self.items

    def size(self) -> int:
        """Count the paths below it, with the `*` that every object with fields may come to need."""
        reserved = bool(self.children) and self.any_key is None
        return reserved + sum(1 + node.size() for node in self.below)


class ContractLearner:
    """Merges what values look like. Its memory is bounded by 512 paths. Not safe for several threads at once.

    Args:
        topic: the destination.

    Example:
        learner = ContractLearner("orders")
        for value in values:
            learner.learn(value)
        contract = learner.contract()
    """

    __slots__ = ("_paths", "_root", "_topic", "learned")

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._root = _Seen()
        self._paths = 1
        self.learned = 0
        """Values that were learned from."""

    def learn(self, value: Any) -> None:
        """Take in a value. May raise what the methods of the value's own classes raise."""
        self._learn(self._root, value, 0)
        self._root.present += 1
        self.learned += 1

    @property
    def paths(self) -> int:
        """How many paths there are, with those that are kept in reserve."""
        return self._paths

    def half(self) -> None:
        """Note that half of the values were learned."""
        nodes = [self._root]
        for node in nodes:
            node.half = node.present, node.objects
            nodes += node.below

    def stopped(self) -> list[str]:
        """List the fields that were in all objects of the first half, and in none of the second."""
        return list(_stopped(self._root, ROOT))

    def contract(self) -> Contract:
        """Return what is agreed on by now. Its hash is of the core, so that both sides of a stream get the same one."""
        self._fold_all(self._root)
        fields: dict[str, Field] = {}
        core: dict[str, Field] = {}
        self._describe(self._root, ROOT, self.learned, fields, core)
        return Contract(self._topic, fields, core=core)

    def _learn(self, seen: _Seen, value: Any, depth: int) -> None:
        name = TYPE_OF.get(type(value))
        if name is None:
            name, value = reduced(value)
        seen.types[name] = seen.types.get(name, 0) + 1
        if depth == MAX_DEPTH:
            return
        if name == "object":
            seen.objects += 1
            children = seen.children
            for key, item in fields_of(value):
                child = children.get(key) or self._child(seen, key)
                if child is None:
                    continue
                child.present += 1
                plain = _PLAIN.get(type(item))
                if plain is None:
                    self._learn(child, item, depth + 1)
                else:  # Most values: in place, which costs half of a call.
                    types = child.types
                    types[plain] = types.get(plain, 0) + 1
        elif name == "array":
            seen.arrays += 1
            items = self._items(seen) if value else None
            if items is not None:
                items.present += 1
                for item in value[:MAX_ITEMS]:
                    self._learn(items, item, depth + 1)

    def _items(self, seen: _Seen) -> _Seen | None:
        if seen.items is None and self._paths < MAX_PATHS:
            seen.items = _Seen()
            self._paths += 1
        return seen.items

    def _child(self, seen: _Seen, key: Any) -> _Seen | None:
        """Find or make the place of a field whose key, as it is, has none yet; None where the table is full."""
        text = key_text(key)
        child = seen.children.get(text) or seen.any_key
        if child is not None:
            return child
        # Every object with fields keeps a path in reserve for its `*`.
        needed = 1 if seen.children else 2
        if self._paths + needed > MAX_PATHS:
            seen.open = True
            return None
        self._paths += needed
        child = seen.children[text] = _Seen()
        self._fold(seen)
        if len(text) > MAX_KEY_LETTERS and text in seen.children:
            self._fold_keys(seen, [text])
        return seen.children.get(text) or seen.any_key

    def _fold_all(self, seen: _Seen) -> None:
        for node in list(seen.below):
            self._fold_all(node)
        self._fold(seen)

    def _fold(self, seen: _Seen) -> None:
        """Replace keys that are data, many different ones of which most are rare, by `*`. The others stay named."""
        children = seen.children
        if len(children) <= MAX_NAMED or (seen.objects < FOLD_PARENTS and len(children) <= FOLD_KEYS):
            return
        rare = [key for key, child in children.items() if 2 * child.present < seen.objects]
        if len(rare) > MAX_NAMED:
            self._fold_keys(seen, rare)

    def _fold_keys(self, seen: _Seen, keys: list[str]) -> None:
        if seen.any_key is None:
            seen.any_key = _Seen()
        for key in keys:
            _merge(seen.any_key, seen.children.pop(key))
        self._paths = 1 + self._root.size()

    def _describe(
        self,
        seen: _Seen,
        path: str,
        parents: int,
        fields: dict[str, Field],
        core: dict[str, Field] | None,
    ) -> None:
        """Write down a path and those below it; `core` is None below a path that is not always there."""
        values = sum(seen.types.values())
        always = seen.present == parents >= REQUIRED_PARENTS or path == ROOT
        # A field met a few times only: what it has not been yet says nothing. Its types stay unknown.
        if values < KNOWN_VALUES and seen.present != parents:
            fields[path] = Field((), False)
            return
        fields[path] = Field(tuple(sorted(seen.types)), always and not path.endswith("[]"))
        if path != ROOT and not (parents >= REQUIRED_PARENTS and seen.present >= (1 - CORE_SHARE) * parents):
            core = None
        if core is not None:
            core[path] = Field(_common(seen.types, values), True)
        for key, child in seen.children.items():
            self._describe(child, child_path(path, key), seen.objects, fields, core)
        if seen.any_key is not None:
            # Never always there, whatever the sum of its keys.
            seen.any_key.present = min(seen.any_key.present, seen.objects - 1)
            self._describe(seen.any_key, any_path(path), seen.objects, fields, core)
        elif seen.open and seen.children:
            fields[any_path(path)] = Field((), False)
        if seen.items is not None:
            self._describe(seen.items, item_path(path), seen.arrays, fields, core)


def _stopped(seen: _Seen, path: str) -> Iterator[str]:
    before = seen.half[1]
    enough = before >= KNOWN_VALUES and seen.objects - before >= KNOWN_VALUES
    for key, child in seen.children.items():
        below = child_path(path, key)
        if enough and child.half[0] == before == child.present:
            yield below
        else:
            yield from _stopped(child, below)
    if seen.any_key is not None:
        yield from _stopped(seen.any_key, any_path(path))
    if seen.items is not None:
        yield from _stopped(seen.items, item_path(path))


def _common(types: dict[str, int], values: int) -> tuple[str, ...]:
    names = {name for name, count in types.items() if count >= CORE_SHARE * values}
    if "float" in names:
        names.discard("int")
    return tuple(sorted(names))


def _merge(into: _Seen, other: _Seen) -> None:
    for name, count in other.types.items():
        into.types[name] = into.types.get(name, 0) + count
    into.present += other.present
    into.objects += other.objects
    into.arrays += other.arrays
    into.half = into.half[0] + other.half[0], into.half[1] + other.half[1]
    into.open |= other.open
    for key, child in other.children.items():
        if into.any_key is not None and key not in into.children:
            _merge(into.any_key, child)
        else:
            _merge(into.children.setdefault(key, _Seen()), child)
    if other.any_key is not None:
        into.any_key = into.any_key or _Seen()
        _merge(into.any_key, other.any_key)
    if other.items is not None:
        into.items = into.items or _Seen()
        _merge(into.items, other.items)
