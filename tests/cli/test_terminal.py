from __future__ import annotations

import io

import pytest

from otel_pipeline.cli.terminal import Cell, Terminal, cut, detect, duration, facts, fold, table, whole_table


class Stream(io.TextIOWrapper):
    def __init__(self, encoding="utf-8", *, tty=True):
        super().__init__(io.BytesIO(), encoding)
        self._tty = tty

    def isatty(self):
        return self._tty


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.00 ms"),
        (0.000_04, "0.04 ms"),
        (0.000_999, "1.0 ms"),
        (0.0032, "3.2 ms"),
        (0.009_99, "10 ms"),
        (0.412, "412 ms"),
        (0.9999, "1.00 s"),
        (1.254, "1.25 s"),
        (59.999, "1 min"),
        (250, "4 min 10 s"),
        (11_100, "3 h 5 min"),
        (183_600, "2 d 3 h"),
        (-0.3, "-300 ms"),
    ],
)
def test_durations_for_people(seconds, words):
    """Three digits at most, and two units; a clock that is behind gives a minus."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("environ", "tty", "no_color", "color"),
    [
        ({"TERM": "xterm"}, True, False, True),
        ({"TERM": "xterm"}, False, False, False),
        ({"TERM": "dumb"}, True, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False, True),
        ({"TERM": "xterm"}, True, True, False),
        ({"FORCE_COLOR": "1"}, False, False, True),
        ({"FORCE_COLOR": "1"}, False, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False, False),
    ],
)
def test_when_there_is_colour(environ, tty, no_color, color):
    """On a terminal, unless somebody said no."""
    assert detect(Stream(tty=tty), no_color=no_color, environ=environ).color is color


@pytest.mark.parametrize(("encoding", "draws"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_when_there_are_lines(encoding, draws):
    """Only where the encoding has them."""
    assert detect(Stream(encoding), environ={}).unicode is draws


def test_a_pipe_has_no_width():
    """What goes into a file is not cut."""
    assert detect(Stream(tty=False), environ={}).width is None


def test_a_text_is_cut_by_columns():
    """East Asian characters take two columns."""
    assert cut("日本語のトピック", 8, Terminal()) == "日本語…"


def test_a_table_is_cut_to_the_width():
    """A row ends where the terminal does."""
    rows = [[Cell("name"), Cell("n", right=True)], [Cell("abcdef"), Cell("12", right=True)]]

    assert list(table(rows, Terminal(width=9))) == ["name", "abcdef  …"]


def test_columns_with_nothing_in_them_are_left_out():
    """A heading alone says nothing."""
    rows = [[Cell("a"), Cell("empty"), Cell("b")], [Cell("1"), Cell(""), Cell("2")]]

    assert list(table(rows, Terminal())) == ["a  b", "1  2"]


def test_a_sentence_is_folded_between_words():
    """By columns; only a word that is longer than a line is broken, and nothing is lost."""
    assert list(fold("aa bbb cccc ddddddddddd e", 6)) == ["aa bbb", "cccc", "dddddd", "ddddd", "e"]
    assert list(fold("日本語 のト", 6)) == ["日本語", "のト"]
    assert list(fold("日本語", 1)) == ["日", "本", "語"]
    assert (list(fold("aa bb", None)), list(fold("", 5)), list(fold("a\nb", 80))) == (["aa bb"], [""], ["a\\nb"])


def test_facts_are_never_cut():
    """They go on below."""
    assert list(facts([("name", Cell("a" * 20 + " " + "b" * 20)), ("n", Cell("x"))], Terminal(width=30))) == [
        "name  " + "a" * 20,
        "      " + "b" * 20,
        "n     x",
    ]


def test_a_table_that_does_not_fit_is_told_in_lines():
    """The first columns beside each other, the others by name."""
    rows = [[Cell("a"), Cell("n", right=True), Cell("text")], [Cell("x"), Cell("12", right=True), Cell("some words")]]

    assert list(whole_table(rows, Terminal(width=80), beside=2)) == ["a   n  text", "x  12  some words"]
    assert list(whole_table(rows, Terminal(width=12), beside=2)) == ["a   n", "x  12", "    text so…"]
