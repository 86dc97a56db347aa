"""What the terminal can do, and text that fits it: colour, width, line drawing, tables.

Everything that is drawn is readable without colour, and without UTF-8.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO
from unicodedata import east_asian_width

from otel_pipeline.cli.output import steering
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "1;31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_LONGEST_S = 1e12
"""What is longer, or no number, was not measured."""
NARROW = 24
"""Columns that a sentence gets at least, wherever it begins."""
SERVICE_COLORS = ("cyan", "magenta", "yellow", "blue", "green")


@dataclass(frozen=True)
class Terminal:
    """How to draw. `width` is None where nothing needs to be cut: a file or a pipe."""

    color: bool = False
    unicode: bool = True
    width: int | None = None

    def paint(self, text: str, style: str) -> str:
        """Return the text in a style, or as it is where there is no colour."""
        if not (self.color and style and text):
            return text
        return steering(f"\x1b[{_CODES[style]}m") + text + steering("\x1b[0m")

    def mark(self, name: str) -> str:
        """Return a drawing character by name, in ASCII where the terminal needs it."""
        return _MARKS[name][0 if self.unicode else 1]


_MARKS = {
    "tee": ("├─ ", "|- "),
    "corner": ("└─ ", "`- "),
    "pipe": ("│  ", "|  "),
    "blank": ("   ", "   "),
    "arrow": ("→", "->"),
    "dot": ("·", "-"),
    "cut": ("…", "..."),
    "rule": ("─", "-"),
}


@dataclass(frozen=True)
class Cell:
    """A piece of text in a table; it may be anybody's."""

    text: str
    style: str = ""
    right: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))


def add_color_option(parser: argparse.ArgumentParser) -> None:
    """Add `--no-color`, for every command that draws."""
    parser.add_argument("--no-color", action="store_true", help="no colour (also: NO_COLOR=1, or a pipe)")


def detect(stream: TextIO, *, no_color: bool = False, environ: Mapping[str, str] = os.environ) -> Terminal:
    """Find out what `stream` can show."""
    tty = stream.isatty()
    width: int | None = None
    if tty or environ.get("COLUMNS", "").isdigit():
        width = shutil.get_terminal_size((100, 24)).columns
    return Terminal(
        color=not no_color and _colors(environ, tty=tty), unicode=_draws(stream.encoding or "ascii"), width=width
    )


def _colors(environ: Mapping[str, str], *, tty: bool) -> bool:
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    # An old Windows console prints the codes as they are.
    known = os.name != "nt" or "WT_SESSION" in environ or "TERM" in environ
    return tty and known and environ.get("TERM") != "dumb"


