"""No option is a dead promise: code outside of the configuration reads each of them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import otel_pipeline
from otel_pipeline.owners import own_settings
from otel_pipeline.settings import option, options

ROOT = Path(otel_pipeline.__file__).parent
SOURCES = [path.read_text("utf-8") for path in ROOT.rglob("*.py") if path.parent.name != "config"]


def declaring():
    """All classes that declare options, those that named things are made of too."""
    for owner in own_settings():
        yield owner
        yield from (declared.each for _, declared in options(owner) if declared.each is not None)


class Reads(ast.NodeVisitor):
    """What one module reads from objects that can be told to be settings.

    They are known by an annotation, by `.of(Owner)`, `.destination(Owner, name)`, `.said(Owner)`, by a name that ends with `settings`,
    by the name of a thing (`objective`), and by being assigned from one of these.
    """

    def __init__(self, owners):
        self._owners = {owner.__name__ for owner in owners}
        self._words = {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() for name in self._owners}
        self._known = set()
        self.found = set()
        self.in_methods = {}
        """What owners' own methods read, by the method's name, or by what `__post_init__` makes of it."""

    def of(self, source):
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
                if self._owners & set(re.findall(r"\w+", ast.unparse(node.annotation))):
                    self._known.add(node.arg if isinstance(node, ast.arg) else ast.unparse(node.target))
            elif isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._assigned(node.targets[0], node.value)
        self.visit(tree)
        return self

    def _assigned(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, of_it in zip(target.elts, value.elts, strict=False):
                self._assigned(each, of_it)
        elif isinstance(target, ast.Name) and self._is_settings(value):
            self._known.add(target.id)

    def _is_settings(self, node):
        if isinstance(node, ast.Call):
            asked = isinstance(node.func, ast.Attribute) and node.func.attr in ("of", "destination", "said")
            return asked and bool(node.args) and ast.unparse(node.args[0]).rpartition(".")[2] in self._owners
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        word = name.lstrip("_")
        return name in self._known or word.endswith("settings") or word in self._words

    def visit_ClassDef(self, node):
        owner = node.name in self._owners
        for each in node.body:
            if owner and isinstance(each, ast.FunctionDef):
                self._in_method(each.name, each)
            else:
                self.visit(each)

    def _in_method(self, name, node):
        if name == "__post_init__":
            for call in (each for each in ast.walk(node) if isinstance(each, ast.Call) and len(each.args) == 3):
                self._in_method(ast.literal_eval(call.args[1]), call.args[2])
            return
        read = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
        self.in_methods.setdefault(name, set()).update(read)

    def visit_Attribute(self, node):
        if isinstance(node.ctx, ast.Load) and self._is_settings(node.value):
            self.found.add(node.attr)
        self.generic_visit(node)


def dead(owners, sources):
    """The options that nobody reads, by class and field."""
    modules = [Reads(owners).of(source) for source in sources]
    read = {name for module in modules for name in module.found}
    read |= {name for module in modules for by, names in module.in_methods.items() if by in read for name in names}
    return [f"{owner.__name__}.{field}" for owner in owners for field, _ in options(owner) if field not in read]


def test_each_option_is_read():
    """Outside of the configuration, and not only by what declares it."""
    assert dead(list(declaring()), SOURCES) == []


@dataclass(frozen=True)
class PlantedSettings:
    """What a test declares."""

    planted: int = option("planted", "count", 1, "An option.")


ONCE = """\
class PlantedSettings:
    def __post_init__(self):
        object.__setattr__(self, "twice", 2 * self.planted)
"""
PLANTED = {
    "nobody": ("", True),
    "the settings": ("def f(settings):\n    return settings.planted", False),
    "a parameter that is annotated": ("def f(given: PlantedSettings | None):\n    return given.planted", False),
    "the configuration, asked": ("limit = config.of(PlantedSettings).planted", False),
    "the configuration, asked for another": ("limit = config.of(Others).planted", True),
    "what was assigned": ("a, b = 1, self._settings\nif b.planted: pass", False),
    "who declares it, used": (
        "class PlantedSettings:\n    def twice(self):\n        return 2 * self.planted\nx = settings.twice()",
        False,
    ),
    "who declares it, unused": ("class PlantedSettings:\n    def twice(self):\n        return 2 * self.planted", True),
    "who declares it, once": (
        f"{ONCE}\nx = settings.twice",
        False,
    ),
    "who declares it, once and unused": (
        ONCE,
        True,
    ),
    "something else of that name": ("import flower\nflower.planted()", True),
    "who writes it": ("settings.planted = 1", True),
}


@pytest.mark.parametrize("reader", PLANTED)
def test_a_planted_option_is_found_dead_or_alive(reader):
    """By who reads it."""
    source, is_dead = PLANTED[reader]

    assert dead([PlantedSettings], [source]) == (["PlantedSettings.planted"] if is_dead else [])
