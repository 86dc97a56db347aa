"""What is said of one destination: for each option, the most specific pattern that matches its name decides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

_WILDCARD = re.compile(r"\[!?.[^\]]*\]|[*?]")


def said_of(name: str, patterns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what holds for this name, by option, where `patterns` has what is said, by pattern and option.

    An option that is a mapping is put together key by key, up to the pattern that says `*`, any other key.
    """
    matching = [pattern for pattern in patterns if pattern == name or fnmatchcase(name, pattern)]
    said: dict[str, Any] = {}
    for pattern in sorted(matching, key=lambda pattern: _specificity(pattern, name), reverse=True):
        for option, value in patterns[pattern].items():
            known = said.setdefault(option, value)
            if isinstance(known, Mapping) and "*" not in known:
                said[option] = {**value, **known}
    return said


def _specificity(pattern: str, name: str) -> tuple[bool, int, bool, int]:
    """Rank a pattern: the name itself, then by literal characters, `*` last. Equals keep the file's order."""
    literal = len(_WILDCARD.sub("", pattern))
    return pattern == name, literal, pattern != "*", -pattern.count("*")
