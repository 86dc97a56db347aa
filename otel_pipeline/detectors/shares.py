"""What a share of a sample says of the share of all."""

from __future__ import annotations

from math import sqrt

_CERTAIN = 1.96


def wilson_lower(bad: int, n: int) -> float:
    """The lower 95 % bound of the share of bad cases (E. B. Wilson, 1927)."""
    if n == 0:
        return 0.0
    share, z2 = bad / n, _CERTAIN**2
    middle = share + z2 / (2 * n)
    spread = _CERTAIN * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z2 / n))


def wilson_upper(bad: int, n: int) -> float:
    """The upper 95 % bound of the share of bad cases; 1 where there is none."""
    return 1.0 - wilson_lower(n - bad, n)
