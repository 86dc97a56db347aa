"""Durations as people write them: 500ms, 15s, 15m, 2h, 28d."""

from __future__ import annotations

import re
from math import isfinite

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def seconds(text: str) -> float:
    """Return the duration in s. Raises ValueError, saying what would be right."""
    match = _DURATION.fullmatch(text.strip())
    if match is not None:
        found = float(match.group(1)) * _UNITS[match.group(2)]
        if isfinite(found) and found > 0:
            return found
    raise ValueError("give a duration such as 500ms, 15s, 15m, 2h or 28d")


def written(duration_s: float) -> str:
    """Write the duration as the configuration file has it, in its largest whole unit: 900 becomes 15m."""
    for unit in ("d", "h", "m", "s"):
        if duration_s % _UNITS[unit] == 0:
            return f"{int(duration_s / _UNITS[unit])}{unit}"
    return f"{duration_s * 1000:g}ms"
