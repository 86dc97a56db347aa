"""Change one thing in engine, contracts, order or lights, run the tests that cover it: does one of them fail?

python scripts/mutants.py [--count 300] [--seed 8] [--jobs 2] [--tests FOLDER ...] [--] [PATH ...]

cosmic-ray makes the changes. Its own runner writes each into the source file and runs one command for all of them;
mutmut leaves module-level constants, default arguments and decorated functions as they are, and our limits are
module-level constants. So the sample, the choice of tests and the forks are here.

The sample is stable: a place is drawn by a hash of its own text, so that a change elsewhere draws no other places.
Ends with 1 where fewer than 85 % are killed, or where a survivor has no row in docs/contributing.md.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cosmic_ray import plugins  # noqa: E402 - an extra of its own
from cosmic_ray.ast import Visitor, get_ast  # noqa: E402
from cosmic_ray.mutating import mutate_code  # noqa: E402

from scripts import covering_tests  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GROUPS = (
    ("engine/*", "contracts/*"),
    (
        *(f"detectors/{name}" for name in ("partition_order", "producer_numbers", "producer_window", "order")),
        *(f"verdict/{name}" for name in ("light", "lights", "pace", "fresh", "order", "delivered", "contract")),
    ),
)
"""As many are drawn from each: order and lights are few lines, on which much depends."""
PAGE = ROOT / "docs/contributing.md"
WANTED = 0.85
SURVIVED, KILLED, UNCOVERED = "survived", "killed", "not covered"
OPERATORS = (
    *(
        f"ReplaceComparisonOperator_{change}"
        for change in (
            *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
        )
    ),
    *(
        f"ReplaceBinaryOperator_{change}"
        for change in (
            *("Add_Sub", "Sub_Add", "Mul_Div", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv"),
            *("LShift_RShift", "RShift_LShift", "BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitAnd"),
        )
    ),
    *("NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("AddNot", "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop", "ExceptionReplacer"),
)
"""What is changed: each into what a slip of the pen would make of it, not into what no test could miss."""


@dataclass
class Mutant:
    """One change of one place."""

    path: str
    function: str
    line: int
    before: str
    after: str
    code: str
    result: str = ""
    by: str = ""
    tests: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"`{self.path.removeprefix('otel_pipeline/')}` `{self.function}`: `{self.after}`"


class _Positions(Visitor):
    """Where an operator finds something to change; the index is cosmic-ray's "occurrence"."""

    def __init__(self, operator: object) -> None:
        self.operator = operator
        self.found: list[tuple[int, int]] = []

    def visit(self, node: object) -> object:
        self.found += [start for start, _end in self.operator.mutation_positions(node)]
        return node


def places(path: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return the possible changes of each place, (operator, occurrence); what says nothing of behaviour is left out."""
    source = ROOT.joinpath(path).read_text()
    found: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    idle = list(_left_out(ast.parse(source)))
    tree = get_ast(source)
    for name in OPERATORS:
        positions = _Positions(plugins.get_operator(f"core/{name}")())
        positions.walk(tree)
        for occurrence, place in enumerate(positions.found):
            if not any(start <= place < end for start, end in idle):
                found[place].append((name, occurrence))
    return found


def _left_out(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield what says nothing of behaviour: annotations, imports for type checkers only, decorators of classes."""
    for node in ast.walk(tree):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation):
            parts.append(node.value)
        if isinstance(node, ast.ClassDef):
            parts += node.decorator_list
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            parts.append(node)
        for part in parts:
            if isinstance(part, ast.AST):
                yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)


