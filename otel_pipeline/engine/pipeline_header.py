"""The data-flow header `otelp`: where data began, how far it came, and the message's number. 30 bytes as 40 characters.

The reasons stand in docs/design/headers.md.

| at | bytes | field |
|--:|--:|---|
| 0 | 1 | version, 1 |
| 1 | 1 | flags |
| 2 | 1 | hops, 255 at most |
| 3 | 1 | environment of the first hop, never rewritten |
| 4 | 6 | oldest origin, ms since the epoch |
| 10 | 4 | newest minus oldest origin, ms, with flag F |
| 14 | 6 | path: who produced to what, from the first hop on |
| 20 | 4 | producer id, 0 when no sequence is sent |
| 24 | 4 | sequence |
| 28 | 2 | tag of what the sequence was given for: destination and partition, without flag P the destination alone |
| 30 | | extension with flag X: type, length, value |
"""

from __future__ import annotations

import struct
import sys
from array import array
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from otel_pipeline.engine.guard import raise_theirs

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "otelp"
ENVIRONMENT_CODES = {
    "local": 1,
    "development": 2,
    "test": 3,
    "staging": 4,
    "preproduction": 5,
    "production": 6,
}
FAN_IN = 1 << 1
DOUBTED = 1 << 2
"""Flag C: the clock that the origin was read from is known to be wrong, or its sender holds messages back."""
PER_PARTITION = 1 << 3
"""Flag P: the sequence counts one partition. Without it, it counts all partitions of the destination."""
EXTENDED = 1 << 5

VERSION = 1
OTHER_ENVIRONMENT = 255
_TYPE_ENVIRONMENT = 2
_MAX_ENVIRONMENT_BYTES = 16
_MAX_CHARACTERS = 400
_BYTES = 30
_CHARACTERS = 40
ONE_MORE = _CHARACTERS + 1
_U16, _U32, _U48 = 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF
ENVIRONMENTS = {code: name for name, code in ENVIRONMENT_CODES.items()}
# Version, flags, hops and environment are one number; a u48 is packed as u16 and u32.
_SHAPE = struct.Struct(">IHIIHIIIH")
_STAMP = struct.Struct(">IH")
_FILLED = struct.Struct(">4sHI14sIH")
_NUMBERED = struct.Struct(">IIH")
_NO_NUMBER = bytes(10)
_NUMBERS = struct.Struct(">20xIIH")
_PRODUCER_AND_TAG = (20, 21, 22, 23, 28, 29)
_ALL_BYTES = bytes(range(0x100))
_LITTLE = sys.byteorder == "little"
URL_SAFE = bytes.maketrans(b"+/", b"-_")
STANDARD = bytes.maketrans(b"-_", b"+/")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_CACHE_LIMIT = 10_000


class PipelineHeader(NamedTuple):
    """What the header says. Times in ms since the epoch; an environment of None is unknown."""

    flags: int
    hops: int
    environment: str | None
    origin_ms: int
    newest_ms: int
    path: int
    producer_id: int
    sequence: int
    tag: int


def decode(value: Any) -> PipelineHeader | None:
    """Read a header; None when it is absent, cut, or of an unknown version. Never raises, whatever the bytes."""
    try:
        if not value or len(value) > _MAX_CHARACTERS:
            return None
        text = value.encode("ascii") if isinstance(value, str) else bytes(value)
        text = text.rstrip(b"=")
        if text.translate(None, _ALPHABET):
            return None  # Python skips what is no base64: the places of all behind it would be others.
        raw = a2b_base64(text.translate(STANDARD) + b"=" * (-len(text) % 4))
        if len(raw) < _BYTES or raw[0] != VERSION:
            return None
        head, high, low, delta_ms, path_high, path_low, producer, sequence, tag = _SHAPE.unpack_from(raw)
        flags, hops, code = head >> 16 & 0xFF, head >> 8 & 0xFF, head & 0xFF
        origin_ms = high << 32 | low
        environment = ENVIRONMENTS.get(code)
        if flags & EXTENDED:
            extension = _extension(raw)
            if extension is None:
                return None
            if code == OTHER_ENVIRONMENT and _TYPE_ENVIRONMENT in extension:
                environment = extension[_TYPE_ENVIRONMENT][:_MAX_ENVIRONMENT_BYTES].decode("utf-8")
        newest_ms = origin_ms + delta_ms if flags & FAN_IN else origin_ms
        path = path_high << 32 | path_low
        return PipelineHeader(flags, hops, environment, origin_ms, newest_ms, path, producer, sequence, tag)
    except Exception:
        raise_theirs()
        return None


