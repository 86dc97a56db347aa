"""The kinds of values that options have: how each is read, and how the schema and the pages call it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from otel_pipeline.configuration_file import Section

HOOKS = ("send", "process", "inference")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


@dataclass(frozen=True)
class Kind:
    """A type of value: how it is read, and how the schema and the pages call it."""

    name: str
    parse: Callable[[Any], Any]
    """Raises ValueError, saying what would be right."""
    schema: Mapping[str, Any]


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
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        seconds = float(match.group(1)) * _UNITS[match.group(2)]
        if isfinite(seconds) and seconds > 0:
            return seconds
    raise ValueError("give a duration such as 500ms, 15s, 15m, 2h or 28d")


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
    raise ValueError(f"give functions under the names {', '.join(HOOKS)}")


def choice(*choices: str) -> Kind:
    """One of these words."""

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
RATE = Kind("number 0-1", _rate, {"type": ["number", "string"]})
BOOLEAN = Kind("boolean", _boolean, {"type": ["boolean", "string"]})
DURATION = Kind("duration", _duration, {"type": "string", "pattern": r"^(\$\{.*\}|[0-9]+(\.[0-9]+)?(ms|s|m|h|d))$"})
COUNT = Kind("whole number", _count, {"type": ["integer", "string"]})
NAMES = Kind("list of names", _names, {"type": ["array", "string"], "items": {"type": "string"}})
LIBRARIES = Kind("auto \\| list of names", _libraries, {"type": ["array", "string"], "items": {"type": "string"}})
ENDPOINT = Kind("URL", _endpoint, {"type": "string"})
FUNCTIONS = Kind("functions", _hooks, {})
VERSION = Kind("1", _version, {"enum": [1]})


def meant(value: object, known: Iterable[str]) -> str:
    """What was probably meant, to be put behind a remedy."""
    close = get_close_matches(str(value), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
