"""Count the files and lines that a change takes: what growing costs is a promise.

python scripts/change_costs.py [--check]

Each change is an example that docs/contributing.md walks through. It is made in a copy; one that has been made already
is taken away in the copy, and costs what it takes along, or is counted where it stands. Tests and generated pages do
not count; nor do lines that are empty, a comment or a docstring.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
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
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Change:
    """One kind of change, with what it may cost."""

    name: str
    files: int
    lines: int
    make: Callable[[Path], None] | None = None
    """Makes the change in a copy, and raises where it does not do what it should."""
    undoes: bool = False
    """Whether it takes away what there is."""
    parts: tuple[str, ...] = ()
    """Where it stands, if it is not made: a file, `path:name` for the row of that name, `path#title` for the code
    that a section of a page shows."""


def replace_once(path: Path, old: str, new: str) -> None:
    """Replace what is there once. Raises ValueError where it is not: the example is to be written anew."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{old!r} is not once in {path.name}: choose another example")
    path.write_text(text.replace(old, new), "utf-8")


def run(copy: Path, *words: str) -> str:
    """Return what a program of the copy prints. Raises where it fails."""
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
    """Turn a constant of the engine into an option: in page and schema, read from the file, listed by the command."""
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
    """Delete the share of nulls, with its two metrics, its option and its amber: nothing but its page knows of it."""
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
    Change("an option", 1, 3, make=add_an_option),
    Change("a detector: the share of nulls", 2, 60, make=take_a_detector_away, undoes=True),
    Change(
        "a Kafka client: kafka-python, with answers by the batch",
        4,
        440,
        parts=(
            "otel_pipeline/brokers/kafka/kafka_python.py",
            "otel_pipeline/brokers/kafka/kafka_python_batches.py",
            "otel_pipeline/brokers/kafka/kafka_python_fetches.py",
            "otel_pipeline/registry.py:kafka-python",
        ),
    ),
    Change(
        "a Kafka client: aiokafka, one by one",
        3,
        300,
        parts=("otel_pipeline/brokers/kafka/aiokafka.py", "otel_pipeline/registry.py:aiokafka"),
    ),
    Change(
        "a framework: the page's",
        1,
        40,
        parts=("docs/contributing.md#Add a framework on top of a client",),
    ),
    Change(
        "a broker that is no Kafka: the one in memory",
        1,
        60,
        parts=("examples/in_memory_broker/in_memory_broker_otel.py",),
    ),
)


def cost(change: Change) -> tuple[int, int]:
    """Count the files that it takes, and the lines in them."""
    if change.make is None:
        return len(change.parts), sum(len(_part(part)) for part in change.parts)
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
    """Count the lines that the change adds to a file; None where the file is the same."""
    now = (with_it / path).read_bytes()
    before = (without / path).read_bytes() if (without / path).exists() else b""
    if now == before:
        return None
    lines = difflib.ndiff(counted(path, before.decode()), counted(path, now.decode()))
    return sum(line.startswith("+ ") for line in lines)


def _part(where: str) -> list[str]:
    """Return the lines of a part that count."""
    path, title = where.partition("#")[::2]
    if title:
        page = (ROOT / path).read_text("utf-8")
        (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        return counted("shown.py", "".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL)))
    path, name = path.partition(":")[::2]
    text = (ROOT / path).read_text("utf-8")
    return counted(path, _row(text, name) if name else text)


def _row(text: str, name: str) -> str:
    """Return the call in the text that has this name as one of its arguments."""
    (row,) = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and any(isinstance(each.value, ast.Constant) and each.value.value == name for each in node.keywords)
    )
    return ast.get_source_segment(text, row) or ""


def counted(path: str, text: str) -> list[str]:
    """Return the lines of a file that count: in Python those that are code, elsewhere those that are not empty."""
    lines = text.splitlines()
    if not path.endswith(".py"):
        return [line for line in lines if line.strip()]
    documented = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    }
    return [lines[number - 1] for number in sorted(code - documented)]


def main() -> int:
    """Print the table; with --check, return 1 where a change costs more than it may."""
    over = False
    print(f"{'change':<46}{'files':>6}{'may':>5}{'lines':>7}{'may':>5}")
    for change in CHANGES:
        files, lines = cost(change)
        over = over or files > change.files or lines > change.lines
        print(f"{change.name:<46}{files:>6}{change.files:>5}{lines:>7}{change.lines:>5}")
    return int(over and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