Fields = tuple[int, int, int, int, int, int, int, int, int]
"""Head (version, flags, hops, environment code as one number), origin (u16, u32), delta, path (u16, u32), producer,
sequence, tag."""
unpack = _SHAPE.unpack
"""Unpacks the 30 bytes."""


def fields(value: Any) -> Fields | None:
    """Read the fixed part alone, as the numbers that stand there; None when it cannot be read. Never raises."""
    try:
        # One character more than it has, so that a longer one does not fit: a megabyte is not decoded to see that.
        found: Fields = unpack(a2b_base64(value[:ONE_MORE].translate(STANDARD)))
    except Exception:
        raise_theirs()
        raw = _any_length(value)
        return None if raw is None else unpack(raw)
    return found if found[0] >> 24 == VERSION else None


def _any_length(value: Any) -> bytes | None:
    """Read the first 30 bytes of a header that is a str, or that has an extension, whose padding is left out."""
    if decode(value) is None:
        return None
    text = value.encode("ascii") if isinstance(value, str) else bytes(value)
    return a2b_base64(text[:_CHARACTERS].translate(STANDARD))


class HeaderBlock:
    """The headers of many messages, read at once: 40 characters are 30 bytes, so they need no padding in between."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @staticmethod
    def read(values: Sequence[Any]) -> HeaderBlock | None:
        """Read the headers; None unless each one is there, whole, of this version and without an extension."""
        try:
            joined = b"".join(values)
            if len(joined) != _CHARACTERS * len(values):
                return None
            raw = a2b_base64(joined.translate(STANDARD))
        except Exception:
            raise_theirs()
            return None
        if len(raw) != _BYTES * len(values) or raw[::_BYTES] != bytes((VERSION,)) * len(values):
            return None
        # One of 39 characters beside one of 41 makes the right length; what stands between them is then shifted, and
        # its first byte no version. Beside each other they have shifted nobody but themselves.
        return HeaderBlock(raw)

    @property
    def flags(self) -> bytes:
        """The flags of each message."""
        return self._raw[1::_BYTES]

    @property
    def environments(self) -> bytes:
        """The environment code of each message."""
        return self._raw[3::_BYTES]

    def one_producer(self) -> tuple[int, int] | None:
        """Return producer id and tag, where those of all messages are the same."""
        raw = self._raw
        count = len(raw) // _BYTES
        if any(raw[at::_BYTES] != raw[at : at + 1] * count for at in _PRODUCER_AND_TAG):
            return None
        producer, _, tag = _NUMBERS.unpack_from(raw)
        return producer, tag

    def numbers(self) -> list[tuple[int, ...]]:
        """Return (producer id, sequence, tag) of each message."""
        return list(_NUMBERS.iter_unpack(self._raw))

    def consecutive(self) -> int | None:
        """Return the number of the first message, where those of the others follow it one by one."""
        raw = self._raw
        count = len(raw) // _BYTES
        number: int = _STAMP.unpack_from(raw, 24)[0]
        if number + count > _U32 or raw[27::_BYTES] != _counting(number & 0xFF, count):
            return None
        # The three bytes above change where the lowest one begins anew.
        at, until = 0, 0x100 - (number & 0xFF)
        while at < count:
            above = (number + at).to_bytes(4, "big")
            end = min(until, count)
            for byte in range(3):
                first = at * _BYTES + 24 + byte
                if raw[first : end * _BYTES : _BYTES] != above[byte : byte + 1] * (end - at):
                    return None
            at, until = end, end + 0x100
        return number

    def origins_ms(self) -> array[int]:
        """Return the oldest origin of each message."""
        raw = self._raw
        gathered = bytearray(len(raw) // _BYTES * 8)
        for byte in range(2, 8):
            gathered[byte::8] = raw[byte + 2 :: _BYTES]
        origins = array("Q", bytes(gathered))
        if _LITTLE:
            origins.byteswap()
        return origins


def _counting(first: int, count: int) -> bytes:
    """Return bytes that count up from `first`, and from 0 after 255."""
    return (_ALL_BYTES * ((first + count) // 0x100 + 1))[first : first + count]


def environment_of(header: Any, code: int) -> str | None:
    """Return the name of an environment code; where the name has no code, the name in the extension."""
    if code != OTHER_ENVIRONMENT:
        return ENVIRONMENTS.get(code)
    read = decode(header)
    return None if read is None else read.environment


def _extension(raw: bytes) -> dict[int, bytes] | None:
    """Read the parts after byte 30 by their type; None when one is cut. Unknown types are skipped by their length."""
    parts: dict[int, bytes] = {}
    at = _BYTES
    while at < len(raw):
        if at + 2 > len(raw):
            return None
        kind, length = raw[at], raw[at + 1]
        at += 2
        if at + length > len(raw):
            return None
        parts.setdefault(kind, raw[at : at + length])
        at += length
    return parts


def flags_of(*, fans_in: bool, doubted: bool) -> int:
    """Return the flags of data that goes on: F and C."""
    return (FAN_IN if fans_in else 0) | (DOUBTED if doubted else 0)


def encode(
    *,
    flags: int,
    hops: int,
    environment: str | None,
    origin_ms: int,
    newest_ms: int,
    path: int,
    producer_id: int,
    sequence: int,
    tag: int,
) -> bytes:
    """Write a header; every field saturates at what it can hold."""
    code = 0 if environment is None else ENVIRONMENT_CODES.get(environment, OTHER_ENVIRONMENT)
    origin_ms = min(max(origin_ms, 0), _U48)
    delta_ms = newest_ms - origin_ms if flags & FAN_IN else 0
    extension = b""
    if code == OTHER_ENVIRONMENT and environment is not None:
        name = _cut(environment)
        extension = bytes((_TYPE_ENVIRONMENT, len(name))) + name
        flags |= EXTENDED
    else:
        flags &= ~EXTENDED
    raw = _SHAPE.pack(
        VERSION << 24 | (flags & 0xFF) << 16 | (hops if hops < 255 else 255) << 8 | code,  # noqa: PLR2004, FURB136
        origin_ms >> 32,
        origin_ms & _U32,
        min(max(delta_ms, 0), _U32),
        path >> 32 & _U16,
        path & _U32,
        producer_id & _U32,
        sequence & _U32,
        tag & _U16,
    )
    return b2a_base64(raw + extension, newline=False).translate(URL_SAFE, b"=")


def name_in_header(environment: str) -> str:
    """Return an environment's name as a reader of the header sees it: a long one is cut."""
    return environment if environment in ENVIRONMENT_CODES else _cut(environment).decode()


