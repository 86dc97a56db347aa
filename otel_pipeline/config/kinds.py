"""The kinds of values that options have: how each is read and written, and what schema and pages call it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from otel_pipeline import duration
from otel_pipeline.config.credentials import without_credentials
from otel_pipeline.config.yaml_file import Section

if TYPE_CHECKING:
    from otel_pipeline.settings import KindName

HOOKS = ("send", "process", "inference")


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """A type of value."""

    name: str
    """What the pages call it."""
    parse: Callable[[Any], Any]
    """Returns the value; raises ValueError, saying what would be right."""
    schema: Mapping[str, Any]
    written: Callable[[Any], str] = str
    """Returns the value's text as the file has it."""
    held: Callable[[Any, Path], Any] = lambda value, _folder: value
    """Returns the value as the owner's field has it; paths begin at the folder."""
    shown: Callable[[Any], Any] = _same
    """Returns the value as it may be shown to anybody."""
    said: Callable[[Any], Any] = _same
    """Returns the value of what a field has: the way back from `held`, for defaults."""


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise ValueError("give a text")


def _rate(value: Any) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = -1
    if isinstance(value, bool) or not 0 <= rate <= 1:
        raise ValueError("give a number from 0 to 1")
    return rate


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("give true or false")


def _duration(value: Any) -> float:
    return duration.seconds(value if isinstance(value, str) else "")


def _number(value: Any) -> float:
    """Return a finite number; anything else becomes a number below zero, so that no limit lets it pass."""
    if isinstance(value, bool):
        return -1.0
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return -1.0
    return number if isfinite(number) else -1.0


def _share(value: Any) -> float:
    share = _number(value)
    if 0 < share < 1:
        return share
    raise ValueError("give a number above 0 and below 1, such as 0.99")


def _trace_rate(value: Any) -> float | str:
    rate = _number(value)
    if value == "unlimited" or rate >= 0:
        return "unlimited" if value == "unlimited" else rate
    raise ValueError("give a number of traces, such as 1, or unlimited")


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|MB|GB)?")
_UNITS = {None: 1, "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}
MIN_SIZE_BYTES = 1_000_000


def _size(value: Any) -> int:
    if value == "off" or value is False:
        return 0
    found = _SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    size = round(float(found[1]) * _UNITS[found[2]]) if found is not None else 0
    if size < MIN_SIZE_BYTES:
        raise ValueError("give a size of at least 1MB, such as 256MB, or off")
    return size


def _size_written(size: int) -> str:
    if not size:
        return "off"
    unit = next((unit for unit in ("GB", "MB", "kB") if size % _UNITS[unit] == 0), "B")
    return f"{size // _UNITS[unit]}{unit}"


def _state_file(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if text in ("auto", "off") or any(sign in text for sign in "/\\."):
        return text
    # A bare word is rather a slip than a file's name.
    raise ValueError("give auto, off or a path such as ./health.json" + meant(text, ("auto", "off")))


def _count(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("give a whole number above 0")


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes, Section)):
        names = tuple(value)
        if all(isinstance(name, str) and name for name in names):
            return names
    raise ValueError("give a list of names")


def _libraries(value: Any) -> tuple[str, ...] | str:
    return "auto" if value == "auto" else _names(value)


def _endpoint(value: Any) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as http://127.0.0.1:4318")
    return text


def _hooks(value: Any) -> Mapping[str, Callable[..., object]]:
    if isinstance(value, Mapping) and all(name in HOOKS and callable(hook) for name, hook in value.items()):
        return MappingProxyType(dict(value))
    unknown = [name for name in value if name not in HOOKS] if isinstance(value, Mapping) else []
    raise ValueError(
        f"give functions under the names {', '.join(HOOKS)}" + "".join(meant(name, HOOKS) for name in unknown)
    )


def _function(value: Any) -> Any:
    if callable(value):
        return value
    raise ValueError("give a function")


def _path(text: str, folder: Path) -> Path:
    try:
        return (folder / Path(text).expanduser()).absolute()
    except (OSError, RuntimeError):
        return folder / text  # No home, or a working folder that was deleted.


def _state_path(value: str, folder: Path) -> str | Path:
    return value if value in ("auto", "off") else _path(value, folder)


def choice(choices: tuple[str, ...]) -> Kind:
    """Make the kind of values that are one of these words."""

    def parse(value: Any) -> str:
        if value in choices:
            return str(value)
        raise ValueError(f"give one of {', '.join(choices)}" + meant(value, choices))

    return Kind(" \\| ".join(choices), parse, {"enum": list(choices)})


def _version(value: Any) -> int:
    if value in (1, "1") and value is not True:
        return 1
    raise ValueError("give 1, the only version there is")


TEXT = Kind("text", _text, {"type": ["string", "number"]})
DURATION = Kind(
    "duration",
    _duration,
    {"type": "string", "pattern": r"^(\$\{.*\}|[0-9]+(\.[0-9]+)?(ms|s|m|h|d))$"},
    duration.written,
)
IN_MS = replace(
    DURATION,
    held=lambda seconds, _folder: None if seconds is None else round(seconds * 1000),
    said=lambda held_ms: None if held_ms is None else held_ms / 1000,
)
"""The kind where the field is named for ms; a duration's value is in s."""
_NAMES = Kind("list of names", _names, {"type": ["array", "string"], "items": {"type": "string"}})
KINDS: Mapping[KindName, Kind] = {
    "boolean": Kind("boolean", _boolean, {"type": ["boolean", "string"]}),
    "count": Kind("whole number", _count, {"type": ["integer", "string"]}),
    "duration": DURATION,
    "function": Kind("function", _function, {}),
    "hooks": Kind("functions", _hooks, {}),
    "libraries": replace(_NAMES, name="auto \\| list of names", parse=_libraries),
    "names": _NAMES,
    "path": replace(TEXT, held=_path, said=str),
    "rate": Kind("number 0-1", _rate, {"type": ["number", "string"]}, "{:g}".format),
    "share": Kind("number between 0 and 1", _share, {"type": ["number", "string"]}, "{:g}".format),
    "size": Kind("size \\| off", _size, {"type": ["string", "integer"]}, _size_written),
    "state file": Kind("auto \\| off \\| path", _state_file, {"type": "string"}, held=_state_path, said=str),
    "text": TEXT,
    "trace rate": Kind(
        "number \\| unlimited",
        _trace_rate,
        {"type": ["number", "string"], "minimum": 0},
        lambda rate: rate if isinstance(rate, str) else f"{rate:g}",
        held=lambda rate, _folder: None if rate == "unlimited" else rate,
        said=lambda held: "unlimited" if held is None else held,
    ),
    "URL": Kind("URL", _endpoint, {"type": "string"}, shown=without_credentials),
    "version": Kind("1", _version, {"enum": [1]}),
}


def kind_of(declared: Any, field: str) -> Kind:
    """Return the kind that a declaration names, for a field of this name. Raises ValueError for an unknown one."""
    choices = get_args(declared)
    if choices:
        return choice(choices)
    kind = KINDS.get(declared)
    if kind is None:
        raise ValueError(f"{declared!r} is no kind of value; known are a Literal and {', '.join(KINDS)}")
    return IN_MS if kind is DURATION and field.endswith("_ms") else kind


def meant(value: object, known: Iterable[str]) -> str:
    """Ask whether the nearest known name was meant, as the end of a remedy; empty when none is near."""
    from difflib import get_close_matches  # Only where something is misspelt.

    close = get_close_matches(str(value), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
