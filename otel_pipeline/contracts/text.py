"""What values are that come as bytes or text: JSON, which is parsed, or nothing that can be looked into."""

from __future__ import annotations

import json
from typing import Any

NOTHING = object()
"""Stands for no value to compare."""
NOT_READ = object()
"""Stands for a value that should be there but could not be read."""
SURE_AFTER = 100
"""After so many values that were all JSON, one that is not is unreadable."""
TEXTS = (str, bytes, bytearray, memoryview)
_SNIFFED = 64


class TextReader:
    """Reads values that come as bytes or text. Several threads may use it: a count may then miss one.

    Args:
        expected: whether they are known to be JSON; otherwise the first 100 decide, once.
        deserialized: whether a `str` is what the application's deserializer made: a value, not JSON text.
    """

    __slots__ = ("_decided", "_deserialized", "_expected", "_from_file", "_parsed", "objects")

    def __init__(self, *, expected: bool, deserialized: bool = False) -> None:
        self._from_file = self._expected = self._decided = expected
        self._deserialized = deserialized
        self._parsed = 0
        self.objects = False
        """Whether values come as objects: text among them is a value too, bytes are where they are no JSON."""

    def read(self, text: Any, size_bytes: int = 0) -> Any:
        """Return the value, NOTHING where none can be had, or NOT_READ where there should be one.

        Args:
            text: bytes or text.
            size_bytes: of the message's value.
        """
        if isinstance(text, str) and self._is_value(text, size_bytes):
            return text
        value = _parsed(text, anything=self._expected)
        if self.objects:
            return text if value is NOTHING else value
        if not self._decided:
            self._decide(value)
        return NOT_READ if value is NOTHING and self._expected else value

    def expect_anything(self) -> None:
        """Take what is no JSON for what it is from now on: there has always been some."""
        self._expected, self._decided = False, True

    def _is_value(self, text: str, size_bytes: int) -> bool:
        """Tell whether text is a value of its own. A file's JSON that was only decoded is as long as the message."""
        if not self._from_file:
            return self._deserialized or self.objects
        return self._deserialized and size_bytes != len(text.encode("utf-8", "surrogatepass"))

    def _decide(self, value: Any) -> None:
        if value is NOTHING:
            self._decided = True
            return
        self._parsed += 1
        if self._parsed >= SURE_AFTER:
            self._decided = self._expected = True


def _parsed(text: Any, *, anything: bool) -> Any:
    """Return what the JSON stands for; a bare number, text or null only where `anything` that is JSON is expected."""
    if not anything and text[:_SNIFFED].lstrip()[:1] not in ({"{", "["} if isinstance(text, str) else {b"{", b"["}):
        return NOTHING
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return NOTHING
