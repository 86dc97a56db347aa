"""What growing costs, measured by making the changes that docs/contributing.md walks through."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def costs():
    spec = importlib.util.spec_from_file_location("change_costs", ROOT / "scripts" / "change_costs.py")
    module = sys.modules["change_costs"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.once
def test_no_change_costs_more_than_it_may(costs):
    """Files and lines, without tests and generated pages."""
    found = [(change, costs.cost(change)) for change in costs.CHANGES]
    over = [
        (change.name, files, lines)
        for change, (files, lines) in found
        if files > change.files or lines > change.lines or not lines
    ]

    assert over == []


def test_the_page_walks_through_the_option_that_is_counted(costs):
    """Word for word."""
    assert textwrap.dedent(costs.OPTION) in (ROOT / "docs" / "contributing.md").read_text("utf-8")


def test_the_page_walks_through_the_detector_that_is_counted(costs):
    """Word for word: what stands in blocks stands in its file."""
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    section = page.partition("## Add a detector")[2].partition("Another distribution")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    source = (ROOT / costs.NULL_RATE).read_text("utf-8")

    assert len(blocks) == 3
    assert [block for block in blocks if block not in source] == []
    assert all(f"| `{path}` |" in section for path in (costs.NULL_RATE, costs.NULL_RATE_PAGE))
