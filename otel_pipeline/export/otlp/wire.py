"""OTLP's protobuf messages as bytes: numbers, texts, attributes, and the frame of a request.

Fields of a message may stand in any order, and two requests after one another are one request with the items of both.
Nothing here needs the SDK. All of it is safe in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, TypeAlias

MAX_DEPTH = 32
"""Of values within values: more than that, many readers of protobuf refuse."""
MAX_KEYS = 2_048
"""Of names of attributes that are kept as bytes."""
MAX_KEY_BYTES = 128
"""Of a name that is kept."""
MAX_KNOWN = 64
"""Of resources and of scopes that are kept as bytes."""
_INT64 = 1 << 63
_UINT64 = 1 << 64
_LENGTH_DELIMITED = 2
_ONE_BYTE = 128
_TWO_BYTES = 128 * 128
_double = Struct("<d").pack
_BYTES = tuple(bytes((number,)) for number in range(_ONE_BYTE))
_TRUE, _FALSE = b"\x10\x01", b"\x10\x00"

Write: TypeAlias = Callable[[Any], bytes]


def varint(number: int) -> bytes:
    """Return an integer of 0 to 2^64 - 1 as protobuf has it; for others raise ValueError."""
    if 0 <= number < _ONE_BYTE:
        return _BYTES[number]
    if _ONE_BYTE <= number < _TWO_BYTES:
        return bytes((number & 127 | 128, number >> 7))
    if not 0 <= number < _UINT64:
        raise ValueError("an integer of more than 64 bits")
    found = bytearray()
    while number >= _ONE_BYTE:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def tag(field: int, kind: int = _LENGTH_DELIMITED) -> bytes:
    """Return what stands before a field's value: its number and protobuf's kind, 2 where a length follows."""
    return varint(field << 3 | kind)


def length_delimited(field: int, body: bytes) -> bytes:
    """Return a field that is a text, bytes or a message."""
    return tag(field) + varint(len(body)) + body


def any_value(value: Any) -> bytes:
    """Return an AnyValue, without tag and length: the value of an attribute or a log record's body.

    Raises:
        ValueError: for half of a surrogate pair, an integer of more than 64 bits, values nested more than `MAX_DEPTH`
            deep. `repair.value` makes a value that passes.
        TypeError: for a value that OTLP has no type for.
    """
    write = _WRITERS.get(type(value))
    return write(value) if write is not None else _of_subclass(value, 0)


def key_value(key: str, value: Any, field: int) -> bytes:
    """Return an attribute as a field of this number; raise what `any_value` raises."""
    write = _WRITERS.get(type(value))
    found = write(value) if write is not None else _of_subclass(value, 0)
    known = _keys.get(key)
    body = (known if known is not None else _new_key(key)) + varint(len(found)) + found
    return tag(field) + varint(len(body)) + body


def attributes(of: Mapping[str, Any] | None, field: int) -> bytes:
    """Return all attributes of a mapping, each as a field of this number; raise what `any_value` raises."""
    return b"".join([key_value(key, value, field) for key, value in of.items()]) if of else b""


def resource_of(resource: Any) -> bytes:
    """Return all of a ResourceSpans, ResourceLogs or ResourceMetrics but what is recorded: resource and schema.

    One whose attributes were not replaced since is not encoded again. Raises what `any_value` raises.
    """
    return _known(_resources, resource, resource.attributes, _resource)


def scope_of(scope: Any) -> bytes:
    """Return all of a ScopeSpans, ScopeLogs, ScopeMetrics but what is recorded: scope and schema; as `resource_of`."""
    return _known(_scopes, scope, getattr(scope, "attributes", None), _scope)


def request_of(resource: bytes, scope: bytes, items: Sequence[bytes]) -> bytes:
    """Return a request for OTLP with items of one resource and scope; of each signal it is written alike.

    Args:
        resource: as `resource_of` gives it.
        scope: as `scope_of` gives it.
        items: spans, log records or metrics, each with tag and length: `length_delimited(2, ...)`.
    """
    return request([(resource, [(scope, items)])])


def request(groups: Sequence[tuple[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]]) -> bytes:
    """Return a request for OTLP with items of several resources, and scopes within them, as `request_of` takes them."""
    found: list[bytes] = []
    for resource, scopes in groups:
        parts = [resource]
        for scope, items in scopes:
            scoped = scope + b"".join(items)
            parts += (b"\x12", varint(len(scoped)), scoped)
        of_resource = b"".join(parts)
        found += (b"\x0a", varint(len(of_resource)), of_resource)
    return b"".join(found)


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"\x0a" + varint(len(raw)) + raw


def _bool(value: bool) -> bytes:  # noqa: FBT001 - it is the value
    return _TRUE if value else _FALSE


def _int(value: int) -> bytes:
    if 0 <= value < _ONE_BYTE:
        return b"\x18" + _BYTES[value]
    if not -_INT64 <= value < _INT64:
        raise ValueError("an integer of more than 64 bits")
    return b"\x18" + varint(value if value >= 0 else value + _UINT64)


def _float(value: float) -> bytes:
    return b"\x21" + _double(value)


def _bytes(value: bytes) -> bytes:
    return b"\x3a" + varint(len(value)) + value


def _none(_value: None) -> bytes:
    return b""


_WRITERS: dict[type, Write] = {str: _text, bool: _bool, int: _int, float: _float, bytes: _bytes, type(None): _none}
_BASES: tuple[tuple[type, Write], ...] = ((str, _text), (int, _int), (float, _float), (bytes, _bytes))


def _of_subclass(value: Any, depth: int) -> bytes:
    """Return what the SDK's encoder makes of a value that is not just of a plain type."""
    for base, write in _BASES:
        if isinstance(value, base):
            return write(value)
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, Sequence):
        return length_delimited(5, b"".join([length_delimited(1, _within(each, depth)) for each in value]))
    if isinstance(value, Mapping):
        pairs = [_key(str(key)) + _prefixed(_within(each, depth)) for key, each in value.items()]
        return length_delimited(6, b"".join([length_delimited(1, pair) for pair in pairs]))
    raise TypeError(f"OTLP has no type for {type(value).__name__}")


