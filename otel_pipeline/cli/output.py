"""What commands print: all of it goes through `Output`, which spells out whatever would steer a terminal.

Names, texts and even numbers of files and messages are anybody's. Colours and the like are ours where they come from
`steering`: it wraps them in a key of this process, which nothing that was written before can have in it.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from math import isfinite
from typing import TYPE_CHECKING, Any, TextIO, cast

from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = secrets.token_hex(8)
_STEERING = re.compile(f"\0{_KEY}([^\0]*)\0")


def steering(code: str) -> str:
    """Wrap a code that is to reach the terminal as it is."""
    return f"\0{_KEY}{code}\0"


class Output:
    """A stream that spells out what was not meant for the terminal; all else is the stream's.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text with its lines as they are."""
        if text.isprintable() or text == "\n":
            return self._stream.write(text)
        parts = _STEERING.split(text)
        parts[::2] = ("\n".join(map(printable, part.split("\n"))) for part in parts[::2])
        return self._stream.write("".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def harmless_output() -> Iterator[None]:
    """Send everything that is printed meanwhile through `Output`."""
    out, err = (None if stream is None else _harmless(stream) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield


def _harmless(stream: TextIO) -> TextIO:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # What the terminal's encoding lacks is spelt out as well.
    return cast("TextIO", Output(stream))


def as_json(value: Any, **options: Any) -> str:
    """Write JSON in plain characters; numbers that JSON has not are texts, as OTLP has them."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False, **options)
    except ValueError:
        text = json.dumps(_finite(value), indent=2, **options)
    return text.replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - only NaN is not itself
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
