"""Reads `otel_pipeline.yaml`: YAML 1.2 scalars, `${VAR}` and `${VAR:-default}`, every mistake with its line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_NAME = "otel_pipeline.yaml"
VARIABLE = "OTEL_PIPELINE_CONFIG_FILE"
MAX_BYTES = 1_000_000
MAX_NODES = 10_000
MAX_DEPTH = 20

Tell = Callable[[str, str, str], None]
"""(where, message, remedy)"""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")


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


def locate(argument: object, environ: Mapping[str, str], directory: Path | None, tell: Tell) -> Path | None:
    """Find the file to read: the argument's, the variable's, or the first beside the program or above it."""
    given, said = (str(argument), "config_file") if argument else (environ.get(VARIABLE, ""), VARIABLE)
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            tell(said, f"{path} is no file", "give the path of an otel_pipeline.yaml")
            return None
        return path
    for start in [directory] if directory is not None else _starts():
        try:
            for folder in (start, *start.parents):
                if (folder / FILE_NAME).is_file():
                    return folder / FILE_NAME
        except OSError:
            continue
    return None


def _starts() -> list[Path]:
    """Return the program's folder and the working folder."""
    starts = []
    try:
        program = program_file()
        if program is not None:
            starts.append(program.resolve().parent)
        starts.append(Path.cwd())
    except OSError:
        pass  # A working folder that was deleted.
    return starts


def program_file() -> Path | None:
    """Return the script that runs, or is about to run, as under `opentelemetry-instrument`."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main:
        return Path(main)
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word in ("-m", "-c"):
            return None
        if word in ("-W", "-X"):
            next(words, None)
        elif not word.startswith("-"):
            return Path(word)
    return None


def read(path: Path, environ: Mapping[str, str], tell: Tell) -> Section | None:
    """Read the file as sections; None when nothing of it can be used. Never raises."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        tell(str(path), f"cannot be read: {error.strerror or error}", "make it readable, or name another one")
        return None
    if len(raw) > MAX_BYTES:
        tell(str(path), f"is larger than {MAX_BYTES} bytes", "name the right file")
        return None
    return _Reader(path, environ, tell).read(raw)


class _Reader:
    def __init__(self, path: Path, environ: Mapping[str, str], tell: Tell) -> None:
        self._path = path
        self._environ = environ
        self._tell = tell
        self._nodes = 0

    def read(self, raw: bytes) -> Section | None:
        import yaml

        try:
            loader: Any = yaml.SafeLoader(raw)
            try:
                root = loader.get_single_node()
            finally:
                loader.dispose()
            if root is None:
                return Section(1)
            if not isinstance(root, yaml.MappingNode):
                self._say(root, "is not a mapping at the top", "write `name: value` lines")
                return None
            found = self._value(root, 0)
        except RecursionError:
            self._tell(str(self._path), "is nested too deeply", "name the right file")
            return None
        except Exception as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{self._path}:{mark.line + 1}" if mark is not None else str(self._path)
            self._tell(where, f"is no YAML: {getattr(error, 'problem', None) or error}", "mend the line")
            return None
        return found if isinstance(found, Section) else None

    def _value(self, node: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError("too many values or too deeply nested")
        kind = type(node).__name__
        if kind == "MappingNode":
            return self._section(node, depth)
        if kind == "SequenceNode":
            return [self._value(item, depth + 1) for item in node.value]
        return self._scalar(node)

    def _section(self, node: Any, depth: int) -> Section:
        section = Section(node.start_mark.line + 1)
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in section.values:
                first = section.lines[key]
                self._say(key_node, f"{key!r} is there twice, first in line {first}", "keep one of them")
                continue
            section.values[key] = self._value(value_node, depth + 1)
            section.lines[key] = key_node.start_mark.line + 1
        return section

    def _scalar(self, node: Any) -> Any:
        text = self._filled(node)
        return scalar(text) if node.style is None else text

    def _filled(self, node: Any) -> str:
        def fill(match: re.Match[str]) -> str:
            if match.group() == "$$":
                return "$"
            name, default = match.group(1), match.group(3)
            value = self._environ.get(name) or default
            if value is None:
                self._say(node, f"${{{name}}} is not set", f"set {name}, or write ${{{name}:-a default}}")
                return ""
            return value

        text = str(node.value)
        if "${" in _VARIABLE.sub("", text):
            self._say(
                node, "has a ${ that no } closes, or no name in it", "write ${NAME} or ${NAME:-a default}, $$ for a $"
            )
        return _VARIABLE.sub(fill, text)

    def _say(self, node: Any, message: str, remedy: str) -> None:
        self._tell(f"{self._path}:{node.start_mark.line + 1}", message, remedy)


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
