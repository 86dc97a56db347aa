"""Bounds the share of all by the share of a sample."""

from __future__ import annotations

from math import sqrt

_CERTAIN = 1.96


def wilson_lower(bad: int, n: int) -> float:
    """Return the lower 95 % bound of the share of bad cases (E. B. Wilson, 1927)."""
    if n == 0:
        return 0.0
    share, z2 = bad / n, _CERTAIN**2
    middle = share + z2 / (2 * n)
    spread = _CERTAIN * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z2 / n))


def wilson_upper(bad: int, n: int) -> float:
    """Return the upper 95 % bound of the share of bad cases; 1 without any case."""
    return 1.0 - wilson_lower(n - bad, n)
