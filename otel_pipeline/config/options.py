"""The table of options, made from the settings classes of their owners. Everything else is made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_pipeline.config.kinds import Kind, kind_of
from otel_pipeline.settings import DESTINATIONS, PATTERNS, REQUIRED, Names, Option, options

if TYPE_CHECKING:
    from collections.abc import Iterable

ENVIRONMENTS = "environments"
"""The mapping in which the file says what differs, by name of the environment."""
IN_THINGS = ".*."
"""What stands between the path of a mapping of named things and an option of each thing."""
_PATH = re.compile(r"[a-z]\w*(\.(\*\.)?[a-z]\w*)?")


@dataclass(frozen=True)
class Row:
    """One option that has one value."""

    name: str
    """Its path; in a mapping of named things, the part behind the thing's name."""
    option: Option
    kind: Kind

    @property
    def required(self) -> bool:
        """Whether a named thing is nothing without it."""
        return self.option.default is REQUIRED

    @property
    def default(self) -> Any:
        """As the file would say it; None without one."""
        return None if self.required else self.kind.said(self.option.default)


@dataclass(frozen=True)
class Mapped(Row):
    """A mapping to values, whose keys the user chooses."""

    names: Names


@dataclass(frozen=True)
class Things:
    """A mapping to things with options, whose names the user chooses."""

    name: str
    """Its path."""
    option: Option
    names: Names
    rows: dict[str, Row] = field(default_factory=dict)
    """The options of each thing."""


Named: TypeAlias = Mapped | Things
"""A mapping of named things, so that an environment can override one of them by its name."""


class Table:
    """All options.

    Args:
        owners: the settings classes.

    Raises:
        ValueError: what one of them declares does not fit, or has been declared already.
    """

    def __init__(self, owners: Iterable[type]) -> None:
        self.owners = tuple(owners)
        self.rows: dict[str, Row] = {}
        self.destinations = Things(DESTINATIONS.path, DESTINATIONS, PATTERNS)
        self.named: dict[str, Named] = {DESTINATIONS.path: self.destinations}
        self._declared = {DESTINATIONS.path, ENVIRONMENTS}
        for owner in self.owners:
            for name, option in options(owner):
                self._add(owner, name, option)
        # Single values before groups, each group in one piece, else in the order of the declarations.
        groups = list(dict.fromkeys(_group(path) for path in sorted(self.rows, key=lambda path: "." in path)))
        self.rows = dict(sorted(self.rows.items(), key=lambda item: groups.index(_group(item[0]))))
        self.groups = frozenset(groups) - {""}
        for path in self.groups & {*self.rows, *self.named}:
            raise ValueError(f"{path} is declared as an option and as a group of options")

    def check(self) -> None:
        """Raise ValueError where a default is none of the values that its option may have."""
        rows = list(self.rows.values())
        for named in self.named.values():
            rows += named.rows.values() if isinstance(named, Things) else [named]
        for row in rows:
            for held in (row.option.default, *row.option.per_environment.values()):
                for each in held.values() if isinstance(row, Mapped) else [held]:
                    _check(row, each)

    def _add(self, owner: type, name: str, option: Option) -> None:
        if option.path in self._declared:
            raise ValueError(f"{owner.__qualname__} declares {option.path}, which is declared already")
        if _PATH.fullmatch(option.path) is None:
            raise ValueError(f"{owner.__qualname__} declares {option.path}: write name, group.name or things.*.name")
        self._declared.add(option.path)
        path, _, below = option.path.partition(IN_THINGS)
        if option.each is not None and option.names is not None:
            self.named[path] = Things(path, option, option.names)
            for inner, each in options(option.each):
                self._add(option.each, inner, each)
        elif not below:
            row = _row(path, option, name)
            if isinstance(row, Mapped):
                self.named[path] = row
            else:
                self.rows[path] = row
        else:
            things = self.named.get(path)
            if not isinstance(things, Things):
                raise ValueError(f"{owner.__qualname__} declares {option.path}: {path} is no mapping of named things")
            things.rows[below] = _row(below, option, name)


def _check(row: Row, held: Any) -> None:
    said = None if held is REQUIRED else row.kind.said(held)
    # A duration is read as text alone; what has no text of its own is read as it is.
    texts = {said, row.kind.written(said)} if isinstance(said, float) else [said]
    if said is not None and not any(_reads(row.kind, text, said) for text in texts):
        raise ValueError(f"{row.option.path} has the default {held!r}, which is no {row.kind.name}")


def _reads(kind: Kind, text: Any, value: Any) -> bool:
    try:
        return bool(kind.parse(text) == value)
    except ValueError:
        return False


def _row(name: str, option: Option, field: str) -> Row:
    kind = kind_of(option.kind, field)
    return Row(name, option, kind) if option.names is None else Mapped(name, option, kind, option.names)


def _group(path: str) -> str:
    return path.partition(".")[0] if "." in path else ""
