"""OTLP's protobuf messages as bytes: numbers, texts, attributes, and the frame of a request.

Fields of a message may stand in any order, and two requests after one another are one request with the items of both.
Nothing here needs the SDK. All of it is safe in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, TypeAlias

from opentelemetry.attributes import BoundedAttributes

MAX_DEPTH = 32
"""Of values within values: more than that, many readers of protobuf refuse."""
MAX_KEYS = 1_024
"""Of names of attributes that are kept as bytes."""
MAX_VALUES = 64
"""Of one name that are kept as bytes; where there are as many, none are."""
MAX_PAIR_BYTES = 256
"""Of a name, or a name and value, that is kept."""
MAX_KNOWN = 64
"""Of resources and of scopes that are kept as bytes."""
_INT64 = 1 << 63
_UINT64 = 1 << 64
_DOUBLE_BYTES = 8
_LENGTH_DELIMITED = 2
_ONE_BYTE = 128
_TWO_BYTES = 1 << 14
_FEW = 1_024
"""Numbers whose bytes are kept."""
_double = Struct("<d").pack
_TRUE, _FALSE = b"\x10\x01", b"\x10\x00"

Write: TypeAlias = Callable[[Any], bytes]


def varint(number: int) -> bytes:
    """Return an integer of 0 to 2^64 - 1 as protobuf has it; for others raise ValueError."""
    if 0 <= number < _FEW:
        return _SMALL[number]
    if _FEW <= number < _TWO_BYTES:
        return (number & 127 | 128 | number >> 7 << 8).to_bytes(2, "little")
    if not 0 <= number < _UINT64:
        raise ValueError("an integer of more than 64 bits")
    return _varint(number)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= _ONE_BYTE:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL = tuple(map(_varint, range(_FEW)))


def tag(field: int, kind: int = _LENGTH_DELIMITED) -> bytes:
    """Return what stands before a field's value: its number and protobuf's kind, 2 where a length follows."""
    return varint(field << 3 | kind)


_TAGS = tuple(map(tag, range(32)))


def length_delimited(field: int, body: bytes) -> bytes:
    """Return a field that is a text, bytes or a message."""
    return _TAGS[field] + varint(len(body)) + body


def any_value(value: Any) -> bytes:
    """Return an AnyValue, without tag and length: the value of an attribute or a log record's body.

    Raises:
        ValueError: for half of a surrogate pair, an integer of more than 64 bits, values nested more than `MAX_DEPTH`
            deep. `repair.value` makes a value that passes.
        TypeError: for a value that OTLP has no type for.
    """
    kind = type(value)
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value)
    return _sequence(value) if kind is tuple or kind is list else _within(value, 0)


def key_value(key: str, value: Any, field: int) -> bytes:
    """Return an attribute as a field of this number; raise what `any_value` raises."""
    return attributes({key: value}, field)


def attributes(of: Mapping[str, Any] | None, field: int) -> bytes:
    """Return all attributes of a mapping, each as a field of this number; raise what `any_value` raises."""
    if type(of) is BoundedAttributes:
        of = of._dict  # Its own iterator takes more time than all that is done here.
    if not of:
        return b""
    found = []
    for key, value in of.items():
        known = _keys.get(key)
        if known is None:
            known = _new_key(key)
        kind = type(value)
        if kind is str:
            pair = known.pairs.get(value)
            if pair is None:
                pair = known.with_text(value)
        elif kind is int:
            pair = known.pairs.get(value)
            if pair is None:
                pair = known.with_int(value)
        elif kind is float:
            pair = known.double + _double(value)
        else:
            pair = known.with_value(any_value(value))
        found.append(pair)
    of_each = _TAGS[field]
    return of_each + of_each.join(found)


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
    if 0 <= value < _FEW:
        return b"\x18" + _SMALL[value]
    if not -_INT64 <= value < _INT64:
        raise ValueError("an integer of more than 64 bits")
    return b"\x18" + varint(value if value >= 0 else value + _UINT64)


def _float(value: float) -> bytes:
    return b"\x21" + _double(value)


def _bytes(value: bytes) -> bytes:
    return b"\x3a" + varint(len(value)) + value


def _none(_value: None) -> bytes:
    return b""


def _sequence(value: Sequence[Any], depth: int = 0) -> bytes:
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    found: list[bytes] = []
    for each in value:
        write = _WRITERS.get(type(each))
        body = write(each) if write is not None else _within(each, depth + 1)
        found += (b"\x0a", varint(len(body)), body)
    return length_delimited(5, b"".join(found))


def _mapping(value: Mapping[Any, Any], depth: int = 0) -> bytes:
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    found: list[bytes] = []
    for key, each in value.items():
        write = _WRITERS.get(type(each))
        body = write(each) if write is not None else _within(each, depth + 1)
        pair = _key(str(key)) + varint(len(body)) + body
        found += (b"\x0a", varint(len(pair)), pair)
    return length_delimited(6, b"".join(found))


_WRITERS: dict[type, Write] = {str: _text, bool: _bool, int: _int, float: _float, bytes: _bytes, type(None): _none}
_BASES: tuple[tuple[type, Write], ...] = ((str, _text), (int, _int), (float, _float), (bytes, _bytes))


def _within(value: Any, depth: int) -> bytes:
    """Return an AnyValue of what is not just of a plain type, as the SDK's encoder takes it."""
    for base, write in _BASES:
        if isinstance(value, base):
            return write(value)
    if isinstance(value, Sequence):
        return _sequence(value, depth)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    raise TypeError(f"OTLP has no type for {type(value).__name__}")


