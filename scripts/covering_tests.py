"""Which tests run which lines, and running them against a changed module in a fork."""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scripts.mutants import Mutant

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".mutants"
LEFT_OUT = ("tests/real", "tests/demo", "tests/processes")
"""Tests that run in processes of their own, which no change of ours reaches."""
COMMON = (
    *("-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-m", "not real and not once", "-W", "ignore:Module already imported"),
)


@dataclass
class Covering:
    """The tests of each line, and the seconds of each test."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]

    def of_line(self, path: str, line: int, at_most_s: float) -> list[str]:
        """Return the line's tests, quick ones first, up to a total; if an import runs it, those of its names' users."""
        tree = ast.parse(ROOT.joinpath(path).read_text())
        if _runs_at_import(tree, line):  # Coverage knows it of the test that was the first to import.
            tests = self._of_users(_names_at(tree, line))
        else:
            tests = set(self.lines.get(path, {}).get(str(line), ()))
        # The tests of the changed package first: they say what they mean to.
        home = f"tests/{Path(path).parent.name}/"
        chosen, total = [], 0.0
        for test in sorted(tests, key=lambda test: (not test.startswith(home), self.seconds[test])):
            total += self.seconds[test]
            if chosen and total > at_most_s:
                break
            chosen.append(test)
        return chosen

    def _of_users(self, names: set[str]) -> set[str]:
        """Return the tests of the lines that have one of the names; for a default argument, those of its function."""
        found: set[str] = set()
        for path, lines in self.lines.items():
            if not ROOT.joinpath(path).is_file():
                continue
            source = ROOT.joinpath(path).read_text()
            for number, text in enumerate(source.splitlines(), start=1):
                if any(name in text for name in names):
                    for line in _lines_of_function(ast.parse(source), number):
                        found.update(lines.get(str(line), ()))
        return found | self._that_say(names)

    def _that_say(self, names: set[str]) -> set[str]:
        """Return the tests whose own text has one of the names: what they look at need not run a line."""
        found: set[str] = set()
        for file in {test.partition("::")[0] for test in self.seconds}:
            source = ROOT.joinpath(file).read_text()
            if any(name in source for name in names):
                saying = {
                    node.name
                    for node in ast.walk(ast.parse(source))
                    if isinstance(node, ast.FunctionDef)
                    and any(name in (ast.get_source_segment(source, node) or "") for name in names)
                }
                found |= {
                    test
                    for test in self.seconds
                    if test.startswith(f"{file}::") and test.split("::")[-1].partition("[")[0] in saying
                }
        return found


def _lines_of_function(tree: ast.Module, number: int) -> Sequence[int]:
    """Return the line or, for one that runs when its function is made, the lines of the function."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.lineno <= number < node.body[0].lineno:
            return range(node.body[0].lineno, (node.end_lineno or 0) + 1)
    return () if _runs_at_import(tree, number) else (number,)


def _runs_at_import(tree: ast.Module, line: int) -> bool:
    return not any(
        isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body[0].lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(tree)
    )


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _names_at(tree: ast.Module, line: int) -> set[str]:
    """Return what a line that runs at import defines: a constant, a field, a function with its defaults."""
    holding = [
        node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _first_line(node) <= line <= node.end_lineno
    ]
    node = holding[-1]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) else set()


def load(jobs: int, folders: Sequence[str]) -> Covering:
    """Load the last run's result where nothing has changed since, otherwise run the folders' tests under coverage."""
    CACHE.mkdir(exist_ok=True)
    digest = hashlib.sha256(" ".join(folders).encode())
    for folder in ("otel_pipeline", "tests"):
        for path in sorted(ROOT.glob(f"{folder}/**/*.py")):
            digest.update(path.read_bytes())
    kept = CACHE / f"covering-{digest.hexdigest()[:12]}.json"
    if not kept.is_file():
        print("running the tests under coverage ...", flush=True)
        kept.write_text(json.dumps(_measured(jobs, folders)))
    return Covering(**json.loads(kept.read_text()))


def _measured(jobs: int, folders: Sequence[str]) -> dict[str, Any]:
    found = {str(path.relative_to(ROOT)) for folder in folders for path in ROOT.glob(f"{folder}/**/test_*.py")}
    files = [path for path in sorted(found) if not path.startswith(LEFT_OUT)]
    with tempfile.TemporaryDirectory() as folder:
        # Twice as many at a time: most of their time is waiting.
        parts = [Path(folder) / f"{number}.json" for number in range(2 * jobs)]
        running = [
            subprocess.Popen([sys.executable, __file__, str(part), *files[number :: 2 * jobs]], cwd=ROOT)
            for number, part in enumerate(parts)
        ]
        for each in running:
            each.wait()
        whole: dict[str, Any] = {"seconds": {}, "lines": {}}
        for part in parts:
            read = json.loads(part.read_text())
            whole["seconds"] |= read["seconds"]
            for path, lines in read["lines"].items():
                for line, tests in lines.items():
                    whole["lines"].setdefault(path, {}).setdefault(line, []).extend(tests)
    return whole


