"""Reads `otel_pipeline.yaml`: YAML 1.2 scalars, `${VAR}` and `${VAR:-default}`, every mistake with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MAX_NODES = 10_000
MAX_DEPTH = 20

Tell = Callable[[str, str, str], None]
"""(where, message, remedy)"""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-)?")


@dataclass
class Section:
    """A mapping of the file, each key with its line."""

    line: int
    values: dict[str, Any] = field(default_factory=dict)
    """Scalars, lists of scalars, or sections."""
    lines: dict[str, int] = field(default_factory=dict)

    def over(self, base: Section) -> Section:
        """Lay this section over another: mappings are merged by name, everything else replaces."""
        merged = Section(base.line, dict(base.values), dict(base.lines))
        for name, value in self.values.items():
            below = merged.values.get(name)
            both = isinstance(value, Section) and isinstance(below, Section)
            merged.values[name] = value.over(below) if both else value
            merged.lines[name] = self.lines[name]
        return merged


def read(path: Path, content: bytes, environ: Mapping[str, str], tell: Tell) -> Section | None:
    """Read a file's content as sections; None when nothing of it can be used. Never raises.

    What it costs is bounded whatever the content: by its size, which the caller bounds, and by the limits above.
    """
    import yaml

    reader = _Reader(path, environ, tell)
    try:
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            reader.take(event)
    except _RefusedError as error:
        tell(f"{path}:{error.line}", str(error), "name the right file, or write less into it")
        return None
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        tell(where, f"is no YAML: {getattr(error, 'problem', None) or error}", "mend the line")
        return None
    if isinstance(reader.root, Section) or reader.root is None:
        return reader.root or Section(1)
    tell(f"{path}:1", "is not a mapping at the top", "write `name: value` lines")
    return None


class _RefusedError(Exception):
    """What is more than a file of options needs."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Value(NamedTuple):
    """What has been read, with what it counts for where an alias repeats it."""

    value: Any
    nodes: int
    height: int
    """How deep it is: 0 for a scalar."""
    line: int


@dataclass
class _Open:
    """A mapping or list whose end has not come yet."""

    made: Section | list[Any]
    line: int
    anchor: str | None
    nodes_before: int
    height: int = 1
    key: _Value | None = None


class _Reader:
    """Makes sections of a parser's events, without recursion; gives up at the first that is too many or too deep."""

    def __init__(self, path: Path, environ: Mapping[str, str], tell: Tell) -> None:
        self._path = path
        self._environ = environ
        self._tell = tell
        self._nodes = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, _Value] = {}
        self.root: Any = None

    def take(self, event: Any) -> None:
        """Take the next event. Raises _RefusedError for what is beyond a limit, or cannot be meant."""
        kind, line = type(event).__name__, event.start_mark.line + 1
        if kind == "ScalarEvent":
            self._finish(_Value(self._scalar(event, line), 1, 0, line), event.anchor)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._count(1, 1, line)
            made: Section | list[Any] = Section(line) if kind == "MappingStartEvent" else []
            self._open.append(_Open(made, line, event.anchor, self._nodes - 1))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            ended = self._open.pop()
            self._finish(_Value(ended.made, self._nodes - ended.nodes_before, ended.height, ended.line), ended.anchor)
        elif kind == "AliasEvent":
            self._repeat(event.anchor, line)
        elif kind == "DocumentStartEvent" and self.root is not None:
            raise _RefusedError(line, "begins a second document")

    def _count(self, nodes: int, height: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _RefusedError(line, f"is beyond {MAX_NODES} values")
        if len(self._open) + height > MAX_DEPTH:
            raise _RefusedError(line, f"is nested more than {MAX_DEPTH} deep")

    def _repeat(self, anchor: str, line: int) -> None:
        meant = self._anchors.get(anchor)
        if meant is None:
            raise _RefusedError(line, f"repeats &{anchor}, which does not end before it")
        self._count(meant.nodes, meant.height, line)
        self._finish(meant._replace(line=line), None)

    def _finish(self, found: _Value, anchor: str | None) -> None:
        """Put a whole value where it belongs."""
        if anchor is not None:
            self._anchors[anchor] = found
        if not self._open:
            self.root = found.value
            return
        above = self._open[-1]
        above.height = max(above.height, found.height + 1)
        if isinstance(above.made, list):
            above.made.append(found.value)
        elif above.key is None:
            above.key = found
        else:
            key, above.key = above.key, None
            self._enter(above.made, key, found)

    def _enter(self, section: Section, key: _Value, found: _Value) -> None:
        name = key.value
        if not isinstance(name, str):
            message = "has something else than a word as a name"
            self._tell(f"{self._path}:{key.line}", message, "write `name: value` lines")
        elif name in section.values:
            first = section.lines[name]
            message = f"{name!r} is there twice, first in line {first}"
            self._tell(f"{self._path}:{key.line}", message, "keep one of them")
        else:
            section.values[name], section.lines[name] = found.value, key.line

    def _scalar(self, event: Any, line: int) -> Any:
        text = str(event.value)
        if self._open and isinstance(self._open[-1].made, Section) and self._open[-1].key is None:
            return text  # A name; what counts is its value.
        self._count(1, 0, line)
        filled = self._filled(text, line)
        return scalar(filled) if event.style is None else filled

    def _filled(self, text: str, line: int) -> str:
        """Fill in the variables, in one pass."""
        parts: list[str] = []
        at, last_end, wrong = 0, text.rfind("}"), ""
        while (sign := text.find("$", at)) >= 0:
            parts.append(text[at:sign])
            match = _NAME.match(text, sign)
            # From where on there is no end, none is looked for again: a text costs its length once.
            if match is not None and match.end() <= last_end and (match.group(2) or text[match.end()] == "}"):
                end = text.find("}", match.end())
                default = text[match.end() : end] if match.group(2) else None
                if "${" in (default or ""):
                    wrong = "has a ${ inside of another"
                parts.append(self._variable(match.group(1), default, line))
                at = end + 1
                continue
            if text.startswith("${", sign):
                wrong = "has a ${ that no } closes, or no name in it"
            parts.append("$")
            at = sign + (2 if text.startswith("$$", sign) else 1)
        if wrong:
            self._tell(f"{self._path}:{line}", wrong, "write ${NAME} or ${NAME:-a default}, $$ for a $")
        return "".join((*parts, text[at:]))

    def _variable(self, name: str, default: str | None, line: int) -> str:
        value = self._environ.get(name) or default
        if value is None:
            remedy = f"set {name}, or write ${{{name}:-a default}}"
            self._tell(f"{self._path}:{line}", f"${{{name}}} is not set", remedy)
        return value or ""


def scalar(text: str) -> Any:
    """Read a plain scalar by YAML 1.2's core schema: `off`, `no` and `1:30` are text."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if len(text) < 40:  # noqa: PLR2004 - a longer one is no number that anybody writes
        if _INTEGER.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