def _draws(encoding: str) -> bool:
    try:
        "├─└│→·…".encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def columns(text: str) -> int:
    """Count the columns that a text takes; East Asian characters take two."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def cut(text: str, width: int | None, terminal: Terminal) -> str:
    """Cut the text short, with a mark at its end, where it does not fit."""
    text = printable(text)
    if width is None or columns(text) <= width:
        return text
    end = terminal.mark("cut")
    room, kept = width - len(end), ""
    for letter in text:
        room -= columns(letter)
        if room < 0:
            break
        kept += letter
    return kept + end


def wrap(parts: Sequence[str], terminal: Terminal, indent: str = "") -> Iterator[str]:
    """Lay out the parts with dots between them, on as many lines as they need."""
    separator = f" {terminal.mark('dot')} "
    line = ""
    for part in map(printable, parts):
        if line and terminal.width is not None and columns(indent + line + separator + part) > terminal.width:
            yield indent + line
            line = ""
        line += separator + part if line else cut(part, terminal.width and terminal.width - columns(indent), terminal)
    if line:
        yield indent + line


def fold(text: str, width: int | None) -> Iterator[str]:
    """Yield the text on as many lines as it needs; only a word that is longer than a line is broken."""
    text = printable(text)
    if width is None or columns(text) <= width:
        yield text
        return
    line = ""
    for word in text.split(" "):
        if line and columns(f"{line} {word}") > width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
        while (fitting := _fitting(line, width)) < len(line):
            yield line[:fitting]
            line = line[fitting:]
    yield line


def _fitting(text: str, width: int) -> int:
    """Return how many letters fit, at least one."""
    if columns(text) <= width:
        return len(text)
    taken = 0
    for at, letter in enumerate(text):
        taken += columns(letter)
        if taken > width:
            return max(at, 1)
    return len(text)


def hang(text: str, terminal: Terminal, style: str = "", first: str = "  ", rest: str = "    ") -> Iterator[str]:
    """Yield a sentence that is never cut, with what stands before its first line and before the others."""
    width = None if terminal.width is None else max(terminal.width - columns(rest), NARROW)
    for at, line in enumerate(fold(text, width)):
        yield terminal.paint((rest if at else first) + line, style)


def facts(pairs: Sequence[tuple[str, Cell]], terminal: Terminal) -> Iterator[str]:
    """Lay out names and what is to be said about them, on as many lines as that needs."""
    width = max(columns(name) for name, _ in pairs)
    for name, cell in pairs:
        room = None if terminal.width is None else max(terminal.width - width - 2, NARROW)
        for at, line in enumerate(fold(cell.text, room)):
            yield f"{'' if at else name:{width}}  {terminal.paint(line, cell.style)}".rstrip()


def table(rows: Sequence[Sequence[Cell]], terminal: Terminal, gap: str = "  ") -> Iterator[str]:
    """Align the columns of the rows, cut to the width. Columns that are empty below the heading are left out."""
    used = [at for at in range(len(rows[0])) if any(row[at].text for row in rows[1:])]
    widths = {at: max(columns(row[at].text) for row in rows) for at in used}
    for row in rows:
        line, plain = "", ""
        for cell, width in ((row[at], widths[at]) for at in used):
            blank = " " * (width - columns(cell.text))
            before = (gap if plain else "") + (blank if cell.right else "")
            room = None if terminal.width is None else terminal.width - columns(plain + before)
            if room is not None and room < 1:
                break
            line += before + terminal.paint(cut(cell.text, room, terminal), cell.style) + ("" if cell.right else blank)
            plain += before + cell.text + ("" if cell.right else blank)
        yield line.rstrip()


def whole_table(rows: Sequence[Sequence[Cell]], terminal: Terminal, beside: int) -> Iterator[str]:
    """Yield the table; where it does not fit, only the first columns stand beside each other, the others below them."""
    if fits(rows, terminal):
        yield from table(rows, terminal)
        return
    lines = list(table([row[:beside] for row in rows], terminal))
    yield lines[0]
    for line, row in zip(lines[1:], rows[1:], strict=True):
        yield line
        named = zip(rows[0][beside:], row[beside:], strict=True)
        yield from wrap([f"{name.text} {cell.text}" for name, cell in named if cell.text], terminal, indent="    ")


def fits(rows: Sequence[Sequence[Cell]], terminal: Terminal) -> bool:
    """Tell whether nothing of the table would be cut."""
    return terminal.width is None or max(map(columns, table(rows, Terminal()))) <= terminal.width


def duration(seconds: float) -> str:
    """Write a time for people: 0.04 ms, 3.2 ms, 412 ms, 1.25 s, 4 min 10 s, 3 h 5 min, 2 d 3 h."""
    if seconds < 0 or not seconds < _LONGEST_S:
        return "-" + duration(-seconds) if seconds < 0 else "?"
    ms = seconds * 1000
    if round(ms, 2) < 1:
        return f"{ms:.2f} ms"
    if round(ms, 1) < 10:  # noqa: PLR2004
        return f"{ms:.1f} ms"
    if round(ms) < 1000:  # noqa: PLR2004
        return f"{ms:.0f} ms"
    if round(seconds, 2) < 60:  # noqa: PLR2004
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    raise AssertionError
