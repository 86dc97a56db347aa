"""A configuration file is read whole, or not at all: its size, its parts, and how deep they lie."""

from __future__ import annotations

import pytest

from otel_pipeline.config import yaml_file
from tests.limits import below_at_above


@pytest.fixture
def read(tmp_path):
    """Whether a text is read, and what is said otherwise."""

    def reading(text):
        path, said = tmp_path / "otel_pipeline.yaml", []
        path.write_text(text)
        found = yaml_file.read(path, {}, lambda _where, what, _remedy: said.append(what))
        return found is not None and not said

    return reading


@below_at_above("config.yaml_file.MAX_BYTES", 1_000_000, True, True, False)
def test_the_bytes_of_a_file(read, size, outcome):
    """A million."""
    assert read("a: 1\n#" + "x" * (size - 6)) is outcome


@below_at_above("config.yaml_file.MAX_NODES", 10_000, True, True, False)
def test_the_nodes_of_a_file(read, size, outcome):
    """Ten thousand: values, lists and sections."""
    assert read("a: [" + ", ".join(["1"] * (size - 2)) + "]") is outcome


@below_at_above("config.yaml_file.MAX_DEPTH", 20, True, True, False)
def test_the_depth_of_a_file(read, size, outcome):
    """Twenty sections one in another."""
    text = "".join(f"{'  ' * at}a:\n" for at in range(size)).rstrip() + " 1"

    assert read(text) is outcome