def _cut(name: str) -> bytes:
    """Cut a name to 16 bytes at most, never within a character."""
    return name.encode("utf-8", "ignore")[:_MAX_ENVIRONMENT_BYTES].decode("utf-8", "ignore").encode()


def stamp(header: bytes, sequence: int, tag: int) -> bytes:
    """Write sequence and tag into the header: bytes 24 to 29, which are characters 32 to 39."""
    stamped = b2a_base64(_STAMP.pack(sequence & _U32, tag & _U16), newline=False).translate(URL_SAFE)
    return header[:32] + stamped + header[_CHARACTERS:]


def numbered(header: bytes, producer_id: int, sequence: int, tag: int, *, per_partition: bool) -> bytes | None:
    """Give a number to a header without one: bytes 20 to 29, and the flag, which is in characters 0 to 3.

    None where it has a number already: that is somebody else's.
    """
    raw = a2b_base64(header[24:_CHARACTERS].translate(STANDARD))
    if raw[2:] != _NO_NUMBER:
        return None
    raw = raw[:2] + _NUMBERED.pack(producer_id & _U32, sequence & _U32, tag & _U16)
    head = _with_flag(header[:4]) if per_partition else header[:4]
    return head + header[4:24] + b2a_base64(raw, newline=False).translate(URL_SAFE) + header[_CHARACTERS:]


_flagged: dict[bytes, bytes] = {}


def _with_flag(head: bytes) -> bytes:
    found = _flagged.get(head)
    if found is None:
        version, flags, hops = a2b_base64(head.translate(STANDARD))
        found = b2a_base64(bytes((version, flags | PER_PARTITION, hops)), newline=False).translate(URL_SAFE)
        if len(_flagged) < _CACHE_LIMIT:
            _flagged[head] = found
    return found


_hops: dict[Any, int] = {}


