"""Configuration: all values, each with its source, handed to the owners of the options as their own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from otel_pipeline.config.options import IN_THINGS, Mapped
from otel_pipeline.config.patterns import said_of
from otel_pipeline.plain_text import printable
from otel_pipeline.settings import DESTINATIONS, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.config.environment import Environment
    from otel_pipeline.config.kinds import Kind
    from otel_pipeline.config.options import Row, Table, Things

T = TypeVar("T")
MAX_PART = 400
"""Characters of each part of a problem's sentence."""


@dataclass(frozen=True)
class Source:
    """Where a value came from."""

    kind: Literal["argument", "environment", "file", "environment default", "default"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}" if self.where else self.kind


@dataclass(frozen=True)
class Problem:
    """A mistake in the configuration, and what would be right."""

    option: str
    message: str
    remedy: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{_cut(self.where)}: " if self.where else ""
        option = f"{_cut(self.option)} " if self.option else ""
        return f"{place}{option}{_cut(self.message)}; {_cut(self.remedy)}"


def _cut(text: str) -> str:
    """Cut what a file can make as long as it likes, and spell out what would steer the terminal that it is said on."""
    text = printable(text)
    return text if len(text) <= MAX_PART else f"{text[:MAX_PART]}..."


class ConfigError(ValueError):
    """The configuration is wrong; `problems` has all mistakes at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Config:
    """All values, each with its source. Safe in any thread."""

    table: Table
    resolved: Environment
    values: Mapping[str, Any]
    """Values by full path, as the file would have them; times in s."""
    sources: Mapping[str, Source]
    """Sources by full path."""
    kinds: Mapping[str, Kind]
    """How each value is written, by full path."""
    things: Mapping[str, Mapping[str, Any]]
    """What the file says of named things, by path and name: a value, or the values by option."""
    file: Path | None = None
    problems: tuple[Problem, ...] = ()
    overridden: tuple[str, ...] = ()
    """What is said and is no mistake: where an argument in code and the deployment's variable disagree, a file that was
    found and is not read."""

    def of(self, owner: type[T], **others: Any) -> T:
        """Return the owner's settings, without what is said of destinations; `others` are fields that are no options.

        Raises:
            LookupError: the owner's options were not among those that were read.
        """
        return owner(**self._single(owner), **others)

    def destination(self, owner: type[T], name: str) -> T:
        """Return the owner's settings for this destination: what the most specific pattern that matches it says.

        To be asked once for each name, not for each message.

        Raises:
            LookupError: as `of`.
        """
        said = said_of(name, self.things[DESTINATIONS.path])
        return owner(**self._single(owner), **self._of_thing(owner, self.table.destinations, said))

    def source(self, owner: type, field: str) -> Source:
        """Return where the value of the owner's field came from."""
        return self.sources[dict(options(owner))[field].path]

    def _single(self, owner: type) -> dict[str, Any]:
        """Return the values of the options outside destinations and other named things, by the owner's field."""
        if owner not in self.table.owners:
            raise LookupError(f"the configuration was not read for {owner.__qualname__}")
        return {name: self._value(option.path) for name, option in options(owner) if IN_THINGS not in option.path}

    def _value(self, path: str) -> Any:
        row = self.table.rows.get(path)
        if row is not None:
            return self._held(row, self.values[path])
        named, said = self.table.named[path], self.things[path]
        if isinstance(named, Mapped):
            return self._held(named, said)
        made: Any = named.option.each
        return tuple(made(name=name, **self._of_thing(made, named, each)) for name, each in said.items())

    def _of_thing(self, owner: type, things: Things, said: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is said of one named thing, by the owner's field; what is left out has the field's default."""
        held = {}
        for name, option in options(owner):
            path, _, below = option.path.partition(IN_THINGS)
            if path == things.name and below in said:
                held[name] = self._held(things.rows[below], said[below])
        return held

    def _held(self, row: Row, value: Any) -> Any:
        """Return a value, or a mapping of values, as the owner's field has it."""
        folder = self.file.parent if self.file is not None else Path()
        if not isinstance(row, Mapped):
            return row.kind.held(value, folder)
        held = {name: row.kind.held(each, folder) for name, each in value.items()}
        return MappingProxyType({**row.option.default, **held})
