"""What is generated is current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_pipeline.testing import registry

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("script", ["generate_configuration.py", "generate_telemetry.py", "generate_models.py"])
def test_generated_files_are_current(script):
    """`make docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.once
@pytest.mark.skipif(sys.version_info < (3, 11), reason="overloads are not kept before Python 3.11")
def test_the_reference_is_current():
    """It has every public name, with the docstring of now."""
    test_generated_files_are_current("generate_reference.py")


def test_no_name_is_the_namespace_of_another():
    """A metric and an attribute may share a name; none may stand below another."""
    names = {*registry.attributes(), *registry.metrics()}

    assert [(name, other) for name in names for other in names if other.startswith(f"{name}.")] == []