def hops_of(header: Any) -> int:
    """Read the hops alone, from the first three bytes; 0 when they cannot be read."""
    try:
        head = header[:4]
        found = _hops.get(head)
        if found is None:
            raw = a2b_base64(head.translate(STANDARD))
            found = raw[2] if raw[0] == VERSION else 0
            if len(_hops) >= _CACHE_LIMIT:
                _hops.clear()
            _hops[head] = found
    except Exception:
        raise_theirs()
        return 0
    return found


_environments: dict[Any, str | None] = {}


def origin_environment(header: Any) -> str | None:
    """Read the environment alone, from the first six characters, and from the extension where its name has no code.

    None when it is unknown or cannot be read. Never raises.
    """
    try:
        key = header[:6] + header[_CHARACTERS:]
        if len(header) >= _CHARACTERS:
            return _environments[key]
    except KeyError:
        pass
    except Exception:
        raise_theirs()
        key = None
    read = decode(header)
    if read is None:
        return None
    if key is not None:
        if len(_environments) >= _CACHE_LIMIT:
            _environments.clear()
        _environments[key] = read.environment
    return read.environment


class OwnClock(Protocol):
    """What is known of the clock that this process reads origins from."""

    off: bool
    """Whether it was set, and it is not known yet that it is right."""


class _RightClock:
    off = False


RIGHT_CLOCK: OwnClock = _RightClock()
"""That of a process in which nobody looks at the clock."""


class Template:
    """A first hop's header without origin, sequence and tag, which are known only where the message is numbered.

    Args:
        header: what it is made from.
        clock: says whether the origin is to have flag C.
    """

    __slots__ = ("_clock", "_doubted", "_head", "_origin", "extension", "pair", "placeholder")

    def __init__(self, header: bytes, clock: OwnClock = RIGHT_CLOCK) -> None:
        raw = a2b_base64(header.translate(STANDARD) + b"=" * (-len(header) % 4))
        self._head, self._origin, self.extension = raw[:4], raw[10:24], raw[_BYTES:]
        self._clock, self._doubted = clock, bytes((raw[0], raw[1] | DOUBTED)) + raw[2:4]
        self.placeholder = header
        """What stands in the message until then."""
        self.pair: tuple[str, bytes] | None = None
        """The same with its name, where whoever numbers messages fills it in."""

    def filled(self, origin_ms: int, sequence: int, tag: int) -> bytes:
        """Write the whole header."""
        head = self._doubted if self._clock.off else self._head
        raw = _FILLED.pack(head, origin_ms >> 32, origin_ms & _U32, self._origin, sequence, tag)
        if not self.extension:
            return b2a_base64(raw, newline=False).translate(URL_SAFE)  # 30 bytes need no padding.
        return b2a_base64(raw + self.extension, newline=False).translate(URL_SAFE, b"=")


def producer_of(header: bytes) -> int | None:
    """Read the producer id alone, bytes 20 to 23; None without flag P: its numbers are not those of one partition."""
    try:
        raw = a2b_base64(header[:32].translate(STANDARD))
        return int.from_bytes(raw[20:24], "big") if raw[1] & PER_PARTITION else None
    except Exception:
        raise_theirs()
        return None


def _fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return value


_paths: dict[tuple[int, str, str], int] = {}
_tags: dict[tuple[str, int | None], int] = {}


def path_hash(parent: int, service: str, destination: str) -> int:
    """Compute the path after one more hop: the low 48 bits of FNV-1a over (parent, service, 0, destination).

    The environment is not part of it, so that a laptop's path equals production's.
    """
    key = (parent, service, destination)
    found = _paths.get(key)
    if found is None:
        data = parent.to_bytes(8, "big")[2:] + service.encode() + b"\0" + destination.encode()
        found = _fnv1a(data) & _U48
        if len(_paths) >= _CACHE_LIMIT:
            _paths.clear()
        _paths[key] = found
    return found


def tag_of(destination: str, partition: int | None) -> int:
    """Hash what a sequence was given for: the low 16 bits of FNV-1a over (destination, 0, partition or nothing)."""
    key = (destination, partition)
    found = _tags.get(key)
    if found is None:
        name = b"" if partition is None else str(partition).encode()
        found = _fnv1a(destination.encode() + b"\0" + name) & _U16
        if len(_tags) >= _CACHE_LIMIT:
            _tags.clear()
        _tags[key] = found
    return found
