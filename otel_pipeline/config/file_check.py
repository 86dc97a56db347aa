"""Mistakes in the file that reading its values does not find: unknown names, and those in other environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.config.environment import near_miss_of_key
from otel_pipeline.config.kinds import meant
from otel_pipeline.config.named import Say, check, complete, leaves, shown
from otel_pipeline.config.options import ENVIRONMENTS, Things
from otel_pipeline.config.yaml_file import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.config.options import Table


def overrides_of(section: Section) -> dict[str, Any]:
    """Return what the file says of environments, by name: sections, if the file is right."""
    found = section.values.get(ENVIRONMENTS)
    return found.values if isinstance(found, Section) else {}


def check_names(table: Table, section: Section, say: Say, prefix: str = "", *, overrides: bool = False) -> None:
    """Report unknown keys, and values where mappings belong."""
    for name, value in section.values.items():
        path, line = prefix + name, section.lines[name]
        row = table.rows.get(path)
        if path == ENVIRONMENTS and not overrides:
            _check_environments(table, value, line, say)
        elif path in table.groups:
            if isinstance(value, Section):
                check_names(table, value, say, path + ".", overrides=overrides)
            elif value is not None:
                say(path, "is no mapping", "indent its options below it", line)
        elif path in table.named:
            check(table.named[path], value, path, line, say)
        elif row is None or not row.option.in_file:
            say(path, "is no option", "remove it" + meant(path, _known(table)), line)
        elif overrides and not row.option.overridable:
            say(path, "cannot differ by environment", "say it at the top of the file", line)


def _known(table: Table) -> list[str]:
    single = [path for path, row in table.rows.items() if row.option.in_file]
    return [*single, *table.named, *table.groups, ENVIRONMENTS]


def _check_environments(table: Table, value: Any, line: int, say: Say) -> None:
    if not isinstance(value, Section):
        if value is not None:
            say(ENVIRONMENTS, "is no mapping", "name each environment", line)
        return
    for name, section in value.values.items():
        if isinstance(section, Section):
            check_names(table, section, say, overrides=True)
        elif section is not None:
            say(f"{ENVIRONMENTS}.{name}", "is no mapping", "indent its options", value.lines[name])


def check_other_environments(table: Table, top: Section, mine: str | None, say: Say) -> None:
    """Check the other environments' values: they are not used here, but a mistake is better found here than there."""
    declared = overrides_of(top)
    for name, section in declared.items():
        prefix = f"{ENVIRONMENTS}.{name}."
        likely = near_miss_of_key(name, declared, mine)
        if likely is not None:
            line = top.values[ENVIRONMENTS].lines[name]
            say(prefix[:-1], "is no environment that is known", f"did you mean {likely!r}?", line)
        if name == mine or not isinstance(section, Section):
            continue
        for path, written, line in _values(table, section):
            row = table.rows.get(path)
            if row is not None and written is not None:
                try:
                    row.kind.parse(written)
                except ValueError as error:
                    say(prefix + path, f"is {shown(row.kind.shown(written))}", str(error), line)
        for path, named in table.named.items():
            for _ in leaves(named, section.values.get(path), prefix + path, say, declared):
                pass
            changed = section.values.get(path)
            if isinstance(changed, Section) and isinstance(named, Things):
                complete(named, section.over(top).values[path], prefix + path, say, changed.values)


def _values(table: Table, section: Section, prefix: str = "") -> Iterator[tuple[str, Any, int]]:
    for name, value in section.values.items():
        if isinstance(value, Section) and prefix + name in table.groups:
            yield from _values(table, value, f"{prefix}{name}.")
        else:
            yield prefix + name, value, section.lines[name]
