"""What bytes say of their schema: ids of a schema registry, or JSON, which is parsed."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

MAX_IDS = 16
OTHER = "other"
NOTHING = object()
"""Stands for no value to compare."""
NOT_READ = object()
"""Stands for a value that should be there but could not be read."""
SURE_AFTER = 100
"""After so many values that were all JSON, one that is not is unreadable."""
TEXTS = (str, bytes, bytearray, memoryview)
_SNIFFED = 64
_ID_BYTES, _GUID_BYTES, _AVRO_BYTES = 5, 17, 10


def registry_id(value: bytes) -> tuple[str, int]:
    """Return the schema's id that a serializer wrote first, and the bytes that it takes; empty and 0 without one.

    Ids differ from registry to registry, GUIDs do not.
    """
    first = value[:1]
    if first == b"\x00" and len(value) >= _ID_BYTES:
        return f"id {int.from_bytes(value[1:_ID_BYTES], 'big')}", _ID_BYTES
    if first == b"\x01" and len(value) >= _GUID_BYTES:
        return f"guid {UUID(bytes=value[1:_GUID_BYTES])}", _GUID_BYTES
    if first == b"\xc3" and value[1:2] == b"\x01" and len(value) >= _AVRO_BYTES:
        return f"avro {value[2:_AVRO_BYTES].hex()}", _AVRO_BYTES
    return "", 0


class TextReader:
    """Reads values that come as bytes or text. Several threads may use it: a count may then miss one.

    Args:
        expected: whether they are known to be JSON; otherwise the first 100 decide, once.
    """

    __slots__ = ("_decided", "_expected", "_parsed", "schema_ids")

    def __init__(self, *, expected: bool) -> None:
        self._expected = expected
        self._decided = expected
        self._parsed = 0
        self.schema_ids: dict[str, int] = {}
        """Values by id; at most 16 ids and `other`."""

    def read(self, text: Any) -> Any:
        """Return the value, NOTHING where none can be had, or NOT_READ where there should be one."""
        if not isinstance(text, str):
            text = bytes(text)
            name, length = registry_id(text)
            if name:
                self._count(name)
                text = text[length:]
        value = _parsed(text)
        if not self._decided:
            self._decide(value)
        return NOT_READ if value is NOTHING and self._expected else value

    def _decide(self, value: Any) -> None:
        if value is NOTHING:
            self._decided = True
            return
        self._parsed += 1
        if self._parsed >= SURE_AFTER:
            self._decided = self._expected = True

    def _count(self, name: str) -> None:
        ids = self.schema_ids
        if name not in ids and len(ids) >= MAX_IDS:
            name = OTHER
        ids[name] = ids.get(name, 0) + 1


def _parsed(text: Any) -> Any:
    if text[:_SNIFFED].lstrip()[:1] not in ({"{", "["} if isinstance(text, str) else {b"{", b"["}):
        return NOTHING
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return NOTHING
