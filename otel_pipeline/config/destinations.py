"""What the file says of one destination: of all patterns that match its name, the most specific, option by option."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Policy = Literal["allow", "flag", "reject"]
ANY_IS_FLAGGED: Mapping[str, Policy] = MappingProxyType({"*": "flag"})
_WILDCARD = re.compile(r"\[!?.[^\]]*\]|[*?]")


@dataclass(frozen=True)
class DestinationOptions:
    """What is said of one destination. Times in s."""

    trust: Literal["all", "same-environment", "none"] = "all"
    foreign: Mapping[str, Policy] = field(default_factory=lambda: ANY_IS_FLAGGED)
    """By origin environment; `*` is any other, and always there."""
    contract: Literal["learn", "file", "ignore"] = "learn"
    log: Literal["plain", "transactional", "compacted"] = "plain"
    ordered: bool = False
    expect_every_s: float | None = None
    event_age: bool = False
    process_wait: bool = False
    same_key: bool = False
    fields: tuple[str, ...] = ()


def destination_options(patterns: Mapping[str, Mapping[str, Any]], name: str) -> DestinationOptions:
    """The options of the destination of this name, where `patterns` has what is said, by pattern and option.

    An origin's policy is that of the most specific pattern that says one for the origin or for `*`.
    """
    matching = [pattern for pattern in patterns if pattern == name or fnmatchcase(name, pattern)]
    said: dict[str, Any] = {}
    policies: dict[str, Policy] = {}
    for pattern in sorted(matching, key=lambda pattern: _specificity(pattern, name), reverse=True):
        for option, value in patterns[pattern].items():
            if option != "foreign":
                said.setdefault(option, value)
            elif "*" not in policies:
                policies = {**value, **policies}
    return DestinationOptions(foreign=MappingProxyType({**ANY_IS_FLAGGED, **policies}), **said)


def _specificity(pattern: str, name: str) -> tuple[bool, int, bool, int]:
    """The name itself, then by literal characters; `*` last. Of equals the one that stands first in the file."""
    literal = len(_WILDCARD.sub("", pattern))
    return pattern == name, literal, pattern != "*", -pattern.count("*")
