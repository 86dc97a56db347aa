"""Run the tests on every Python that the machine has, with the oldest and the newest client and OpenTelemetry set.

python scripts/matrix.py [--list | --set-up | --pin] [NAME ...] [ARGUMENT OF PYTEST ...]

Each row installs at the versions of scripts/constraints; --pin writes those files anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import environment

ROOT = Path(__file__).parents[1]
OLDEST_SET = (
    "opentelemetry-api==1.30.0",
    "opentelemetry-sdk==1.30.0",
    "opentelemetry-exporter-otlp==1.30.0",
    "opentelemetry-instrumentation==0.51b0",
    "opentelemetry-exporter-prometheus==0.51b0",
    "opentelemetry-distro==0.51b0",
    "opentelemetry-instrumentation-aiokafka==0.51b0",
    "opentelemetry-instrumentation-confluent-kafka==0.51b0",
    "opentelemetry-instrumentation-kafka-python==0.51b0",
    "wrapt<2",
)
ALL = ("tests",)
OF_CLIENTS = ("tests/adapters", "tests/contract", "tests/models", "tests/processes")
"""The tests that ask something of a client: all else is the same on the Pythons between the oldest and the newest."""


@dataclass(frozen=True)
class Row:
    """One environment, what is pinned in it before the rest is resolved, and what is tested there."""

    name: str
    python: str
    pins: tuple[str, ...]
    tests: tuple[str, ...]
    extras: tuple[str, ...] = ("demo", "test")

    @property
    def folder(self) -> Path:
        """Where its environment is."""
        return ROOT / f".venv-{self.name}"


ROWS = (
    Row(
        "oldest",
        "3.10",
        ("kafka-python==2.0.2", "aiokafka==0.10.0", "confluent-kafka==2.3.0", "faststream==0.6.0", *OLDEST_SET),
        ALL,
    ),
    Row("newest", "3.13", (), ALL),
    Row("kafka-2.3", "3.12", ("kafka-python==2.3.3",), OF_CLIENTS),
    Row("3.11", "3.11", (), OF_CLIENTS),
    Row(
        "models",
        "3.12",
        ("xgboost-cpu==3.2.0", "lightgbm==4.7.0", "onnxruntime==1.32.0", "onnx==1.23.2", "statsmodels==0.15.0"),
        ("tests/models",),
        ("demo", "test", "models"),
    ),
)


def interpreter(version: str) -> str | None:
    """Find a Python of this version: on the path, or among pyenv's."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True), shutil.which(f"python{version}")]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run([candidate, "-c", "import venv"], check=False, capture_output=True).returncode == 0
        ):
            return str(candidate)
    return None


def skipped(row: Row) -> str | None:
    """Say why a row is not run; None where it is."""
    if interpreter(row.python) is None:
        return f"skipped: no Python {row.python} on this machine"
    if not row.pins and interpreter(row.python) == sys.executable:
        return "skipped: that is what `make test` runs"
    return None


def set_up(row: Row) -> None:
    """Make the row's environment."""
    constraints = row.name if row.pins else "newest"
    environment.make(row.folder, list(row.extras), interpreter(row.python) or "", constraints)


def run(row: Row, arguments: list[str]) -> str:
    """Test; return passed or failed, and the seconds."""
    began = time.monotonic()
    tests = [path for path in row.tests if ROOT.joinpath(path).exists()]
    # Side by side: most of the time is waiting, for brokers, groups, processes.
    command = [environment.program(row.folder, "python"), "-m", "pytest", "-q", "-m", "not once", "-n", "4"]
    command += ["--dist", "loadgroup", *tests, *arguments]
    tested = subprocess.run(command, cwd=ROOT, check=False)
    if tested.returncode:
        print("what failed, once more: read above why", flush=True)
        tested = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "FAILED_ONLY": "1"})
    return f"{'failed' if tested.returncode else 'passed'} in {time.monotonic() - began:.0f} s"


def pin() -> None:
    """Resolve each set of versions and write it down; the newest holds for every Python."""
    uv = environment.uv()
    if uv is None:
        raise SystemExit("needs uv")
    every = Row("newest", "3.10", (), ())
    for row in (every, *(row for row in ROWS if row.pins)):
        file = environment.CONSTRAINTS / f"{row.name}.txt"
        which = ["--universal"] if row is every else []
        subprocess.run(
            [
                *(uv, "pip", "compile", "-q", "--upgrade", *which, "--python-version", row.python, "-o", str(file)),
                *("--no-annotate", "--no-header", "--no-emit-index-url"),
                *(part for extra in row.extras for part in ("--extra", extra)),
                *("pyproject.toml", "-"),
            ],
            input="\n".join(row.pins).encode(),
            cwd=ROOT,
            check=True,
        )
        print(file.relative_to(ROOT))


def main() -> int:
    """Run the rows; return 0 when none failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which rows; all of them when none is named")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--set-up", action="store_true", help="make the environments, side by side, and end")
    parser.add_argument("--pin", action="store_true", help="write scripts/constraints anew and end")
    options, rest = parser.parse_known_args()
    if options.pin:
        pin()
        return 0
    chosen = [row for row in ROWS if not options.names or row.name in options.names]
    if options.list:
        print("\n".join(f"{row.name:<10} Python {row.python} {' '.join((*row.pins, *row.tests))}" for row in chosen))
        return 0
    results = {row.name: skipped(row) for row in chosen}
    chosen = [row for row in chosen if results[row.name] is None]
    environment.uv()
    with ThreadPoolExecutor() as pool:
        list(pool.map(set_up, chosen))
    if options.set_up:
        return 0
    for row in chosen:
        print(f"== {row.name}: Python {row.python} {' '.join(row.pins)}", flush=True)
        results[row.name] = run(row, rest)
    for name, result in results.items():
        print(f"{name:<10} {result}")
    return int(any(result and result.startswith("failed") for result in results.values()))


if __name__ == "__main__":
    raise SystemExit(main())
