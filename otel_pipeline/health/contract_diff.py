"""Compares two contracts: who can still read whom.

backward: readers of the new contract read values of the old one. forward: readers of the old one read values of the new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from otel_pipeline.health.contract_check import accepted_types
from otel_pipeline.health.contract_paths import ITEM, ROOT, any_path, child_path, item_path, step_key, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otel_pipeline.health.contract import Contract, Field

Verdict = Literal["full", "backward", "forward", "none"]


class Change(NamedTuple):
    """One difference between two contracts, and who can live with it."""

    path: str
    what: str
    """`added required`, `became optional`, `int -> float`, `named fields became *`, ..."""
    backward: bool
    forward: bool


def compare(old: Contract, new: Contract) -> list[Change]:
    """What changed, by path. A field that came or went is named once, without what is below it."""
    before, after = _written_alike(old.fields), _written_alike(new.fields)
    changes = [
        *_came_and_went(before, after),
        *(change for path in before.keys() & after.keys() for change in _of_both(path, before[path], after[path])),
    ]
    return sorted(changes)


def verdict(changes: Iterable[Change]) -> Verdict:
    """What holds over all changes."""
    listed = list(changes)
    backward = all(change.backward for change in listed)
    forward = all(change.forward for change in listed)
    if backward:
        return "full" if forward else "backward"
    return "forward" if forward else "none"


def _written_alike(fields: Mapping[str, Field]) -> dict[str, Field]:
    """By the path as this version writes it: a person may have escaped more in the file than is needed."""
    return {_path(steps(path)): field for path, field in fields.items()}


def _path(walked: list[str]) -> str:
    path = ROOT
    for step in walked:
        if step == ITEM:
            path = item_path(path)
        else:
            path = any_path(path) if step == "*" else child_path(path, step_key(step))
    return path


def _parent(path: str) -> str:
    return _path(steps(path)[:-1])


def _came_and_went(before: Mapping[str, Field], after: Mapping[str, Field]) -> Iterator[Change]:
    folded: dict[str, list[Field]] = {}
    unfolded: dict[str, list[Field]] = {}
    for path in before.keys() - after.keys():
        parent = _parent(path)
        # An array's items come and go with what it held: nothing was agreed on before.
        if path == ROOT or parent not in after or path == item_path(parent):
            continue
        if any_path(parent) in after:
            folded.setdefault(parent, []).append(before[path])
        else:
            yield Change(path, f"removed {_word(before[path])}", True, not before[path].required)
    for path in after.keys() - before.keys():
        parent = _parent(path)
        if path == ROOT or parent not in before or path == item_path(parent):
            continue
        if any_path(parent) in before:
            unfolded.setdefault(parent, []).append(after[path])
        elif parent not in folded or path != any_path(parent):
            yield Change(path, f"added {_word(after[path])}", not after[path].required, True)
    for parent, fields in folded.items():
        path = any_path(parent)
        wide, narrow = _over(fields, after[path])
        yield Change(path, "named fields became *", wide, narrow and not any(field.required for field in fields))
    for parent, fields in unfolded.items():
        path = any_path(parent)
        wide, narrow = _over(fields, before[path])
        yield Change(path, "* became named fields", narrow and not any(field.required for field in fields), wide)


def _over(named: Iterable[Field], any_key: Field) -> tuple[bool, bool]:
    """Whether `*` takes all that the named fields hold, and each of them all that `*` holds."""
    pairs = [_directions(field, any_key) for field in named]
    return all(wide for wide, _ in pairs), all(narrow for _, narrow in pairs)


def _of_both(path: str, old: Field, new: Field) -> Iterator[Change]:
    backward, forward = _directions(old, new)
    if old.types != new.types:
        yield Change(path, f"{_types(old)} -> {_types(new)}", backward, forward)
    if old.required != new.required:
        yield Change(path, f"became {_word(new)}", old.required, new.required)


def _directions(old: Field, new: Field) -> tuple[bool, bool]:
    """Whether the new types take all of the old, and the old all of the new. A type not known is not judged."""
    if {*old.types} <= {"null"} or {*new.types} <= {"null"}:
        return True, True
    taken_before, taken_after = accepted_types(old.types), accepted_types(new.types)
    return taken_before <= taken_after, taken_after <= taken_before


def _word(field: Field) -> str:
    return "required" if field.required else "optional"


def _types(field: Field) -> str:
    return " or ".join(field.types) or "unknown"