class Key:
    """A name of attributes as bytes, and its few texts and integers that come again and again, with it."""

    __slots__ = ("double", "name", "pairs", "seen", "text")

    def __init__(self, key: str) -> None:
        self.text = key
        self.name = _key(key)
        """Up to the tag of its value."""
        self.double = self.with_value(_float(0.0))[:-_DOUBLE_BYTES]
        """What stands before the bytes of a number."""
        self.pairs: dict[str | int, bytes] = {}
        """KeyValues with their length, by the value."""
        self.seen = 0

    def with_value(self, body: bytes) -> bytes:
        """Return the KeyValue of an AnyValue, with its length."""
        length, name = varint(len(body)), self.name
        return b"".join((varint(len(name) + len(length) + len(body)), name, length, body))

    def with_text(self, value: str) -> bytes:
        """Return the KeyValue of a text that may come again, with its length."""
        raw, name = value.encode(), self.name
        within = varint(len(raw))
        body_bytes = 1 + len(within) + len(raw)
        length = varint(body_bytes)
        found = b"".join((varint(len(name) + len(length) + body_bytes), name, length, b"\x0a", within, raw))
        if self.seen < MAX_VALUES:
            self.keep(value, found)
        return found

    def with_int(self, value: int) -> bytes:
        """Return the KeyValue of an integer that may come again, with its length."""
        found = self.with_value(_int(value))
        if self.seen < MAX_VALUES:
            self.keep(value, found)
        return found

    def keep(self, value: str | int, pair: bytes) -> None:
        """Keep the KeyValue of a short value."""
        if len(pair) <= MAX_PAIR_BYTES:
            self.seen += 1
            self.pairs[value] = pair
            if self.seen == MAX_VALUES:
                # Of a name whose values are ever others, such as an id, none comes again.
                self.pairs = {}


_keys: dict[str, Key] = {}


def key_of(key: str) -> Key:
    """Return a name as bytes."""
    return _keys.get(key) or _new_key(key)


def _new_key(key: str) -> Key:
    """Return a name that is not kept yet; a short one is kept."""
    found = Key(key)
    if len(found.name) <= MAX_PAIR_BYTES:
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
