"""A function's docstring opens with a verb, in the imperative; ruff's D401 knows few of the words that are none."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FOLDERS = ("otel_pipeline", "examples", "real", "scripts")
WORDS = """
a an the this that these those its all any both each every either neither some many more most no none not nothing nobody
what which who whose whether where when while how why if as so then there here first last next same such other another
one two three four five in of on at by for from to with without within under before after between beside since until
it they we you is are was were has have had may might must can could will would shall false true only also
their our your unknown once surely newer older newest oldest
"""
NO_VERBS = frozenset(WORDS.split())
A_VERB = re.compile(r"[A-Z][a-z]+(?<![a-z]{3}ing)(?<!(?<!e)ed)(?<![^s]s)\Z")
"""No abbreviation, number, participle, plural or third person."""


def opens_with_a_verb(docstring: str) -> bool:
    word = docstring.split(maxsplit=1)[0].rstrip(",.:;")
    return A_VERB.match(word) is not None and word.lower() not in NO_VERBS


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not any(
            "property" in ast.unparse(each) or ast.unparse(each).endswith((".setter", ".getter"))
            for each in node.decorator_list
        ):
            yield node


def openings(folder: str) -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for function in functions(ast.parse(path.read_text("utf-8"))):
            if docstring := ast.get_docstring(function):
                yield f"{name}:{function.lineno}", docstring


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_functions_docstring_opens_with_a_verb(folder):
    others = [f"{at} {text.splitlines()[0]}" for at, text in openings(folder) if not opens_with_a_verb(text)]

    assert others == []


@pytest.mark.parametrize(
    ("docstring", "verb"),
    [
        ("Return the age, s.", True),
        ("Process a message.", True),
        ("Bring it up to date.", True),
        ("Need no more.", True),
        ("End, without waiting.", True),
        ("The age, s.", False),
        ("Whether it is late.", False),
        ("Messages that are late.", False),
        ("Returns the age.", False),
        ("Failed sends.", False),
        ("Waiting.", False),
        ("5 at most.", False),
        ("`None` without one.", False),
        ("JSON of it.", False),
    ],
)
def test_what_is_taken_for_a_verb(docstring, verb):
    assert opens_with_a_verb(docstring) is verb
