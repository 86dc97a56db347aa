"""Count the files and lines that a change takes, by making it in a copy: what growing costs is a promise.

python scripts/change_costs.py [--check]

Tests and generated pages do not count. Each change is the example that docs/contributing.md walks through. One that has
been made already is taken away in the copy, and costs what it takes along.
"""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
COPIED = ("otel_pipeline", "scripts", "docs", "examples", "pyproject.toml", "README.md")
OF_OPTIONS = ("docs/configuration.md", "otel_pipeline/otel_pipeline.schema.json")
OF_MEASURES = ("docs/telemetry.md", "otel_pipeline/semconv.py")
GENERATED = (*OF_OPTIONS, *OF_MEASURES)


@dataclass(frozen=True)
class Change:
    """One kind of change, with what it may cost."""

    name: str
    make: Callable[[Path], None]
    """Makes it in the copy, and raises where it does not do what it should."""
    files: int
    lines: int
    undoes: bool = False
    """Whether it takes away what there is."""


def replace_once(path: Path, old: str, new: str) -> None:
    """Replace what is there once. Raises ValueError where it is not: the example is to be written anew."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{old!r} is not once in {path.name}: choose another example")
    path.write_text(text.replace(old, new), "utf-8")


def run(copy: Path, *words: str) -> str:
    """What a program of the copy prints. Raises where it fails."""
    # The copy goes before the package that is installed.
    starter = "import runpy, sys; sys.path.insert(0, '.'); sys.argv = sys.argv[1:]; " + (
        "runpy.run_path(sys.argv[0], run_name='__main__')"
        if words[0].endswith(".py")
        else "runpy.run_module(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", starter, *words]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True).stdout


OPTION = """\
    max_links: int = option(
        "receive.max_links", "count", 128, "Up to how many messages of a batch its CLIENT span links to."
    )
"""


def add_an_option(copy: Path) -> None:
    """A constant of the engine becomes an option: in page and schema, read from the file, listed by the command."""
    replace_once(copy / "otel_pipeline" / "engine" / "settings.py", "    max_links: int = 128\n", OPTION)
    run(copy, "scripts/generate_configuration.py")
    for generated in OF_OPTIONS:
        if "max_links" not in (copy / generated).read_text("utf-8"):
            raise ValueError(f"the option is not in {generated}")
    (copy / "otel_pipeline.yaml").write_text("receive: {max_links: 7}\n", "utf-8")
    listed = [line.split() for line in run(copy, "otel_pipeline.cli.main", "config").splitlines()]
    (copy / "otel_pipeline.yaml").unlink()
    if not any(row[:2] == ["receive.max_links", "7"] for row in listed):
        raise ValueError("`otel-pipeline config` does not show what the file says")


NULL_RATE = "otel_pipeline/detectors/null_rate.py"
NULL_RATE_PAGE = "docs/contracts.md"


def take_a_detector_away(copy: Path) -> None:
    """The share of nulls, with its two metrics, its option and its amber: nothing but its page knows of it."""
    (copy / NULL_RATE).unlink()
    page = (copy / NULL_RATE_PAGE).read_text("utf-8")
    (copy / NULL_RATE_PAGE).write_text(re.sub(r"(?s)## Fields that go null.*?(?=## )", "", page), "utf-8")
    run(copy, "scripts/generate_configuration.py")
    run(copy, "scripts/generate_telemetry.py")
    # Elsewhere the word may stand: the option `fields` shows null rates, too.
    names = (".null_rate", '"null_rate"', "otel_pipeline.field.nulls")
    for path in (*(copy / "otel_pipeline" / "detectors").rglob("*.py"), *map(copy.joinpath, GENERATED)):
        if any(name in path.read_text("utf-8") for name in names):
            raise ValueError(f"{path.relative_to(copy)} still names the detector")


CHANGES = (
    Change("an option", add_an_option, files=1, lines=3),
    Change("a detector", take_a_detector_away, files=2, lines=60, undoes=True),
)


def cost(change: Change) -> tuple[int, int]:
    """How many files differ once it is made, and how many lines were added to them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, copy / name)
        change.make(copy)
        without, with_it = (copy, ROOT) if change.undoes else (ROOT, copy)
        added = [lines for path in _files(with_it) if (lines := _added(without, with_it, path)) is not None]
    return len(added), sum(added)


def _files(root: Path) -> list[str]:
    folders = [path for name in COPIED if (path := root / name).is_dir()]
    files = [path for name in COPIED if (path := root / name).is_file()]
    files += [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    kept = (path.relative_to(root).as_posix() for path in files if "__pycache__" not in path.parts)
    return [path for path in kept if path not in GENERATED]


def _added(without: Path, with_it: Path, path: str) -> int | None:
    """The lines that a file has more with the change, None where it is the same."""
    now = (with_it / path).read_bytes()
    before = (without / path).read_bytes() if (without / path).exists() else b""
    if now == before:
        return None
    lines = difflib.ndiff(before.decode().splitlines(), now.decode().splitlines())
    return sum(line.startswith("+ ") for line in lines)


def main() -> int:
    """Print the table; with --check, return 1 where a change costs more than it may."""
    over = False
    print(f"{'change':<24}{'files':>6}{'may':>5}{'lines':>7}{'may':>5}")
    for change in CHANGES:
        files, lines = cost(change)
        over = over or files > change.files or lines > change.lines
        print(f"{change.name:<24}{files:>6}{change.files:>5}{lines:>7}{change.lines:>5}")
    return int(over and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
