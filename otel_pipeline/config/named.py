"""Reading the mappings of named things: what is no option, what is no value, what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from otel_pipeline.config.kinds import DURATION, Kind, meant
from otel_pipeline.config.options import OBJECTIVE, Named, Option
from otel_pipeline.config.yaml_file import Section

Say = Callable[[str, str, str, int], None]
"""(option, message, remedy, line)"""


class Leaf(NamedTuple):
    """One value, below its names: `("orders", "foreign", "local")`."""

    names: tuple[str, ...]
    value: Any
    line: int
    kind: Kind


def field_of(option: str, kind: Kind) -> str:
    """An option's name with the unit of its value."""
    return f"{option}_s" if kind is DURATION else option


def check(named: Named, value: Any, path: str, line: int, say: Say) -> None:
    """Unknown options, and values where mappings belong."""
    if not isinstance(value, Section):
        if value is not None:
            say(path, "is no mapping", named.remedy, line)
        return
    if isinstance(named.each, Kind):
        return
    known = {option.path: option for option in named.each}
    for name, thing in value.values.items():
        if not isinstance(thing, Section):
            if thing is not None:
                say(f"{path}.{name}", "is no mapping", "indent its options below it", value.lines[name])
            continue
        for word, written in thing.values.items():
            option, place, at = known.get(word), f"{path}.{name}.{word}", thing.lines[word]
            if option is None:
                say(place, "is no option", "remove it" + meant(word, known), at)
            elif isinstance(option, Named):
                check(option, written, place, at, say)


def leaves(named: Named, section: Any, path: str, say: Say, names: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """All values that can be used; the others are said."""
    if not isinstance(section, Section):
        return
    for name, thing in section.values.items():
        place = f"{path}.{name}"
        doubt = named.doubt(name, thing)
        if doubt is not None:
            say(place, *doubt, section.lines[name])
        if isinstance(named.each, Kind):
            yield from _leaf(named.each, thing, (*names, name), place, section.lines[name], say)
        elif isinstance(thing, Section):
            for option in named.each:
                within, inner = (*names, name, option.path), f"{place}.{option.path}"
                written = thing.values.get(option.path)
                if isinstance(option, Named):
                    yield from leaves(option, written, inner, say, within)
                else:
                    yield from _leaf(option.kind, written, within, inner, thing.lines.get(option.path, 0), say)


def _leaf(kind: Kind, value: Any, names: tuple[str, ...], path: str, line: int, say: Say) -> Iterator[Leaf]:
    if value is None:
        return
    try:
        yield Leaf(names, kind.parse(value), line, kind)
    except ValueError as error:
        say(path, f"is {shown(value)}", str(error), line)


def shown(value: Any) -> str:
    """A bad value, in a sentence."""
    return "a mapping" if isinstance(value, Section) else repr(value)[:80]


def complete(section: Any, path: str, say: Say, names: Iterable[str] | None = None) -> set[str]:
    """The objectives that say all that is needed; what the others lack is said."""
    found = set()
    things = section.values if isinstance(section, Section) else {}
    for name in things if names is None else names:
        thing = Section(section.lines[name]) if things[name] is None else things[name]
        if isinstance(thing, Section) and _is_complete(thing, f"{path}.{name}", section.lines[name], say):
            found.add(name)
    return found


def _is_complete(thing: Section, path: str, line: int, say: Say) -> bool:
    given = {name for name, value in thing.values.items() if value is not None}
    whole = True
    if {"destination", "model"} <= given:
        say(f"{path}.model", "is there beside destination", "keep the one that is meant", thing.lines["model"])
        whole = False
    elif given.isdisjoint(("destination", "model")):
        say(path, "has no destination and no model", "name the one that is meant", line)
        whole = False
    for option in OBJECTIVE:
        if option.required and option.path not in given:
            say(f"{path}.{option.path}", "is missing", _remedy(option), line)
            whole = False
    return whole


def _remedy(option: Option) -> str:
    """What would be right, in the kind's own words."""
    try:
        option.kind.parse(None)
    except ValueError as error:
        return str(error)
    return "give it"


def gathered(found: Iterable[Leaf]) -> dict[str, Any]:
    """What is said of each thing: its value, or its options by field, with the unit in the field's name."""
    made: dict[str, Any] = {}
    for leaf in found:
        into, names = made, list(leaf.names)
        if len(names) == 2:  # noqa: PLR2004 - a thing and its option
            names[1] = field_of(names[1], leaf.kind)
        for name in names[:-1]:
            into = into.setdefault(name, {})
        into[names[-1]] = leaf.value
    return made


def defaults(named: Named, things: Iterable[str]) -> Iterator[Leaf]:
    """What holds where nothing is said, in line 0: of each objective, and of destinations for "*"."""
    for name in ("*",) if named.path == "destinations" else things:
        for option in named.each if not isinstance(named.each, Kind) else ():
            names = (name, option.path)
            if isinstance(option, Option):
                if option.default is not None:
                    yield Leaf(names, option.default, 0, option.kind)
            elif isinstance(option.each, Kind):
                for key, value in option.default.items():
                    yield Leaf((*names, key), value, 0, option.each)
