"""What stands in a segment's file: a head, then frames of one batch each. Numbers are little-endian.

A frame that was not written to its end, the last one of a process that was killed, is none. One that was changed
afterwards is left out, with as many items as its own head still says.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from otel_pipeline.export.destination import Signal

MAGIC = b"OTELPSPL"
VERSION = 1
_HEAD = struct.Struct("<8sHBx8sQ")
"""Magic, version, signal, digest of where it goes, how far it has been taken."""
HEAD_BYTES = _HEAD.size
TAKEN_AT = HEAD_BYTES - 8
"""Where in the head stands up to which byte the file's frames have been taken."""
_TAKEN = struct.Struct("<Q")
_FRAME_MAGIC = b"OTPF"
_FRAME = struct.Struct("<4sHxxIII")
"""Magic, flags, items, bytes of what follows, its checksum; behind them the checksum of these."""
_CHECKSUM = struct.Struct("<I")
FRAME_BYTES = _FRAME.size + _CHECKSUM.size
_COMPRESSED = 1
_SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""Of one batch, encoded: what is larger is sent in parts."""


class Head(NamedTuple):
    """What a segment says of itself."""

    signal: Signal
    digest: bytes
    taken_to: int


class Frame(NamedTuple):
    """One batch in a segment."""

    items: int
    """Its items."""
    end: int
    """Where the next one begins."""
    payload: bytes | None
    """An export request of OTLP; None where it cannot be read any more."""


def head(signal: Signal, digest: bytes) -> bytes:
    """Return the beginning of a segment's file."""
    return _HEAD.pack(MAGIC, VERSION, _SIGNALS.index(signal), digest, HEAD_BYTES)


def taken(end: int) -> bytes:
    """Return what is written at `TAKEN_AT` once all frames before `end` have been taken."""
    return _TAKEN.pack(end)


def read_head(found: bytes) -> Head | None:
    """Read what `head` has made; None for what is no segment of ours that we know."""
    if len(found) < HEAD_BYTES:
        return None
    magic, version, signal, digest, taken_to = _HEAD.unpack_from(found)
    if magic != MAGIC or version != VERSION or signal >= len(_SIGNALS):
        return None
    return Head(_SIGNALS[signal], digest, max(taken_to, HEAD_BYTES))


def frame(payload: bytes, count: int, *, compress: bool) -> bytes:
    """Return one batch as a frame, compressed where that is wanted and makes it smaller."""
    packed = zlib.compress(payload, 1) if compress else payload
    held = min(payload, packed, key=len)
    fixed = _FRAME.pack(_FRAME_MAGIC, _COMPRESSED * (held is not payload), count, len(held), zlib.crc32(held))
    return b"".join((fixed, _CHECKSUM.pack(zlib.crc32(fixed)), held))


def whole_bytes(found: bytes, at: int) -> int | None:
    """Return how long the frame is that begins at a byte, by its own head; None where none begins."""
    lengths = _lengths(found, at)
    return None if lengths is None else FRAME_BYTES + lengths[2]


def read_frame(found: bytes, at: int) -> Frame | None:
    """Read the frame that begins at a byte; None where no whole one does."""
    lengths = _lengths(found, at)
    if lengths is None:
        return None
    flags, count, length, checksum = lengths
    begin = at + FRAME_BYTES
    held = found[begin : begin + length]
    if len(held) < length:
        return None
    if zlib.crc32(held) != checksum:
        return Frame(count, begin + length, None)
    return Frame(count, begin + length, _unpacked(held) if flags & _COMPRESSED else held)


def _lengths(found: bytes, at: int) -> tuple[int, int, int, int] | None:
    """Return flags, items, bytes and checksum of a frame; None where no frame begins."""
    if at + FRAME_BYTES > len(found):
        return None
    magic, flags, count, length, checksum = _FRAME.unpack_from(found, at)
    (of_these,) = _CHECKSUM.unpack_from(found, at + _FRAME.size)
    if magic != _FRAME_MAGIC or zlib.crc32(found[at : at + _FRAME.size]) != of_these:
        return None
    return flags, count, length, checksum


def next_frame(found: bytes, after: int) -> int | None:
    """Return where the next frame begins behind a byte that none begins at; None where there is none."""
    at = found.find(_FRAME_MAGIC, after + 1)
    while at >= 0:
        if _lengths(found, at) is not None:
            return at
        at = found.find(_FRAME_MAGIC, at + 1)
    return None


def _unpacked(held: bytes) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        unpacked = unpacking.decompress(held, MAX_PAYLOAD_BYTES)
    except zlib.error:
        return None
    return unpacked if unpacking.eof else None
