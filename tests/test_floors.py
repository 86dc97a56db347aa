"""The floors of the architecture: a module imports its own package and what is below it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import otel_pipeline

ROOT = Path(otel_pipeline.__file__).parent
GROUND = {
    "config",
    "duration",
    "garbage",
    "installed",
    "own_files",
    "plain_text",
    "semconv",
    "settings",
    "status",
    "version",
}
FLOORS = {
    **dict.fromkeys(GROUND, 0),
    "engine": 1,
    "brokers": 2,
    "contracts": 2,
    "detectors": 2,
    "models": 2,
    "verdict": 3,
    "export": 3,
    "owners": 4,
    "registry": 4,
    "libraries": 4,
    "library_names": 4,
    "again": 4,
    "greeting": 4,
    "unsupported": 4,
    "pipeline": 4,
    "flow": 4,
    "distro": 4,
    "cli": 5,
    "demo": 5,
    "dev": 5,
    "testing": 5,
    "__init__": 5,
    "__main__": 5,
}
SEES = {
    0: {*GROUND},
    1: {"engine", "semconv", "settings"},
    2: {"engine", "semconv", "duration", "installed", "own_files", "plain_text", "settings"},
    3: {"engine", "verdict", *GROUND},
    4: {
        "owners",
        "registry",
        "libraries",
        "library_names",
        "again",
        "greeting",
        "unsupported",
        "flow",
        "pipeline",
        "export",
        "verdict",
        "detectors",
        "contracts",
        "engine",
        *GROUND,
    },
    5: {*FLOORS} - {"testing"},
}
MAY = {
    "verdict": {"detectors", "contracts", "engine", "semconv", "duration", "own_files", "settings"},
    "demo": {*FLOORS},
    "testing": {*FLOORS},
    "cli": {*FLOORS} - {"testing"},
}
"""Packages that may import something else than their floor does."""
OTHERS = {
    0: {"yaml"},
    1: {"opentelemetry"},
    2: {"opentelemetry", "kafka", "aiokafka", "faststream", "faust", "sklearn", "confluent_kafka", "torch"},
    3: {"opentelemetry", "loguru", "packaging", "certifi"},
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
    assert set(findings()) == set()


def circles(files):
    """Files that import each other over any number of steps; imports for types alone count."""
    needs = {name: set(imported(source, files)) - {name} for name, source in files.items()}
    for name, needed in needs.items():
        reached, ahead = set(), list(needed)
        while ahead:
            each = ahead.pop()
            if each not in reached:
                reached.add(each)
                ahead += needs[each]
        if name in reached:
            yield name


def imported(source, files):
    """The files that one names in imports, wherever these stand; a package's own for what is no file in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if name in files else node.module for name in found]
        else:
            continue
        yield from files.keys() & set(found)


def test_no_circle_of_files():
    """Each file of the package can be read after those that it needs."""
    files = {}
    for path, _ in modules():
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text("utf-8")

    assert list(circles(files)) == []


def test_a_circle_is_found():
    """Over three files of two packages, one of the imports for types alone, one in a function."""
    files = {
        "p": "",
        "p.a": "from p.b import B\n",
        "p.b": "if TYPE_CHECKING:\n    from p import c\n",
        "p.c": "def f():\n    import p.a\n",
        "p.d": "from p import a, other\n",
    }

    assert list(circles(files)) == ["p.a", "p.b", "p.c"]


def test_packages_nest_one_level_deep():
    """`engine/send.py`, never `engine/x/send.py`; but for a package that was full."""
    deep = {path.parent.relative_to(ROOT).as_posix() for path, _ in modules() if len(path.relative_to(ROOT).parts) > 2}

    assert deep == {"brokers/kafka", "export/otlp", "export/spool", "testing/faults"}


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
        "extract",
        "flow",
        "health",
        "inference",
        "inject",
        "instrument",
        "model",
        "process",
        "require_fresh",
    ]
    assert all(hasattr(otel_pipeline, name) for name in otel_pipeline.__all__)
