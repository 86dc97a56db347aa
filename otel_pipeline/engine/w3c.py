"""Tracestate and baggage as bytes: read by slices with limits and never by a regular expression, written whole.

A crafted header must not stall the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TRACESTATE_BYTES = 8_192
MAX_TRACESTATE_MEMBERS = 32
MAX_BAGGAGE_BYTES = 8_192
MAX_BAGGAGE_MEMBERS = 180
MAX_BAGGAGE_MEMBER_BYTES = 4_096
_BAGGAGE_SAFE = "!#$&'()*+-./:<>?@[]^_`{|}~"  # W3C baggage-octet; the rest is percent-encoded


def as_bytes(value: Any, limit: int) -> bytes | None:
    """Return the value as bytes without the white space around it; None when it is too long, missing or not ASCII."""
    if value is None or len(value) > limit:
        return None
    try:
        raw = value.encode("ascii") if isinstance(value, str) else bytes(value)
    except UnicodeEncodeError:
        return None
    return raw.strip(b" \t") if raw.isascii() else None


def parse_tracestate(values: Sequence[Any]) -> list[tuple[str, str]] | None:
    """Read the members of all tracestate headers together (W3C Trace Context, 3.3); None when one is invalid."""
    if sum(len(value) for value in values if value is not None) > MAX_TRACESTATE_BYTES:
        return None
    entries: dict[str, str] = {}
    for value in values:
        raw = as_bytes(value, MAX_TRACESTATE_BYTES)
        if raw is None:
            return None
        for part in raw.decode("ascii").split(","):
            member = part.strip(" \t")
            if not member:
                continue
            key, equals, text = member.partition("=")
            if not equals or not _is_state_key(key) or not _is_state_value(text):
                return None
            entries.setdefault(key, text)
            if len(entries) > MAX_TRACESTATE_MEMBERS:
                return None
    return list(entries.items())


_KEY_REST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-*/")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_LOWER_OR_DIGIT = _LOWER | frozenset("0123456789")


def _is_state_key(key: str) -> bool:
    """Match `simple-key` or `tenant@system`, as W3C Trace Context level 1 has them: the stricter of the two levels."""
    tenant, at, system = key.partition("@")
    if at:
        return (
            0 < len(tenant) <= 241  # noqa: PLR2004 - lengths of the grammar
            and 0 < len(system) <= 14  # noqa: PLR2004
            and tenant[0] in _LOWER_OR_DIGIT
            and system[0] in _LOWER
            and _KEY_REST.issuperset(tenant)
            and _KEY_REST.issuperset(system)
        )
    return 0 < len(key) <= 256 and key[0] in _LOWER and _KEY_REST.issuperset(key)  # noqa: PLR2004


def _is_state_value(value: str) -> bool:
    return 0 < len(value) <= 256 and all(" " <= letter <= "~" and letter != "=" for letter in value)  # noqa: PLR2004


def parse_baggage(values: Sequence[Any]) -> list[tuple[str, str]] | None:
    """Read the members of all baggage headers together (W3C Baggage); those that are invalid are left out."""
    if sum(len(value) for value in values if value is not None) > MAX_BAGGAGE_BYTES:
        return None
    members: list[tuple[str, str]] = []
    for value in values:
        raw = as_bytes(value, MAX_BAGGAGE_BYTES)
        if raw is None:
            return None
        for member in raw.decode("ascii").split(","):
            key, equals, text = member.partition("=")
            key = unquote(key.strip(" \t"))
            if not equals or not key or len(member) > MAX_BAGGAGE_MEMBER_BYTES:
                continue
            # `unquote`, not `unquote_plus`: a peer's plus sign is a plus sign.
            members.append((key, unquote(text.strip(" \t"))))
            if len(members) >= MAX_BAGGAGE_MEMBERS:
                return members
    return members


def encode_baggage(baggage: Mapping[str, object]) -> bytes:
    """Write the header of these members; what goes beyond the limits is left out, the rest is kept."""
    length, members = 0, []
    for key, value in baggage.items():
        member = f"{quote(str(key), safe=_BAGGAGE_SAFE)}={quote(str(value), safe=_BAGGAGE_SAFE)}"
        if len(member) > MAX_BAGGAGE_MEMBER_BYTES or length + len(member) > MAX_BAGGAGE_BYTES:
            continue
        length += len(member) + 1
        members.append(member)
        if len(members) >= MAX_BAGGAGE_MEMBERS:
            break
    return ",".join(members).encode("ascii")