class _Measuring:
    """A pytest plugin: coverage by test, and the seconds of those that pass."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        self.coverage.switch_context(item.nodeid)
        result = yield
        self.coverage.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.passed:
            self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        else:
            self.seconds[report.nodeid] = float("-inf")


def measure(part: str, files: Sequence[str]) -> None:
    """Run these files under coverage and write what they cover."""
    import coverage

    measuring = coverage.Coverage(data_file=None, include=["otel_pipeline/*"], config_file=False)
    measuring.start()
    plugin = _Measuring(measuring)
    pytest.main([*COMMON, *files], plugins=[plugin])
    measuring.stop()
    seconds = {test: took for test, took in plugin.seconds.items() if took >= 0}
    data, lines = measuring.get_data(), {}
    for file in data.measured_files():
        lines[str(Path(file).relative_to(ROOT))] = {
            line: [test for test in tests if test in seconds] for line, tests in data.contexts_by_lineno(file).items()
        }
    Path(part).write_text(json.dumps({"seconds": seconds, "lines": lines}))
    os._exit(0)


class _Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Loads one module from other source than its file's."""

    def __init__(self, module: str, path: str, code: str) -> None:
        super().__init__(module, path)
        self._code = compile(code, path, "exec", dont_inherit=True)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        del path, target
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> Any:
        del fullname
        return self._code


class _Chosen:
    """A pytest plugin: these tests, in this order; those that fail are kept."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {test: at for at, test in enumerate(tests)}
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def run(mutants: Sequence[Mutant], covering: Covering, jobs: int) -> Iterator[tuple[Mutant, list[str]]]:
    """Yield each mutant with the test that failed, or what else went wrong; some mutants run at a time."""
    _import_what_tests_need()
    waiting, running = list(mutants), {}
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant, said = waiting.pop(0), Path(folder) / f"{len(waiting)}"
                expected_s = sum(covering.seconds[test] for test in mutant.tests)
                pid = _fork(mutant.tests, said, mutant, "-x")
                running[pid] = mutant, said, time.monotonic() + 20 + 4 * expected_s
            time.sleep(0.02)
            for pid, (mutant, said, until) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del running[pid]
                    yield mutant, _failures(said, status)
                elif time.monotonic() > until:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    del running[pid]
                    yield mutant, ["(ran too long)"]


def failing(tests: Sequence[str]) -> list[str]:
    """Return the tests that fail with nothing changed: they prove nothing about a mutant."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "unchanged"
        _pid, status = os.waitpid(_fork(tests, said), 0)
        return _failures(said, status)


def _failures(said: Path, status: int) -> list[str]:
    if not status:
        return []
    if said.is_file():
        return said.read_text().splitlines()
    lines = said.with_suffix(".output").read_text(errors="replace").strip().splitlines()
    return [f"({lines[-1] if lines else 'no word'})"]


def _import_what_tests_need() -> None:
    """Import once instead of in every fork; nothing of ours is imported."""
    for module in (
        *("hypothesis", "loguru", "kafka", "wrapt", "yaml", "confluent_kafka", "confluent_kafka.admin", "sklearn.svm"),
        *("opentelemetry.sdk.trace.export", "opentelemetry.sdk.metrics.export", "opentelemetry.sdk._logs.export"),
        *("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.exporter.otlp.proto.grpc.exporter"),
    ):
        importlib.import_module(module)
    ours = [name for name in sys.modules if name.startswith("otel_pipeline")]
    if ours:
        raise RuntimeError(f"imported before it could be changed: {ours}")


def _fork(tests: Sequence[str], said: Path, mutant: Mutant | None = None, *options: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        os.chdir(ROOT)
        output = os.open(said.with_suffix(".output"), os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(output, stream)
        if mutant is not None:
            module = mutant.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            sys.meta_path.insert(0, _Changed(module, str(ROOT / mutant.path), mutant.code))
        chosen = _Chosen(tests)
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        status = int(pytest.main([*COMMON, *options, *files], plugins=[chosen]))
        if chosen.failed:
            said.write_text("\n".join(chosen.failed))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2:])
