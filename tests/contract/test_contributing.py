"""The page that walks through an adapter shows the one that the tests run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contributing.md").read_text("utf-8")
SHOWN = {
    "Add a broker that is no Kafka at all": (
        "examples/in_memory_broker/in_memory_broker_otel.py",
        "examples/in_memory_broker/pyproject.toml",
    ),
    "Add a Kafka client": ("otel_pipeline/brokers/kafka/aiokafka.py",),
}


def lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("section", SHOWN)
def test_the_code_shown_is_the_code_that_runs(section):
    """Line by line, but for types of the signature, and how far it stands in."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    real = {line for file in SHOWN[section] for line in lines((ROOT / file).read_text("utf-8"))}
    shown = [line for block in re.findall(r"```(?:python|toml)\n(.*?)```", text, re.DOTALL) for line in lines(block)]

    assert len(shown) >= 8
    assert [line for line in shown if line not in real and line != "def instrument(patches, engine):"] == []
