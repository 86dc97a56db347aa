"""Reads the mappings of named things, and finds what is no option, what is no value and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from otel_pipeline.config import environment as environments
from otel_pipeline.config.kinds import Kind, meant
from otel_pipeline.config.options import Mapped, Named, Row, Things
from otel_pipeline.config.yaml_file import Section

Say = Callable[[str, str, str, int], None]
"""(option, message, remedy, line)"""


class Leaf(NamedTuple):
    """One value, below its names: `("orders", "foreign", "local")`."""

    names: tuple[str, ...]
    value: Any
    line: int
    kind: Kind


def check(named: Named, value: Any, path: str, line: int, say: Say) -> None:
    """Report unknown options, and values where mappings belong."""
    if not isinstance(value, Section):
        if value is not None:
            say(path, "is no mapping", named.names.remedy, line)
        return
    if isinstance(named, Mapped):
        return
    for name, thing in value.values.items():
        if not isinstance(thing, Section):
            if thing is not None:
                say(f"{path}.{name}", "is no mapping", "indent its options below it", value.lines[name])
            continue
        for word, written in thing.values.items():
            row, place, at = named.rows.get(word), f"{path}.{name}.{word}", thing.lines[word]
            if row is None:
                say(place, "is no option", "remove it" + meant(word, named.rows), at)
            elif isinstance(row, Mapped):
                check(row, written, place, at, say)


def leaves(
    named: Named, section: Any, path: str, say: Say, own: Collection[str], names: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Yield all values that can be used; report the others. `own` are the environments that the file declares."""
    if not isinstance(section, Section):
        return
    for name, thing in section.values.items():
        place = f"{path}.{name}"
        doubt = _doubt(named, name, thing, own)
        if doubt is not None:
            say(place, *doubt, section.lines[name])
        if isinstance(named, Mapped):
            yield from _leaf(named.kind, thing, (*names, name), place, section.lines[name], say)
        elif isinstance(thing, Section):
            for row in named.rows.values():
                within, inner = (*names, name, row.name), f"{place}.{row.name}"
                written = thing.values.get(row.name)
                if isinstance(row, Mapped):
                    yield from leaves(row, written, inner, say, own, within)
                else:
                    yield from _leaf(row.kind, written, within, inner, thing.lines.get(row.name, 0), say)


def _doubt(named: Named, name: str, thing: Any, own: Collection[str]) -> tuple[str, str] | None:
    doubt = named.names.doubt
    if doubt != "environment":
        return None if doubt is None else doubt(name, thing)
    known = environments.near_miss(name, own)
    return ("is no environment that is known", f"did you mean {known!r}?") if known else None


def _leaf(kind: Kind, value: Any, names: tuple[str, ...], path: str, line: int, say: Say) -> Iterator[Leaf]:
    if value is None:
        return
    try:
        yield Leaf(names, kind.parse(value), line, kind)
    except ValueError as error:
        say(path, f"is {shown(kind.shown(value))}", str(error), line)


def shown(value: Any) -> str:
    """Write a bad value as part of a sentence."""
    return "a mapping" if isinstance(value, Section) else repr(value)[:80]


def complete(things: Things, section: Any, path: str, say: Say, names: Iterable[str] | None = None) -> set[str]:
    """Return the names of the things that say all that is needed; report what the others lack."""
    found = set()
    written = section.values if isinstance(section, Section) else {}
    for name in written if names is None else names:
        thing = Section(section.lines[name]) if written[name] is None else written[name]
        if isinstance(thing, Section) and _is_complete(things, thing, f"{path}.{name}", section.lines[name], say):
            found.add(name)
    return found


def _is_complete(things: Things, thing: Section, path: str, line: int, say: Say) -> bool:
    given = [name for name, value in thing.values.items() if value is not None]
    whole, one_of = True, things.option.one_of
    meant_ones = [name for name in one_of if name in given]
    for name in meant_ones[1:]:
        say(f"{path}.{name}", f"is there beside {meant_ones[0]}", "keep the one that is meant", thing.lines[name])
        whole = False
    if one_of and not meant_ones:
        say(path, "has " + " and ".join(f"no {name}" for name in one_of), "name the one that is meant", line)
        whole = False
    for row in _required(things):
        if row.name not in given:
            say(f"{path}.{row.name}", "is missing", _remedy(row.kind), line)
            whole = False
    return whole


def is_whole(things: Things, said: Mapping[str, Any]) -> bool:
    """Tell whether all that a thing needs could be used."""
    return all(row.name in said for row in _required(things)) and (
        not things.option.one_of or sum(name in said for name in things.option.one_of) == 1
    )


def _required(things: Things) -> list[Row]:
    return [row for row in things.rows.values() if row.required]


def _remedy(kind: Kind) -> str:
    """Return what would be right, in the kind's own words."""
    try:
        kind.parse(None)
    except ValueError as error:
        return str(error)
    return "give it"


def gathered(found: Iterable[Leaf]) -> dict[str, Any]:
    """Gather what is said of each thing: its value, or its values by option."""
    made: dict[str, Any] = {}
    for leaf in found:
        into = made
        for name in leaf.names[:-1]:
            into = into.setdefault(name, {})
        into[leaf.names[-1]] = leaf.value
    return made


def defaults(named: Named, names: Iterable[str]) -> Iterator[Leaf]:
    """Yield what holds where nothing is said, as line 0: for each thing, or for the name that stands for all others."""
    if isinstance(named, Mapped):
        return
    for name in names if named.names.others is None else (named.names.others,):
        for row in named.rows.values():
            if isinstance(row, Mapped):
                for key, held in row.option.default.items():
                    yield Leaf((name, row.name, key), row.kind.said(held), 0, row.kind)
            elif row.default is not None:
                yield Leaf((name, row.name), row.default, 0, row.kind)
