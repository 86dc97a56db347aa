"""How soon each harm is seen: just below what its row asks for it is not, just above it is, and the page says when."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verdict.harms import HARMS, seen, table

pytestmark = [pytest.mark.once, pytest.mark.xdist_group("how soon")]
PAGE = Path(__file__).parents[2] / "docs" / "health.md"
LIMITS = [
    pytest.param(harm, colour, *limits, id=f"{harm.what}: {colour}")
    for harm in HARMS
    for colour, limits in (("amber", harm.amber), ("red", harm.red))
    if limits is not None
]


@pytest.mark.parametrize(("harm", "colour", "row", "below", "above"), LIMITS)
def test_just_below_and_just_above(harm, colour, row, below, above):
    """By its row, and no other one is as bad before."""
    (without, _), (with_it, times) = seen(harm, below), seen(harm, above)

    assert without.first(harm.light, colour, row=row) is None, without.of(harm.light)
    assert times[colour] is not None, with_it.of(harm.light)


def test_the_page_says_how_soon():
    """docs/health.md has what `python -m tests.verdict.harms` prints."""
    assert table() in PAGE.read_text(), table()
