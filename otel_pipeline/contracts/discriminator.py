"""Finds the field that says which kind of message a value is: Debezium's `op`, a `type` that decides the keys."""

from __future__ import annotations

from typing import Any, TypeAlias

from otel_pipeline.contracts.paths import ROOT, child_path
from otel_pipeline.contracts.values import MAX_KEYS

MAX_KINDS = 20
DECIDED_AFTER = 100
"""Objects that are looked at."""
COMMON = 10
"""Objects of one kind, at least, that show what this kind has."""
SWITCHES = 10
"""Changes from one kind to another, at least. A version that was deployed meanwhile changes once: it is no kind."""
MAX_PATHS = 256
_MAX_CANDIDATES = 16
MAX_LETTERS = 64
_DEPTH = 3
_DEBEZIUM = frozenset({"before", "after", "op"})
_SCALARS = (str, int, bool)

Keys: TypeAlias = "tuple[str, ...]"
_Bits: TypeAlias = "dict[str, tuple[int, _Bits]]"
"""A bit for each field, and those of the fields below it."""


def at(value: Any, keys: Keys) -> Any:
    """Return what stands at these keys of plain dicts; None where nothing does."""
    for key in keys:
        if type(value) is not dict:
            return None
        value = value.get(key)
    return value


def is_kind(value: Any, cls: type) -> bool:
    """Tell whether a value can say a kind."""
    return type(value) is cls and not (isinstance(value, str) and len(value) > MAX_LETTERS)


def path_of(keys: Keys) -> str:
    """Write the keys as a path of a contract."""
    path = ROOT
    for key in keys:
        path = child_path(path, key)
    return path


class _Kind:
    """Which paths the objects of one kind have, as bits."""

    __slots__ = ("always", "count", "ever")

    def __init__(self) -> None:
        self.always = -1
        self.ever = 0
        self.count = 0


class _Candidate:
    """A field that may say the kind."""

    __slots__ = ("cls", "kinds", "last", "switches")

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.kinds: dict[Any, _Kind] = {}
        self.last: Any = None
        self.switches = 0

    def see(self, kind: Any, paths: int) -> bool:
        """Take in an object; False where the field says no kind."""
        if not is_kind(kind, self.cls):
            return False
        seen = self.kinds.get(kind)
        if seen is None:
            if len(self.kinds) == MAX_KINDS:
                return False
            seen = self.kinds[kind] = _Kind()
        seen.always &= paths
        seen.ever |= paths
        seen.count += 1
        self.switches += kind != self.last
        self.last = kind
        return True

    @property
    def decides(self) -> bool:
        """Whether a path is in all objects of one kind and in none of another."""
        common = [kind for kind in self.kinds.values() if kind.count >= COMMON]
        shown = sum(kind.count for kind in common)
        return (
            self.switches > SWITCHES
            and 2 * shown >= DECIDED_AFTER
            and any(one.always & ~other.ever for one in common for other in common)
        )

    @property
    def left_open(self) -> tuple[int, int]:
        """How many paths are optional all the same, over all kinds; and the number of kinds."""
        return sum((kind.ever & ~kind.always).bit_count() for kind in self.kinds.values()), len(self.kinds)


class DiscriminatorSearch:
    """Looks at the first objects of a stream. Its memory is bounded; not safe for several threads at once."""

    __slots__ = ("_bits", "_candidates", "_debezium", "_number", "_seen")

    def __init__(self) -> None:
        self._bits: _Bits = {}
        self._number = 0
        self._candidates: dict[Keys, _Candidate] | None = None
        self._debezium: Keys | None = None
        self._seen = 0

    @property
    def is_over(self) -> bool:
        """Whether further objects change nothing."""
        return self._seen >= DECIDED_AFTER or self._candidates == {}

    def see(self, value: dict[Any, Any]) -> None:
        """Take in an object."""
        if self._candidates is None:
            self._debezium = _of_debezium(value)
            self._candidates = _candidates(value)
        elif self._debezium is not None and _of_debezium(value) != self._debezium:
            self._debezium = None
        self._seen += 1
        paths = self._paths(value, self._bits, 1)
        for keys, candidate in tuple(self._candidates.items()):
            if not candidate.see(at(value, keys), paths):
                del self._candidates[keys]

    def found(self) -> tuple[Keys, type] | None:
        """Return where the field is that says the kind, and its class; None without one, or with too few objects."""
        candidates = self._candidates or {}
        if self._seen < DECIDED_AFTER:
            return None
        deciding = [keys for keys, candidate in candidates.items() if candidate.decides]
        keys = min(deciding, key=lambda keys: candidates[keys].left_open, default=None)
        if self._debezium in candidates:
            keys = self._debezium
        return None if keys is None else (keys, candidates[keys].cls)

    def _paths(self, value: dict[Any, Any], known: _Bits, depth: int) -> int:
        """Return the paths of an object that are there and not null, as bits."""
        found = 0
        for key, item in value.items():
            if item is None:
                continue
            here = known.get(key)
            if here is None:
                if self._number >= MAX_PATHS or type(key) is not str:
                    continue
                here = known[key] = (1 << self._number, {})
                self._number += 1
            found |= here[0]
            if type(item) is dict and depth < _DEPTH and len(item) <= MAX_KEYS:
                found |= self._paths(item, here[1], depth + 1)
        return found


def _of_debezium(value: dict[Any, Any]) -> Keys | None:
    """Return where the kind of a change event stands: below `payload` where the connector sends its schema as well."""
    for keys in ((), ("payload",)):
        inside = at(value, keys)
        if type(inside) is dict and inside.keys() >= _DEBEZIUM:
            return (*keys, "op")
    return None


def _candidates(value: dict[Any, Any]) -> dict[Keys, _Candidate]:
    found: dict[Keys, _Candidate] = {}
    for key, item in value.items():
        inside = item.items() if type(item) is dict else ()
        for keys, each in (((key,), item), *(((key, name), below) for name, below in inside)):
            if len(found) < _MAX_CANDIDATES and type(each) in _SCALARS and all(type(name) is str for name in keys):
                found[keys] = _Candidate(type(each))
    return found
