"""What `instrument()` costs when a program starts, beside `opentelemetry-instrument` with the official instrumentation.

Each start is a process of its own that imports kafka, interleaved; CPU until the program's own first line after it,
resident memory and modules there. All of them have their bytecode, as installed programs do; nothing is sent before
that line. The official instrumentation starts where otel_pipeline is not installed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sysconfig
import tempfile
import venv
from pathlib import Path

TAKEN = """
import kafka{more}
import os, resource, sys
used = resource.getrusage(resource.RUSAGE_SELF)
memory = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print("taken", (used.ru_utime + used.ru_stime) * 1000, int(memory.split()[1]) / 1024, len(sys.modules), flush=True)
os._exit(0)
"""
LINE = "; import otel_pipeline; otel_pipeline.instrument('bench')"
WRAPPER = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
NOTHING = {
    "OTEL_PYTHON_DISTRO": "none",
    "OTEL_PYTHON_CONFIGURATOR": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*",
}
STARTS: dict[str, tuple[bool, bool, str, dict[str, str]]] = {
    "bare": (False, False, "", {}),
    "official, wrapper": (False, True, "", {}),
    "wrapper alone": (False, True, "", NOTHING),
    "ours, line": (True, False, LINE, {}),
    "ours, wrapper": (True, True, "", {"OTEL_PYTHON_DISTRO": "otel_pipeline"}),
}
"""Whether otel_pipeline is there, whether by `opentelemetry-instrument`, what the program has besides, variables."""
BASE, FLOOR = "official, wrapper", "wrapper alone"
ALL = {
    "OTEL_SERVICE_NAME": "bench",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}


def surroundings(folder: Path, *, ours: bool) -> tuple[str, dict[str, str]]:
    """Make an environment with what is installed here, with otel_pipeline or not; return its Python and variables."""
    where = folder / ("with" if ours else "without")
    venv.create(where, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(where), "platbase": str(where)}))
    for found in Path(sysconfig.get_path("purelib")).iterdir():
        if ours or "otel_pipeline" not in found.name:
            (packages / found.name).symlink_to(found)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    kept |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "XDG_STATE_HOME": str(folder)}
    if ours:
        kept["PYTHONPATH"] = str(Path(__file__).parents[1])
    return str(where / "bin" / "python"), {**kept, **ALL}


def start(name: str, places: dict[bool, tuple[str, dict[str, str]]]) -> list[float]:
    """Return CPU in ms, resident memory in MB and the number of modules."""
    ours, wrapped, more, variables = STARTS[name]
    python, environment = places[ours]
    ran = subprocess.run(
        [*((python, "-c", WRAPPER) if wrapped else ()), python, "-c", TAKEN.format(more=more)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        cwd=Path(python).parent,
    )
    found = re.search(r"^taken (.*)", ran.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{name} said {ran.stdout!r} and {ran.stderr!r}")
    return [float(each) for each in found[1].split()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        places = {ours: surroundings(Path(folder), ours=ours) for ours in (False, True)}
        for name in STARTS:
            start(name, places)  # Writes the bytecode.
        taken: dict[str, list[list[float]]] = {name: [] for name in STARTS}
        for _ in range(rounds):
            for name, found in taken.items():
                found.append(start(name, places))
    added = {
        name: [
            statistics.median(mine[at] - bare[at] for mine, bare in zip(found, taken["bare"], strict=True))
            for at in range(3)
        ]
        for name, found in taken.items()
    }
    print("| start | adds CPU, ms | ratio | MB | ratio | modules |\n|---|--:|--:|--:|--:|--:|")
    for name in list(STARTS)[1:]:
        cpu, memory, modules = added[name]
        ratios = cpu / added[BASE][0], memory / added[BASE][1]
        print(f"| {name} | {cpu:.0f} | {ratios[0]:.2f} | {memory:.1f} | {ratios[1]:.2f} | {modules:.0f} |")


if __name__ == "__main__":
    main()
