"""What growing costs: files and lines that one change takes, against what docs/contributing.md promises.

    python scripts/change_costs.py [--check]

Lines of code are those that are neither empty, nor a comment, nor a docstring; tests and generated pages do not count.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Change:
    """One thing that was added, and where."""

    name: str
    files: tuple[str, ...]
    """With `path:name` for one assignment or entry of a file that has others, too."""
    most_files: int
    most_lines: int


CHANGES = (
    Change(
        "a Kafka client: kafka-python",
        (
            "otel_pipeline/brokers/kafka/kafka_python.py",
            "otel_pipeline/brokers/kafka/kafka_python_fetches.py",
            "otel_pipeline/registry.py:kafka-python",
        ),
        3,
        350,
    ),
    Change(
        "a Kafka client: aiokafka, one by one",
        ("otel_pipeline/brokers/kafka/aiokafka.py", "otel_pipeline/registry.py:aiokafka"),
        3,
        300,
    ),
    Change(
        "a broker that is no Kafka: the adapter of the one in memory",
        ("examples/in_memory_broker/in_memory_broker_otel.py",),
        1,
        60,
    ),
)


def code_lines(text: str) -> set[int]:
    """The numbers of the lines that have code on them."""
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found - documented


def count(where: str) -> tuple[int, int]:
    """Lines of code and all lines, of a file or of the row of that name in it."""
    path, _, name = where.partition(":")
    text = (ROOT / path).read_text("utf-8")
    lines = set(range(1, text.count("\n") + 1))
    if name:
        (row,) = (
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call)
            and any(isinstance(each.value, ast.Constant) and each.value.value == name for each in node.keywords)
        )
        lines = set(range(row.lineno, (row.end_lineno or row.lineno) + 1))
    return len(code_lines(text) & lines), len(lines)


def main() -> int:
    """Returns 1 when --check finds a change that takes more than was promised."""
    print("| change | files | at most | lines of code | at most | all lines |")
    print("|---|--:|--:|--:|--:|--:|")
    more = False
    for change in CHANGES:
        counts = [count(where) for where in change.files]
        code, lines = (sum(each) for each in zip(*counts, strict=True))
        more |= len(change.files) > change.most_files or code > change.most_lines
        print(f"| {change.name} | {len(change.files)} | {change.most_files} | {code} | {change.most_lines} | {lines} |")
    return int(more and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
