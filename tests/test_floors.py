"""The floors of the architecture: a module imports its own package and what is below it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import otel_pipeline

ROOT = Path(otel_pipeline.__file__).parent
GROUND = {
    "config",
    "config_destinations",
    "config_kinds",
    "config_loading",
    "config_named",
    "config_options",
    "config_schema",
    "configuration_file",
    "duration",
    "environment",
    "semconv",
    "version",
    "status",
}
FLOORS = {
    **dict.fromkeys(GROUND, 0),
    "engine": 1,
    "brokers": 2,
    "models": 2,
    "detectors": 2,
    "export": 3,
    "registry": 4,
    "health_configuration": 4,
    "monitoring": 4,
    "pipeline": 4,
    "distro": 4,
    "cli": 5,
    "testing": 5,
    "examples": 5,
    "__init__": 5,
}
SEES = {
    0: {*GROUND},
    1: {"engine", "semconv"},
    2: {"engine", "semconv", "duration"},
    3: {"export", "engine", *GROUND},
    4: {
        "registry",
        "pipeline",
        "distro",
        "health_configuration",
        "monitoring",
        "export",
        "models",
        "brokers",
        "detectors",
        "engine",
        *GROUND,
    },
    5: set(FLOORS),
}
OTHERS = {
    0: {"yaml"},
    1: {"opentelemetry", "wrapt"},
    2: {"opentelemetry", "kafka", "sklearn"},
    3: {"opentelemetry", "loguru", "requests"},
    4: {"opentelemetry", "packaging"},
    5: {"opentelemetry", "yaml", "pytest", "confluent_kafka", "kafka", "google", "sklearn", "loguru"},
}
SDK_FLOORS = {3, 5}


def modules():
    """Each module with its package: `engine/send.py` is of `engine`."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield path, parts[0]


def imports(path):
    """What a module imports when it runs; imports for types only have no effect at run time."""
    tree = ast.parse(path.read_text("utf-8"))
    typed = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "otel_pipeline":
                yield from (f"otel_pipeline.{alias.name}" for alias in node.names)
            else:
                yield node.module


def findings():
    for path, package in modules():
        floor = FLOORS[package]
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == "otel_pipeline":
                if rest and rest.split(".")[0] not in SEES[floor] | {package}:
                    yield f"{path.relative_to(ROOT)} imports {name}"
            elif top not in sys.stdlib_module_names and top not in OTHERS[floor]:
                yield f"{path.relative_to(ROOT)} imports {name}"
            if name.startswith("opentelemetry.sdk") and floor not in SDK_FLOORS:
                yield f"{path.relative_to(ROOT)} imports {name}"


def test_no_module_looks_above_its_floor():
    """Every import of every module is on its own floor's list."""
    assert list(findings()) == []


def test_packages_nest_one_level_deep():
    """`engine/send.py`, never `engine/x/send.py`."""
    deep = [path for path, _ in modules() if len(path.relative_to(ROOT).parts) > 2]

    assert [path for path in deep if "examples" not in path.parts] == []


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
