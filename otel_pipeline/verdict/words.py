"""Shares, times and counts as people read them."""

from __future__ import annotations

import time


def share(part: float) -> str:
    """Write a share with at most four digits, and 100 % only where it is all of them."""
    percent = 100 * part
    text = f"{percent:.3g}" if percent < 99 else f"{percent:.4g}"  # noqa: PLR2004 - nines count
    return f"{text if part == 1 or text != '100' else '99.99'} %"


def span(time_s: float | None) -> str:
    """Write how long something takes, or is ago."""
    if time_s is None:
        return "an unknown time"
    if time_s < 1:
        return f"{time_s * 1000:.0f} ms"
    if time_s < 120:  # noqa: PLR2004 - two minutes
        return f"{time_s:.3g} s"
    return f"{time_s / 60:.0f} min" if time_s < 7200 else f"{time_s / 3600:.1f} h"  # noqa: PLR2004 - two hours


def clock(wall_s: float) -> str:
    """Write a time of day of this machine, as its user's watch has it."""
    return time.strftime("%H:%M:%S", time.localtime(wall_s))


def count(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: `1 message`, `1,635 messages`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
