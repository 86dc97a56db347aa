"""Who can read whom, change by change."""

from __future__ import annotations

import pytest

from otel_pipeline.contracts.comparing import Change, compare, verdict
from otel_pipeline.contracts.contract import Contract, Field

R, O = True, False  # noqa: E741


def contract(**fields):
    table = {"$": Field(("object",), True)}
    for path, (types, required) in fields.items():
        table[path.replace("__", ".").replace("_any", "*").replace("_items", "[]")] = Field(
            tuple(types.split()), required
        )
    return Contract("orders", table)


ROWS = [
    ("add optional", {}, {"a": ("int", O)}, Change("a", "added optional", True, True)),
    ("remove optional", {"a": ("int", O)}, {}, Change("a", "removed optional", True, True)),
    ("add required", {}, {"a": ("int", R)}, Change("a", "added required", False, True)),
    ("remove required", {"a": ("int", R)}, {}, Change("a", "removed required", True, False)),
    ("optional to required", {"a": ("int", O)}, {"a": ("int", R)}, Change("a", "became required", False, True)),
    ("required to optional", {"a": ("int", R)}, {"a": ("int", O)}, Change("a", "became optional", True, False)),
    ("int to float", {"a": ("int", R)}, {"a": ("float", R)}, Change("a", "int -> float", True, False)),
    ("float to int", {"a": ("float", R)}, {"a": ("int", R)}, Change("a", "float -> int", False, True)),
    ("and null", {"a": ("int", R)}, {"a": ("int null", R)}, Change("a", "int -> int or null", True, False)),
    ("a type more", {"a": ("int", R)}, {"a": ("int str", R)}, Change("a", "int -> int or str", True, False)),
    ("a type less", {"a": ("int str", R)}, {"a": ("int", R)}, Change("a", "int or str -> int", False, True)),
    ("another type", {"a": ("int", R)}, {"a": ("str", R)}, Change("a", "int -> str", False, False)),
    ("not known before", {"a": ("null", R)}, {"a": ("null str", R)}, Change("a", "null -> null or str", True, True)),
    (
        "named to any, optional",
        {"m": ("object", R), "m__x": ("int", O), "m__y": ("int", O)},
        {"m": ("object", R), "m___any": ("int", O)},
        Change("m.*", "named fields became *", True, True),
    ),
    (
        "named to any, required",
        {"m": ("object", R), "m__x": ("int", R)},
        {"m": ("object", R), "m___any": ("int", O)},
        Change("m.*", "named fields became *", True, False),
    ),
    (
        "any to named",
        {"m": ("object", R), "m___any": ("int", O)},
        {"m": ("object", R), "m__x": ("int", R)},
        Change("m.*", "* became named fields", False, True),
    ),
    (
        "an object, named once",
        {},
        {"m": ("object", O), "m__x": ("int", R), "m__y": ("str", R)},
        Change("m", "added optional", True, True),
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_table(old, new, expected):
    """A row each."""
    assert compare(contract(**old), contract(**new)) == [expected]


@pytest.mark.parametrize(("old", "new", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_other_way_round(old, new, expected):
    """What is backward one way is forward the other."""
    (change,) = compare(contract(**new), contract(**old))

    assert (change.backward, change.forward) == (expected.forward, expected.backward)


def test_items_that_were_never_seen():
    """Nothing was agreed on."""
    old = contract(a=("array", R))
    new = contract(a=("array", R), a_items=("object", O), a_items__x=("int", R))

    assert compare(old, new) == []


def test_nothing_changed():
    """Full."""
    one = contract(a=("int", R))

    assert (compare(one, one), verdict([])) == ([], "full")


@pytest.mark.parametrize(
    ("directions", "expected"),
    [
        ([(True, True)], "full"),
        ([(True, True), (True, False)], "backward"),
        ([(False, True)], "forward"),
        ([(True, False), (False, True)], "none"),
    ],
)
def test_verdict(directions, expected):
    """What holds for every change."""
    assert verdict(Change("a", "what", *pair) for pair in directions) == expected