def _within(value: Any, depth: int) -> bytes:
    write = _WRITERS.get(type(value))
    return write(value) if write is not None else _of_subclass(value, depth + 1)


def _prefixed(body: bytes) -> bytes:
    return varint(len(body)) + body


_keys: dict[str, bytes] = {}


def _new_key(key: str) -> bytes:
    """Return a name as bytes, up to the tag of its value; a short one is kept."""
    found = _key(key)
    if len(key) <= MAX_KEY_BYTES:
        if len(_keys) >= MAX_KEYS:
            _keys.clear()
        _keys[key] = found
    return found


def _key(key: str) -> bytes:
    raw = key.encode()
    return b"\x0a" + varint(len(raw)) + raw + b"\x12"


_resources: dict[int, tuple[Any, Any, bytes]] = {}
_scopes: dict[int, tuple[Any, Any, bytes]] = {}


def _known(kept: dict[int, tuple[Any, Any, bytes]], of: Any, of_attributes: Any, write: Write) -> bytes:
    found = kept.get(id(of))
    # Kept with the object itself, so that its id is nobody else's; a forked child gives a resource other attributes.
    if found is not None and found[0] is of and found[1] is of_attributes:
        return found[2]
    if len(kept) >= MAX_KNOWN:
        kept.clear()
    made = write(of)
    kept[id(of)] = (of, of_attributes, made)
    return made


def _resource(resource: Any) -> bytes:
    return length_delimited(1, attributes(resource.attributes, 1)) + _schema(resource.schema_url)


def _scope(scope: Any) -> bytes:
    if scope is None:
        return length_delimited(1, b"")
    named = length_delimited(1, scope.name.encode()) if scope.name else b""
    version = length_delimited(2, scope.version.encode()) if scope.version else b""
    body = named + version + attributes(getattr(scope, "attributes", None), 3)
    return length_delimited(1, body) + _schema(scope.schema_url)


def _schema(url: str | None) -> bytes:
    return length_delimited(3, url.encode()) if url else b""