def function_at(tree: ast.Module, line: int) -> str:
    """Name the innermost function or class that holds the line, or what a module's line assigns."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.lineno <= line <= (node.end_lineno or 0):
                names.append((node.lineno, node.name))
        elif isinstance(node, ast.Assign) and node in tree.body and node.lineno <= line <= (node.end_lineno or 0):
            names.append((0, ast.unparse(node.targets[0])))
    return ".".join(name for _line, name in sorted(names)) or "module"


def sample(paths: list[str], count: int, seed: int) -> list[Mutant]:
    """Draw the mutants to try."""
    drawn = []
    for path in paths:
        source = ROOT.joinpath(path).read_text()
        lines, tree, met = source.splitlines(), ast.parse(source), Counter()
        for (line, column), changes in sorted(places(path).items()):
            text = lines[line - 1].strip()
            function = function_at(tree, line)
            met[function, text, column] += 1
            indent = len(lines[line - 1]) - len(lines[line - 1].lstrip())
            name = f"{seed} {path} {function} {text} {column - indent} {met[function, text, column]}"
            number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
            operator, occurrence = changes[number % len(changes)]
            drawn.append((number, path, function, line, operator, occurrence))
    mutants = []
    for _number, path, function, line, operator, occurrence in sorted(drawn)[:count]:
        source = ROOT.joinpath(path).read_text()
        code = mutate_code(source, plugins.get_operator(f"core/{operator}")(), occurrence)
        before, after = _changed_line(source, code, line)
        mutants.append(Mutant(path, function, line, before, after, code))
    return mutants


def _changed_line(source: str, code: str, line: int) -> tuple[str, str]:
    """Return the line before and after; cosmic-ray may change one further down than it says."""
    pairs = list(zip(source.splitlines(), code.splitlines(), strict=False))
    before, after = next((pair for pair in pairs[line - 1 :] if pair[0] != pair[1]), pairs[line - 1])
    return before.strip(), " ".join(after.split())


def report(mutants: list[Mutant], seconds: float) -> int:
    """Say how many were killed, and which were not; return 1 where that is not enough."""
    counted = Counter(mutant.result for mutant in mutants)
    listed = PAGE.read_text() if PAGE.is_file() else ""
    alive = [mutant for mutant in mutants if mutant.result != KILLED]
    for mutant in sorted(alive, key=str):
        row = " " if str(mutant) in listed else "*"
        print(f"{row} {mutant.result}: {mutant.path}:{mutant.line}\n    - {mutant.before}\n    + {mutant.after}")
    for path in sorted({mutant.path for mutant in mutants}):
        of_path = Counter(mutant.result == KILLED for mutant in mutants if mutant.path == path)
        print(f"{of_path[True]:>4} of {of_path.total():<4} {path}")
    unlisted = [mutant for mutant in alive if str(mutant) not in listed]
    score = counted[KILLED] / len(mutants)
    print(f"{counted[KILLED]} of {len(mutants)} killed ({score:.1%}) in {seconds:.0f} s, {len(alive)} survived")
    if unlisted:
        print(f"{len(unlisted)} survivors (*) have no row in {PAGE.relative_to(ROOT)}:")
        print("\n".join(f"| {mutant} | |" for mutant in unlisted))
    return int(score < WANTED or bool(unlisted))


def _paths(group: Iterable[str]) -> list[str]:
    return [str(path.relative_to(ROOT)) for each in group for path in sorted(ROOT.glob(f"otel_pipeline/{each}.py"))]


def main() -> int:
    """Try the mutants; return 0 when enough are killed and every survivor is accounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="modules to change; otherwise engine, contracts, order and lights")
    parser.add_argument("--count", type=int, default=300, help="of each group, or of the paths")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--at-most", type=float, default=40.0, metavar="S", help="of tests for one mutant, in seconds")
    parser.add_argument("--tests", nargs="*", default=["tests"], help="folders whose tests are run; all otherwise")
    options = parser.parse_args()
    began = time.monotonic()
    groups = [options.paths] if options.paths else [_paths(group) for group in GROUPS]
    mutants = [mutant for paths in groups for mutant in sample(paths, options.count, options.seed)]
    covering = covering_tests.load(options.jobs, options.tests)
    for mutant in mutants:
        mutant.tests = covering.of_line(mutant.path, mutant.line, options.at_most)
        if not mutant.tests:
            mutant.result = UNCOVERED
    print(f"{len(mutants)} mutants, tests chosen after {time.monotonic() - began:.0f} s", flush=True)
    waiting = [mutant for mutant in mutants if mutant.tests]
    for mutant, failures in covering_tests.run(waiting, covering, options.jobs):
        mutant.result, mutant.by = (KILLED, failures[0]) if failures else (SURVIVED, "")
        print(
            f"{time.monotonic() - began:6.0f} s {mutant.result:<8} {mutant.path}:{mutant.line} {mutant.by}", flush=True
        )
    proving_nothing = covering_tests.failing([mutant.by for mutant in waiting if "::" in mutant.by])
    for mutant in waiting:
        if mutant.by in proving_nothing:
            mutant.result = f"{SURVIVED} ({mutant.by} fails without it, too)"
    return report(mutants, time.monotonic() - began)


if __name__ == "__main__":
    raise SystemExit(main())
