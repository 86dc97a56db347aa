"""Compares two contracts: who can still read whom.

backward: a reader with the new contract reads values of the old one. forward: the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from otel_pipeline.contracts.checking import accepted_types
from otel_pipeline.contracts.paths import ANY_KEY, ITEM, ROOT, any_path, child_path, item_path, step_key, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otel_pipeline.contracts.checking import Field
    from otel_pipeline.contracts.contract import Contract

Verdict = Literal["full", "backward", "forward", "none"]


class Change(NamedTuple):
    """One difference between two contracts, and who can live with it."""

    path: str
    what: str
    """`added required`, `became optional`, `int -> float`, `named fields became *`, ..."""
    backward: bool
    forward: bool


def compare(old: Contract, new: Contract) -> list[Change]:
    """List what changed, by path. A field that came or went is named once, without what is below it."""
    before, after = _written_alike(old.fields), _written_alike(new.fields)
    changes = [
        *_came_and_went(before, after),
        *(change for path in before.keys() & after.keys() for change in _of_both(path, before[path], after[path])),
    ]
    return sorted(changes)


def verdict(changes: Iterable[Change]) -> Verdict:
    """Return what holds for all changes together."""
    listed = list(changes)
    backward = all(change.backward for change in listed)
    forward = all(change.forward for change in listed)
    if backward:
        return "full" if forward else "backward"
    return "forward" if forward else "none"


def apart(one: Contract, other: Contract) -> bool:
    """Tell whether two sides of a stream have other shapes: one has never met what nearly all values of the other have.

    What one side has met by chance is no difference. Text or bytes on one side are what a (de)serializer makes of the
    same value.
    """
    roots = [{*each.fields[ROOT].types} if ROOT in each.fields else set() for each in (one, other)]
    if roots[0].isdisjoint(roots[1]) and any(types & {"str", "bytes"} for types in roots):
        return False
    return _has_more(one, other) or _has_more(other, one)


def _has_more(one: Contract, other: Contract) -> bool:
    for path, field in one.core.items():
        met = other.fields.get(path)
        if met is None:
            if any_path(_parent(path)) not in other.fields:
                return True
        elif _is_known(field) and _is_known(met) and accepted_types(field.types).isdisjoint(accepted_types(met.types)):
            return True
    return False


def _is_known(field: Field) -> bool:
    """Tell whether a field's type is known, and so is judged."""
    return not {*field.types} <= {"null"}


def _written_alike(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Rewrite paths as this version writes them: a person may have escaped more in the file than is needed."""
    return {_path(steps(path)): field for path, field in fields.items()}


def _path(walked: list[str]) -> str:
    path = ROOT
    for step in walked:
        if step == ITEM:
            path = item_path(path)
        elif step == ANY_KEY:
            path = any_path(path)
        else:
            path = child_path(path, step_key(step))
    return path


def _parent(path: str) -> str:
    return _path(steps(path)[:-1])


def _came_and_went(before: Mapping[str, Field], after: Mapping[str, Field]) -> Iterator[Change]:
    gone, come = dict(_only_in(before, after)), dict(_only_in(after, before))
    folded, unfolded = _taken_by_any(gone, after), _taken_by_any(come, before)
    for parent, paths in folded.items():
        wide, narrow = _over([before[path] for path in paths], after[any_path(parent)])
        required = any(before[path].required for path in paths)
        yield Change(any_path(parent), "named fields became *", wide, narrow and not required)
    for parent, paths in unfolded.items():
        wide, narrow = _over([after[path] for path in paths], before[any_path(parent)])
        required = any(after[path].required for path in paths)
        yield Change(any_path(parent), "* became named fields", narrow and not required, wide)
    said = {path for paths in (*folded.values(), *unfolded.values()) for path in paths}
    said.update(any_path(parent) for parent in (*folded, *unfolded))
    for path, field in gone.items():
        if path not in said:
            yield Change(path, f"removed {_word(field)}", True, not field.required)
    for path, field in come.items():
        if path not in said:
            yield Change(path, f"added {_word(field)}", not field.required, True)


def _only_in(these: Mapping[str, Field], those: Mapping[str, Field]) -> Iterator[tuple[str, Field]]:
    """Yield fields whose parent is in both. An array's items are left out: where they are new, nothing was agreed."""
    for path in these.keys() - those.keys():
        if path != ROOT and (parent := _parent(path)) in those and path != item_path(parent):
            yield path, these[path]


def _taken_by_any(paths: Iterable[str], other: Mapping[str, Field]) -> dict[str, list[str]]:
    """Group, by parent, the named fields whose place the other contract gives to any key."""
    taken: dict[str, list[str]] = {}
    for path in paths:
        parent = _parent(path)
        if path != any_path(parent) and any_path(parent) in other:
            taken.setdefault(parent, []).append(path)
    return taken


def _over(named: Iterable[Field], any_key: Field) -> tuple[bool, bool]:
    """Tell whether `*` takes all that the named fields hold, and whether each of them takes all that `*` holds."""
    pairs = [_directions(field, any_key) for field in named]
    return all(wide for wide, _ in pairs), all(narrow for _, narrow in pairs)


def _of_both(path: str, old: Field, new: Field) -> Iterator[Change]:
    backward, forward = _directions(old, new)
    if old.types != new.types:
        yield Change(path, f"{_types(old)} -> {_types(new)}", backward, forward)
    if old.required != new.required:
        yield Change(path, f"became {_word(new)}", old.required, new.required)


def _directions(old: Field, new: Field) -> tuple[bool, bool]:
    """Tell whether the new types take all of the old, and the old all of the new. An unknown type is not judged."""
    if not (_is_known(old) and _is_known(new)):
        return True, True
    taken_before, taken_after = accepted_types(old.types), accepted_types(new.types)
    return taken_before <= taken_after, taken_after <= taken_before


def _word(field: Field) -> str:
    return "required" if field.required else "optional"


def _types(field: Field) -> str:
    return " or ".join(field.types) or "unknown"
