"""Bounds the share of all by the share of a sample, and reads quantiles from buckets."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_pipeline.engine.totals import HistogramCell

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


def quantile(cell: HistogramCell, share: float) -> float | None:
    """Return the upper bound of the quantile's bucket, s, but never more than the highest value."""
    counts = cell.bucket_counts
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for bound, count in zip((*cell.bounds, cell.max), counts, strict=True):
        seen += count
        if seen >= share * total:
            return min(bound, cell.max)
    return cell.max
