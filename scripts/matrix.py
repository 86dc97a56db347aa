"""Run the tests on every Python that the machine has, with the oldest and the newest client and OpenTelemetry set.

python scripts/matrix.py [--list] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST_SET = (
    "opentelemetry-api==1.30.0",
    "opentelemetry-sdk==1.30.0",
    "opentelemetry-exporter-otlp==1.30.0",
    "opentelemetry-instrumentation==0.51b0",
    "opentelemetry-exporter-prometheus==0.51b0",
    "opentelemetry-distro==0.51b0",
    "opentelemetry-instrumentation-kafka-python==0.51b0",
    "wrapt<2",
)


@dataclass(frozen=True)
class Run:
    """One environment."""

    name: str
    python: str
    pins: tuple[str, ...]


RUNS = (
    Run("oldest", "3.10", ("kafka-python==2.0.2", "aiokafka==0.10.0", *OLDEST_SET)),
    Run("3.11", "3.11", ()),
    Run("3.12", "3.12", ()),
    Run("kafka-2.3", "3.13", ("kafka-python==2.3.3",)),
    Run("newest", "3.13", ()),
)


def interpreter(version: str) -> str | None:
    """A Python of this version: on the path, or among pyenv's."""
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


def run(chosen: Run, arguments: list[str]) -> str:
    """Install and test; returns passed, failed, or skipped and why."""
    python = interpreter(chosen.python)
    if python is None:
        return f"skipped: no Python {chosen.python} on this machine"
    if not chosen.pins and python == sys.executable:
        return "skipped: that is what `make test` runs"
    environment = ROOT / f".venv-{chosen.name}"
    # An old pip looks for minutes through versions of packages that come in sets.
    subprocess.run([python, "-m", "venv", "--upgrade-deps", str(environment)], check=True)
    inside = str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    install = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-e", f"{ROOT}[demo,test]", *chosen.pins], check=True)
    # Side by side: most of the time is waiting, for brokers, groups, processes.
    command = [inside, "-m", "pytest", "-q", "-m", "not once", "-n", "4", "--dist", "loadfile", *arguments]
    tested = subprocess.run(command, cwd=ROOT, check=False)
    return "passed" if tested.returncode == 0 else "failed"


def main() -> int:
    """Returns 0 when no run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which runs; all of them when none is named")
    parser.add_argument("--list", action="store_true", help="name the runs and end")
    options, rest = parser.parse_known_args()
    chosen = [each for each in RUNS if not options.names or each.name in options.names]
    if options.list:
        print("\n".join(f"{each.name:<10} Python {each.python} {' '.join(each.pins)}" for each in chosen))
        return 0
    results = {}
    for each in chosen:
        print(f"== {each.name}: Python {each.python} {' '.join(each.pins)}", flush=True)
        results[each.name] = run(each, rest)
    for name, result in results.items():
        print(f"{name:<10} {result}")
    return int("failed" in results.values())


if __name__ == "__main__":
    raise SystemExit(main())
