"""The floors of the architecture: a module imports its own package and what is below it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import otel_pipeline

ROOT = Path(otel_pipeline.__file__).parent
GROUND = {"config", "duration", "semconv", "status", "version"}
FLOORS = {
    **dict.fromkeys(GROUND, 0),
    "engine": 1,
    "brokers": 2,
    "contracts": 2,
    "detectors": 2,
    "models": 2,
    "verdict": 3,
    "export": 3,
    "registry": 4,
    "pipeline": 4,
    "flow": 4,
    "distro": 4,
    "cli": 5,
    "demo": 5,
    "dev": 5,
    "testing": 5,
    "__init__": 5,
}
SEES = {
    0: {*GROUND},
    1: {"engine", "semconv"},
    2: {"engine", "semconv", "duration"},
    3: {"engine", "verdict", *GROUND},
    4: {"registry", "flow", "pipeline", "export", "verdict", "detectors", "contracts", "engine", *GROUND},
    5: {*FLOORS} - {"testing"},
}
MAY = {
    "verdict": {"detectors", "contracts", "engine", "semconv", "duration"},
    "demo": {*FLOORS},
    "testing": {*FLOORS},
    "cli": {*FLOORS} - {"testing"},
}
"""Packages that may import something else than their floor does."""
OTHERS = {
    0: {"yaml"},
    1: {"opentelemetry", "wrapt"},
    2: {"opentelemetry", "kafka", "sklearn", "confluent_kafka"},
    3: {"opentelemetry", "loguru", "requests"},
    4: {"opentelemetry", "packaging"},
    5: {
        "opentelemetry",
        "typing_extensions",
        "yaml",
        "pytest",
        "confluent_kafka",
        "kafka",
        "google",
        "sklearn",
        "loguru",
    },
}
SDK = {"export", "testing"}
DEBT = {
    "config/health.py imports otel_pipeline.detectors.settings",
}
"""Of the old layout: to be paid by the seam for settings."""
WITHOUT_CIRCLES = ("contracts", "detectors", "verdict")


def modules():
    """Each module with its package: `engine/send.py` is of `engine`."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield path, parts[0]


def imports(path):
    """What a module imports: when it runs, in its functions, and for its types."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "otel_pipeline":
                yield from (f"otel_pipeline.{alias.name}" for alias in node.names)
            else:
                yield node.module


def imported_files():
    """Each file of ours with those that it imports."""
    files = {".".join(("otel_pipeline", *path.relative_to(ROOT).with_suffix("").parts)): path for path, _ in modules()}
    return {
        name: {
            found
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ImportFrom) and node.module
            for found in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            if found in files and found != name
        }
        for name, path in files.items()
    }


def findings():
    for path, package in modules():
        floor = FLOORS[package]
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == "otel_pipeline":
                if rest and rest.split(".")[0] not in MAY.get(package, SEES[floor]) | {package}:
                    yield f"{path.relative_to(ROOT)} imports {name}"
            elif top not in sys.stdlib_module_names and top not in OTHERS[floor]:
                yield f"{path.relative_to(ROOT)} imports {name}"
            if name.startswith("opentelemetry.sdk") and package not in SDK:
                yield f"{path.relative_to(ROOT)} imports {name}"


def test_no_module_looks_above_its_floor():
    """Every import of every module is on its own floor's list."""
    assert set(findings()) == DEBT


def test_no_two_files_need_each_other():
    """Whatever way leads from one to the other, types included: each can be read after those that it imports."""
    graph = imported_files()
    left = {name for name in graph if name.split(".")[1] in WITHOUT_CIRCLES}
    while readable := {name for name in left if not graph[name] & left}:
        left -= readable

    assert left == set()


def test_packages_nest_one_level_deep():
    """`engine/send.py`, never `engine/x/send.py`; but for a package that was full."""
    deep = {path.parent.relative_to(ROOT).as_posix() for path, _ in modules() if len(path.relative_to(ROOT).parts) > 2}

    assert deep == {"brokers/kafka", "testing/faults"}


def test_the_public_names():
    """What the package offers, and nothing else; each of them is there."""
    assert otel_pipeline.__all__ == [
        "ConfigError",
        "ForeignEnvironmentError",
        "Health",
        "Pipeline",
        "StaleDataError",
        "Status",
        "__version__",
        "current",
        "flow",
        "health",
        "inference",
        "instrument",
        "process",
        "require_fresh",
    ]
    assert all(hasattr(otel_pipeline, name) for name in otel_pipeline.__all__)
