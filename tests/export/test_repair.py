"""What is put in the place of what no encoder takes, and that all else is left as it is."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_pipeline.export.repair import Repair
from tests.limits import below_at_above


class NoText:
    def __str__(self):
        raise RuntimeError


class Text:
    def __str__(self):
        return "its text"


def span(attributes):
    """A span that holds these, whatever they are."""
    made = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("name")
    made._attributes = attributes
    return made


def repaired(value):
    """What becomes of an attribute's value."""
    return Repair().spans([span({"key": value})])[0].attributes["key"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("half \ud800", "half \ufffd"),
        ("\udce9t\udce9", "\ufffdt\ufffd"),
        (["a", "\ud800"], ["a", "\ufffd"]),
        ({"in": {"\ud800": "\ud800"}}, {"in": {"\ufffd": "\ufffd"}}),
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775809"),
        (2**5000, "an integer of 5001 bits"),
        (Text(), "its text"),
        (NoText(), "<NoText>"),
    ],
)
def test_what_cannot_be_encoded(value, expected):
    assert repaired(value) == expected


@pytest.mark.parametrize(
    "value",
    ["text", "\U0001f600", 2**63 - 1, -(2**63), 1.5, True, None, b"\xff", [1, 2], {"a": {"b": 1}}, "x" * 10_000],
)
def test_what_can_be_is_the_same_object(value):
    given = span({"key": value})
    repair = Repair()

    assert repair.spans([given])[0] is given
    assert repair.changed == 0


@below_at_above("bytes of a text that had to be repaired", 4096, 4095, 4096, 4096)
def test_a_repaired_text_is_cut(size, outcome):
    assert len(repaired("\ud800" + "x" * (size - 3)).encode()) == outcome


@below_at_above("export.repair.MAX_DEPTH", 16, True, True, False)
def test_what_is_nested_too_deep_is_cut_off(size, outcome):
    value = "\ud800"
    for _ in range(size):
        value = [value]
    found = repaired(value)
    while isinstance(found, list):
        (found,) = found

    assert found == ("\ufffd" if outcome else "nested more than 16 deep")
