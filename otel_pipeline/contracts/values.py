"""Tells which type a value has, in the eight words of a contract, and what its parts are."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

TYPES = ("array", "bool", "bytes", "float", "int", "null", "object", "str")
MAX_DEPTH = 6
MAX_ITEMS = 8
"""Items of an array that are looked at."""
MAX_KEYS = 1024
"""Fields of one object that are looked at."""
MAX_KEY_LETTERS = 128

TYPE_OF: dict[type, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    type(None): "null",
    bytes: "bytes",
    dict: "object",
    list: "array",
}
"""What JSON parsers make, by exact class: one look-up for nearly every value."""
# JSON has no form of their own for these; serializers write them as text.
_TEXT = (dt.date, dt.time, dt.timedelta, Decimal, UUID, PurePath)


def reduced(value: Any) -> tuple[str, Any]:
    """Return the type and the value, of any class, with an object as dict and an array as list, one level deep.

    Classes are asked, not instances: a mock has every attribute. May raise what the value's own methods raise.
    """
    cls = type(value)
    name = TYPE_OF.get(cls)
    if name is not None:
        return name, value
    for base, name in ((str, "str"), (int, "int"), (float, "float"), (dict, "object")):
        if issubclass(cls, base):
            return name, value
    if issubclass(cls, Enum):
        return reduced(value.value)
    for method in ("model_dump", "_asdict"):
        parts = getattr(cls, method, None)
        if callable(parts):
            fields = parts(value)
            return "object", fields if isinstance(fields, dict) else {}
    if hasattr(cls, "__dataclass_fields__"):
        # Not `dataclasses.asdict`, which copies everything below as well.
        return "object", {name: getattr(value, name) for name in cls.__dataclass_fields__ if hasattr(value, name)}
    return _other(cls, value)


def _other(cls: type, value: Any) -> tuple[str, Any]:
    if issubclass(cls, Mapping):
        return "object", dict(islice(value.items(), MAX_KEYS))
    if issubclass(cls, (list, tuple, AbstractSet, deque)):
        return "array", list(islice(value, MAX_ITEMS))
    if issubclass(cls, (bytes, bytearray, memoryview)):
        return "bytes", value
    if issubclass(cls, Integral):
        return "int", value
    if issubclass(cls, Real):
        return "float", value
    return ("str", value) if issubclass(cls, _TEXT) else ("object", {})


def key_text(key: Any) -> str:
    """Return a field's name as JSON writes it."""
    if isinstance(key, str):
        return str(key)
    if key is None:
        return "null"
    return str(key).lower() if isinstance(key, bool) else str(key)


def fields_of(value: dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """Return the fields of an object; of a huge one only the first."""
    return value.items() if len(value) <= MAX_KEYS else islice(value.items(), MAX_KEYS)
