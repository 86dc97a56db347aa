"""Limits: each is tried just below, at it, and just above."""

from __future__ import annotations

import pytest


def below_at_above(name, limit, *outcomes, step=1):
    """Parametrize a test with `size` and `outcome`: what comes of it just below the limit, at it, and just above.

    The limit is written out: a test that reads the constant passes whatever it says.

    Args:
        name: the constant in the package, `engine.w3c.MAX_BAGGAGE_MEMBERS`, or of a limit that has no name of its own
            what it limits, in words. `tests/test_limits.py` looks for the names.
        limit: its value.
        outcomes: three.
        step: what just below and just above are.
    """
    del name
    sizes = (limit - step, limit, limit + step)
    return pytest.mark.parametrize(
        ("size", "outcome"), list(zip(sizes, outcomes, strict=True)), ids=["just below", "at", "just above"]
    )
