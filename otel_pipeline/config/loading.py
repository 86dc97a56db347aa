"""One reading of all sources of the configuration.

Precedence: safety switches > arguments > `OTEL_*` and `OTEL_PIPELINE_*` variables > file > the environment's defaults >
defaults. Each value knows its source.
"""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from otel_pipeline.config import environment as environments
from otel_pipeline.config.config import Config, ConfigError, Problem, Source
from otel_pipeline.config.file_check import check_names, check_other_environments, overrides_of
from otel_pipeline.config.general import ENVIRONMENT, GeneralSettings
from otel_pipeline.config.location import find
from otel_pipeline.config.named import complete, defaults, gathered, is_whole, leaves, shown
from otel_pipeline.config.options import Table, Things
from otel_pipeline.config.variables import PREFIX, mistakes
from otel_pipeline.config.yaml_file import Section, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from otel_pipeline.config.environment import Environment, Surroundings
    from otel_pipeline.config.kinds import Kind
    from otel_pipeline.config.options import Named, Row
    from otel_pipeline.settings import Doubt

_LABELS = "OTEL_RESOURCE_ATTRIBUTES"
MAX_PROBLEMS = 100
"""That are said of one configuration, and names of one list that are looked up."""


def load(
    arguments: Mapping[str, object],
    owners: Iterable[type],
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    around: Surroundings | None = None,
    raises: bool = True,
) -> Config:
    """Read everything. Without `raises`, or where it is not strict, mistakes are collected as problems.

    Args:
        arguments: values given in code, by keyword of `instrument()`; `config_file` names the file.
        owners: the settings classes that declare the options; those of the configuration itself are added.
        environ: the environment variables.
        directory: where to look for the file, upwards; otherwise beside the program and in the working folder.
        around: what the environment is found from.
        raises: whether mistakes may be raised at all.

    Raises:
        ConfigError: all mistakes at once, where `strict` holds.
        ValueError: two owners declare the same option.
    """
    config = _Loading(table_of(owners), arguments, os.environ if environ is None else environ, directory, around).load()
    if config.problems and raises and config.of(GeneralSettings).strict:
        raise ConfigError(config.problems)
    return config


def table_of(owners: Iterable[type]) -> Table:
    """Return the table of the owners' options and the configuration's own. Raises ValueError where they do not fit."""
    return Table((GeneralSettings, *owners))


