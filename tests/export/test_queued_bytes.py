"""What a span holds while it waits to be exported."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench_queue.py"


@pytest.mark.once
def test_a_queued_span_holds_a_fifth_of_the_sdks_at_most():
    """The same span, with the same attributes and link."""
    bench = runpy.run_path(str(BENCH))

    assert 100 < bench["bytes_of"](bench["ours"]) <= 0.2 * bench["bytes_of"](bench["official"])
