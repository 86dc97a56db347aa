"""Changes of one message: a field of its JSON value, the environment in its data-flow header."""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.pipeline_header import EXTENDED, NAME, decode, encode, stamp

if TYPE_CHECKING:
    from otel_pipeline.testing.faults.options import Fault

Headers = list[tuple[str, "bytes | None"]]
_SCHEMA_ID_BYTES = 5
_HEADER_BYTES = 30
_ENVIRONMENT_AT = 3
_TYPE_ENVIRONMENT = 2
_STANDARD = bytes.maketrans(b"-_", b"+/")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def restamped(headers: Headers, mine: int, tag: int) -> Headers:
    """Turn numbers given for the tag `mine` into numbers for `tag`; keep the others (docs/design/order.md, rule 5)."""
    found: Headers = []
    for key, header in headers:
        read = decode(header) if key == NAME and header is not None else None
        numbered = read is not None and read.producer_id and read.sequence and read.tag == mine
        found.append((key, stamp(header, read.sequence, tag)) if numbered and read and header else (key, header))
    return found


def with_field(value: bytes | None, fault: Fault) -> bytes | None:
    """Return the value with the field changed; None when there is no such field, or it is so already."""
    if not value:
        return None
    # A schema registry's serializer puts a zero and the schema's id before the JSON.
    prefix = value[:_SCHEMA_ID_BYTES] if value[0] == 0 else b""
    try:
        root = json.loads(value[len(prefix) :])
        parent = root
        for step in fault.path[:-1]:
            parent = parent[step]
        if not _change(parent, fault.path[-1], fault):
            return None
    except (ValueError, TypeError, LookupError):
        return None
    text = json.dumps(root, ensure_ascii=False, separators=(",", ":"))
    return prefix + text.encode("utf-8", "surrogatepass")


def _change(parent: Any, name: str | int, fault: Fault) -> bool:
    old = parent[name]
    if fault.change == "null":
        parent[name] = None
        return old is not None
    if fault.change == "retype":
        parent[name] = [old] if isinstance(old, str) else json.dumps(old, ensure_ascii=False)
    elif fault.change == "remove":
        del parent[name]
    elif fault.text in parent:
        return False
    else:
        renamed = {fault.text if key == name else key: value for key, value in parent.items()}
        parent.clear()
        parent.update(renamed)
    return True


def with_environment(given: Headers, environment: str) -> Headers | None:
    """Return the headers with another environment; None without a data-flow header or with that environment already."""
    headers: Headers = []
    done = False
    for key, header in given:
        known = decode(header) if key == NAME and header is not None else None
        if known is None or header is None or known.environment == environment:
            headers.append((key, header))
        else:
            headers.append((key, _renamed(header, environment)))
            done = True
    return headers if done else None


def _renamed(header: bytes, environment: str) -> bytes:
    """Return the header with another environment; all else stays, extensions too."""
    raw = _raw(header)
    named = _raw(
        encode(
            flags=0,
            hops=0,
            environment=environment,
            origin_ms=0,
            newest_ms=0,
            path=0,
            producer_id=0,
            sequence=0,
            tag=0,
        )
    )
    # What follows the first 30 bytes of `named` is the extension with the name, whose type is its first byte.
    others, at = b"", _HEADER_BYTES
    while at < len(raw):
        end = at + 2 + raw[at + 1]
        if raw[at] != _TYPE_ENVIRONMENT:
            others += raw[at:end]
        at = end
    extension = others + named[_HEADER_BYTES:]
    flags = raw[1] | EXTENDED if extension else raw[1] & ~EXTENDED
    head = bytes((raw[0], flags, raw[2], named[_ENVIRONMENT_AT]))
    return b2a_base64(head + raw[4:_HEADER_BYTES] + extension, newline=False).translate(_URL_SAFE, b"=")


def _raw(header: bytes) -> bytes:
    return a2b_base64(header.translate(_STANDARD) + b"=" * (-len(header) % 4))
