# ruff: noqa: T201 - what is printed is tried
"""Nothing that was not meant for the terminal reaches it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from otel_pipeline.cli.output import Output, as_json, harmless_output, steering
from otel_pipeline.cli.terminal import Cell, Terminal
from otel_pipeline.plain_text import printable

CONTROLS = [
    *map(chr, range(32)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\U000e0041",
]


@pytest.mark.parametrize("letter", CONTROLS, ids=lambda letter: f"{ord(letter):x}")
def test_what_steers_a_terminal_is_spelt_out(letter):
    """Control characters of both sets, and those that turn the direction of writing; only the end of a line is one."""
    stream = io.StringIO()
    print(f"a{letter}b", file=Output(stream))

    assert stream.getvalue() == ("a\nb\n" if letter == "\n" else f"a{letter.encode('unicode_escape').decode()}b\n")


def test_ordinary_text_is_as_it_was():
    """In any script."""
    stream = io.StringIO()
    Output(stream).write("日本語 → größer\nzwei\n")

    assert stream.getvalue() == "日本語 → größer\nzwei\n"


def test_what_is_meant_for_the_terminal_reaches_it():
    """Colours; a colour that somebody wrote into a text does not."""
    stream = io.StringIO()
    print(Terminal(color=True).paint(Cell("a\x1b[32mb").text, "red"), file=Output(stream))

    assert stream.getvalue() == "\x1b[1;31ma\\x1b[32mb\x1b[0m\n"


def test_nobody_can_write_what_is_meant_for_the_terminal():
    """The key is another one in each process; a part of it is nothing."""
    forged = [steering("x").replace(steering("x")[1:17], "0" * 16), steering("x")[:-1], steering("x")[1:]]
    stream = io.StringIO()
    for text in forged:
        Output(stream).write(text)

    assert "\0" not in stream.getvalue()


def test_all_that_is_printed_goes_through_it(capsys):
    """On both streams, whoever prints it; afterwards they are what they were."""
    with harmless_output():
        print("\x1b[2J")
        sys.stderr.write("\u202e")
    print("\x1b")

    assert capsys.readouterr() == ("\\x1b[2J\n\x1b\n", "\\u202e")


def test_a_stream_that_is_closed_is_none(monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr(sys, "stdout", None)
    with harmless_output():
        print("a")


def test_a_surrogate_is_spelt_out():
    """It can be encoded nowhere."""
    assert printable("a\udcff") == "a\\udcff"


def test_json_is_plain_and_valid():
    """Whatever it holds: text, bytes of a terminal, and numbers that are none."""
    value = {"text": "\x1b\x7f\u202e\udcff", "numbers": (1.5, float("nan"), [float("inf"), -float("inf")])}
    text = as_json(value)

    assert (text.isascii(), text.replace("\n", "").isprintable()) == (True, True)
    assert json.loads(text) == {**value, "numbers": [1.5, "NaN", ["Infinity", "-Infinity"]]}
