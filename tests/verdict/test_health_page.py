"""The page for people on call has each state of each light, and the status word of each state of a consumer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_pipeline.verdict.consumer_status import _STATUS
from otel_pipeline.verdict.contract import CONTRACT
from otel_pipeline.verdict.delivered import DELIVERED
from otel_pipeline.verdict.environment import ENVIRONMENT
from otel_pipeline.verdict.fresh import FRESH, OBJECTIVE
from otel_pipeline.verdict.lights import LIGHTS
from otel_pipeline.verdict.order import ORDER
from otel_pipeline.verdict.pace import CONSUMER

PAGE = (Path(__file__).parents[2] / "docs/health.md").read_text("utf-8")
ROWS = {
    "fresh": [*(name for name in FRESH.rows if name != "objectives"), *OBJECTIVE.rows],
    "in order": list(ORDER.rows),
    "keeping pace": list(CONSUMER.rows),
    "contract kept": list(CONTRACT.rows),
    "environment clean": list(ENVIRONMENT.rows),
    "delivered": list(DELIVERED.rows),
}


def table(light):
    """The cells of each line of a light's table."""
    section = re.search(rf"^### {light}: .*?(?=^##)", PAGE, re.MULTILINE | re.DOTALL).group()
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:] if not line.startswith("|--")]


def test_every_light_is_there():
    """By the words that it is shown with."""
    assert list(ROWS) == [each.title for each in LIGHTS]


@pytest.mark.parametrize("light", ROWS)
def test_every_state_is_there(light):
    """Once; whoever adds a row says here what it means and what to do."""
    named = [name.strip() for cells in table(light) for name in cells[0].split(", ") if not cells[0].startswith("---")]

    assert sorted(named) == sorted(ROWS[light])


def test_the_status_of_each_state_is_there():
    """The seven words, as the metric has them."""
    said = {cells[0]: cells[1] for cells in table("keeping pace")}

    assert said == {name: _STATUS.get(name, "unknown") for name in ROWS["keeping pace"]}
