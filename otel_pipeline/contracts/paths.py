"""Paths of a contract: `customer.name`, `items[].sku`, `prices.*` (any key); `$` is the value itself."""

from __future__ import annotations

import re

ROOT = "$"
ANY_KEY = "*"
ITEM = "[]"
_SPECIAL = frozenset('.[]*\\"')
_EMPTY_KEY = '""'
_STEP = re.compile(r"\[\]|\.?((?:\\.|[^.\[\\])+)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class ContractError(ValueError):
    """What was read is not a contract; the message says where."""


def child_path(parent: str, key: str) -> str:
    """Return the path of a named field."""
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
    """Return the path of the fields whose keys are data."""
    return ANY_KEY if parent == ROOT else f"{parent}.{ANY_KEY}"


def item_path(parent: str) -> str:
    """Return the path of an array's items."""
    return ITEM if parent == ROOT else f"{parent}{ITEM}"


def steps(path: str) -> list[str]:
    """Split a path into its steps as they are written: `a.b[]` is a, b, [].

    Raises:
        ContractError: the text is not a path.
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
    """Return the key that a step stands for."""
    if step == _EMPTY_KEY:
        return ""
    return _ESCAPED.sub(r"\1", step) if "\\" in step else step