class _Loading:
    """One reading of all sources."""

    def __init__(
        self,
        table: Table,
        arguments: Mapping[str, object],
        environ: Mapping[str, str],
        directory: Path | None,
        around: Surroundings | None,
    ) -> None:
        self._table = table
        self._arguments = arguments
        self._environ = environ
        self._directory = directory
        self._around = around or environments.surroundings(environ)
        self._problems: list[Problem] = []
        self._overridden: list[str] = []
        self._values: dict[str, Any] = {}
        self._sources: dict[str, Source] = {}
        self._kinds: dict[str, Kind] = {}
        self._things: dict[str, dict[str, Any]] = {}
        self._file: Path | None = None
        self._top = Section(1)

    def load(self) -> Config:
        found = find(
            self._arguments.get("config_file"), self._environ, self._directory, self._tell, self._overridden.append
        )
        if found is not None:
            self._file = found.path
            self._top = read(*found, self._environ, self._tell) or self._top
            check_names(self._table, self._top, self._say)
        resolved = self._environment()
        mine = overrides_of(self._top).get(resolved.name or "")
        section = mine.over(self._top) if isinstance(mine, Section) else self._top
        for row in self._table.rows.values():
            self._settle(row, section, resolved)
        self._values[ENVIRONMENT], self._sources[ENVIRONMENT] = resolved.name, _source_of(resolved)
        for named in self._table.named.values():
            self._settle_named(named, section)
        check_other_environments(self._table, self._top, resolved.name, self._say)
        self._problems += (Problem(*mistake) for mistake in mistakes(self._table, self._environ))
        return Config(
            table=self._table,
            resolved=resolved,
            values=MappingProxyType(self._values),
            sources=MappingProxyType(self._sources),
            kinds=MappingProxyType(self._kinds),
            things=MappingProxyType(self._things),
            file=self._file,
            problems=_not_too_many(self._problems),
            overridden=tuple(self._overridden),
        )

    def _tell(self, where: str, message: str, remedy: str) -> None:
        self._problems.append(Problem("", message, remedy, where))

    def _say(self, option: str, message: str, remedy: str, line: int) -> None:
        self._problems.append(Problem(option, message, remedy, f"{self._file}:{line}"))

    def _environment(self) -> Environment:
        written = self._top.values.get(ENVIRONMENT)
        given = self._arguments.get(ENVIRONMENT)
        argument = given if isinstance(given, str) else None
        resolved = environments.resolve(argument, written if isinstance(written, str) else None, self._around)
        if resolved.name and resolved.source != "detected":
            meant = environments.near_miss(resolved.name, overrides_of(self._top))
            if meant is not None:
                remedy = f"did you mean {meant!r}? If the name is your own, put it below `environments:` in the file"
                self._problems.append(Problem(ENVIRONMENT, f"is {resolved.name!r}", remedy, resolved.reason))
        return resolved

    def _settle(self, row: Row, section: Section, resolved: Environment) -> None:
        path, option = row.name, row.option
        self._kinds[path] = row.kind
        candidates = list(self._candidates(row, section))
        if option.adds_up:
            self._values[path] = tuple(dict.fromkeys(name for value, _ in candidates for name in value))
            self._sources[path] = candidates[0][1] if candidates else Source("default")
        elif candidates:
            self._values[path], self._sources[path] = candidates[0]
            self._note_override(path, candidates, row.kind)
        elif resolved.name is not None and resolved.name in option.per_environment:
            self._values[path] = row.kind.said(option.per_environment[resolved.name])
            self._sources[path] = Source("environment default", resolved.name)
        else:
            self._values[path], self._sources[path] = row.default, Source("default")

    def _candidates(self, row: Row, section: Section) -> Iterable[tuple[Any, Source]]:
        option = row.option
        given = self._arguments.get(option.argument) if option.argument else None
        if given is not None:
            value = self._parsed(row, given, "argument of instrument()")
            if value is not None:
                yield value, Source("argument", option.argument or "")
        found, name = self._variable(row)
        if found is not None:
            elsewhere = option.variable is not None and option.variable.is_read_elsewhere
            value = None if elsewhere else self._parsed(row, found, name)
            if elsewhere or value is not None:
                yield value, Source("environment", name)
        written, line = _lookup(section, row.name)
        if written is not None and option.in_file:
            where = f"{self._file}:{line}"
            value = self._parsed(row, written, where)
            if value is not None:
                yield value, Source("file", where)

    def _variable(self, row: Row) -> tuple[str | None, str]:
        """Return what the variables say of an option, and which of them says it."""
        variable = row.option.variable
        if variable is None or row.name == ENVIRONMENT:
            return None, ""
        text = self._environ.get(variable.name, "").strip() if variable.name != _LABELS else ""
        if text:
            return text + variable.unit, variable.name
        labelled = _label(self._environ.get(_LABELS, ""), variable.label) if variable.label else None
        return labelled, _LABELS

    def _parsed(self, row: Row, value: Any, where: str) -> Any:
        """Return the value as its kind has it, or None for a bad one, which is reported."""
        try:
            parsed = row.kind.parse(value)
        except ValueError as error:
            self._problems.append(Problem(row.name, f"is {shown(row.kind.shown(value))}", str(error), where))
            return None
        doubt = row.option.doubt
        if doubt is None or not isinstance(parsed, tuple) or not parsed:
            return parsed
        asked, rest = parsed[:MAX_PROBLEMS], parsed[MAX_PROBLEMS:]
        return (*(name for name in asked if not self._is_doubtful(row, name, doubt(name), where)), *rest) or None

    def _is_doubtful(self, row: Row, name: str, doubt: Doubt | None, where: str) -> bool:
        # A variable that is not ours lists names for others as well: there only a slip is one for certain.
        if doubt is None or (where.startswith("OTEL_") and not where.startswith(PREFIX) and not doubt.is_near):
            return False
        self._problems.append(Problem(row.name, f"names {name!r}, which {doubt.message}", doubt.remedy, where))
        return True

    def _note_override(self, path: str, candidates: list[tuple[Any, Source]], kind: Kind) -> None:
        first, rest = candidates[0], candidates[1:]
        other = next((found for found in rest if found[1].kind == "environment"), None)
        if first[1].kind == "argument" and other is not None and other[0] != first[0]:
            self._overridden.append(
                f"{path}: instrument() says {kind.shown(first[0])!r}, {other[1].where} says "
                f"{kind.shown(self._environ.get(other[1].where))!r}; the argument is used"
            )

    def _settle_named(self, named: Named, section: Section) -> None:
        below = section.values.get(named.name)
        found = list(leaves(named, below, named.name, self._say, overrides_of(self._top)))
        if isinstance(named, Things) and named.option.each is not None:
            whole = complete(named, below, named.name, self._say)
            # A required value that is there and bad has been said already.
            whole &= {name for name, said in gathered(found).items() if is_whole(named, said)}
            found = [leaf for leaf in found if leaf.names[0] in whole]
        self._things[named.name] = things = gathered(found)
        said = {leaf.names for leaf in found}
        found += [leaf for leaf in defaults(named, things) if leaf.names not in said]
        order = {name: at for at, name in enumerate(dict.fromkeys(leaf.names[0] for leaf in found))}
        for leaf in sorted(found, key=lambda leaf: order[leaf.names[0]]):
            path = ".".join((named.name, *leaf.names))
            source = Source("file", f"{self._file}:{leaf.line}") if leaf.line else Source("default")
            self._values[path], self._sources[path], self._kinds[path] = leaf.value, source, leaf.kind
        if not found:
            self._values[named.name], self._sources[named.name] = {}, Source("default")


def _not_too_many(problems: list[Problem]) -> tuple[Problem, ...]:
    """Keep the first ones: each is said when a program starts, and a file with thousands of them is the wrong one."""
    if len(problems) <= MAX_PROBLEMS:
        return tuple(problems)
    left = f"{len(problems) - MAX_PROBLEMS} more mistakes"
    return (*problems[:MAX_PROBLEMS], Problem("", left, "mend those first, or name the right file"))


def _source_of(resolved: Environment) -> Source:
    kinds: dict[str, Literal["argument", "environment", "file"]] = {
        "argument": "argument",
        "environment": "environment",
        "file": "file",
    }
    kind = kinds.get(resolved.source)
    return Source(kind, resolved.reason) if kind else Source("default", resolved.reason)


def _lookup(section: Section, path: str) -> tuple[Any, int]:
    value: Any = section
    line = section.line
    for name in path.split("."):
        if not isinstance(value, Section) or name not in value.values:
            return None, line
        line = value.lines[name]
        value = value.values[name]
    return value, line


def _label(text: str, name: str) -> str | None:
    """Return the value of an attribute in `OTEL_RESOURCE_ATTRIBUTES`."""
    for pair in text.split(","):
        key, _, value = pair.partition("=")
        if key.strip() == name and value.strip():
            return unquote(value.strip())
    return None
