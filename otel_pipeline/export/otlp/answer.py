"""What a server answers to a request of OTLP, read without protobuf's library."""

from __future__ import annotations

MAX_SAID = 200
"""Characters of what a server says."""
_MAX_VARINT_BYTES = 10
_INT64 = 1 << 63


def rejected(body: bytes) -> tuple[int, str]:
    """Return how many items an answer says were not taken, and its reason: the same bytes for each signal.

    What is no answer of OTLP's says nothing. Never raises.
    """
    try:
        count, said = 0, ""
        for field, found in _fields(body):
            if field == 1 and isinstance(found, bytes):
                for inner, value in _fields(found):
                    if inner == 1 and isinstance(value, int):
                        count = value
                    elif inner == 2 and isinstance(value, bytes):  # noqa: PLR2004 - `error_message`
                        said = value.decode()
    except ValueError:
        return 0, ""  # Not OTLP's answer, but it was a success.
    said = "".join(sign if sign.isprintable() else "?" for sign in said[:MAX_SAID])
    return (count if count < _INT64 else 0), said


def _fields(body: bytes) -> list[tuple[int, int | bytes]]:
    """Return the fields of a message that are integers, texts or messages; ValueError for what is no message."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise ValueError("no field")
        if kind == 0:
            value, at = _varint(body, at)
            found.append((field, value))
            continue
        if kind == 2:  # noqa: PLR2004 - a length follows
            size, at = _varint(body, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("no kind of value")
        if size > len(body) - at:
            raise ValueError("cut off")
        if kind == 2:  # noqa: PLR2004
            found.append((field, body[at : at + size]))
        at += size
    return found


def _varint(body: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(_MAX_VARINT_BYTES):
        if at + shift >= len(body):
            break
        byte = body[at + shift]
        number |= (byte & 127) << 7 * shift
        if byte < 128:  # noqa: PLR2004 - the last byte of a number
            return number & (1 << 64) - 1, at + shift + 1
    raise ValueError("no integer")
