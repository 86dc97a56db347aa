"""The ids of a schema registry that values begin with, or have in a header: counted, and told when a new one comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_IDS = 16
OTHER = "other"
_IN_HEADER = ("__value_schema_id",)
"""Where Confluent's serializers write the id of a value's schema, if they are told to: as it would stand before it."""
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


def framed(value: Any, headers: Any) -> Any:
    """Return a value with its schema's id before it, as serializers write that which do not put it into a header.

    Args:
        value: as it was sent or received; anything but bytes is returned as it is.
        headers: the message's pairs.
    """
    if type(value) is bytes and headers and isinstance(headers, (list, tuple)):
        for each in headers:
            if type(each) is tuple and each[:1] == _IN_HEADER and type(each[-1]) is bytes:
                written = each[-1]
                return written + value if registry_id(written)[1] == len(written) else value
    return value


class SchemaIds:
    """Counts values by their schema's id. Several threads may use it: a count may then miss one.

    Args:
        settle_after: as many values make known which ids there are.
    """

    __slots__ = ("_counts", "_new", "_unsettled")

    def __init__(self, settle_after: int) -> None:
        self._counts: dict[str, int] = {}
        self._unsettled = settle_after
        """Values that are still to come until the ids are known."""
        self._new: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """Values by id; at most 16 ids and `other`."""
        return self._counts

    def unframed(self, value: Any) -> tuple[Any, str]:
        """Take the id off bytes; returns the rest, and the id where it was not known before."""
        value = bytes(value)
        name, length = registry_id(value)
        if not name:
            return value, ""
        counts = self._counts
        known = name in counts
        if not known and len(counts) >= MAX_IDS:
            name, known = OTHER, OTHER in counts
        counts[name] = counts.get(name, 0) + 1
        if self._unsettled > 0:
            self._unsettled -= 1
            return value[length:], ""
        return value[length:], "" if known else name

    def is_new(self, name: str, now_ns: int) -> None:
        """Note a new id whose values may have another shape."""
        self._new[name] = now_ns

    def new(self, now_ns: int) -> dict[str, float]:
        """Return the new ids by the time since they came, s."""
        return {name: (now_ns - at_ns) / 1e9 for name, at_ns in tuple(self._new.items())}

    @property
    def new_since_ns(self) -> int | None:
        """When the first of them came; None without any."""
        return min(tuple(self._new.values()), default=None)

    def settle(self) -> None:
        """Take the ids of so far for known."""
        self._unsettled = 0
