"""Tracestate and baggage as bytes: read by slices with limits and never by a regular expression, written whole.

A crafted header must not stall the process.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from otel_pipeline.engine.guard import raise_theirs

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
_VALUE = frozenset(map(chr, range(0x20, 0x7F))) - {"="}
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
    return 0 < len(value) <= 256 and _VALUE.issuperset(value)  # noqa: PLR2004


class BaggageMember(NamedTuple):
    """One member of a baggage header."""

    key: str
    value: str
    properties: str
    """What follows the value after a semicolon, as it came; mostly nothing."""


def parse_baggage(values: Sequence[Any]) -> list[BaggageMember] | None:
    """Read the members of all baggage headers together (W3C Baggage).

    A member that is not valid or that does not decode is left out alone; None when the whole is too long.
    """
    if sum(len(value) for value in values if value is not None) > MAX_BAGGAGE_BYTES:
        return None
    members: list[BaggageMember] = []
    for value in values:
        if value is None:
            continue
        raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
        for part in raw.split(b","):
            member = _member(part)
            if member is None:
                continue
            members.append(member)
            if len(members) >= MAX_BAGGAGE_MEMBERS:
                return members
    return members


def _member(part: bytes) -> BaggageMember | None:
    if len(part) > MAX_BAGGAGE_MEMBER_BYTES:
        return None
    try:
        # The standard has ASCII alone; who writes UTF-8 as it is means what it says.
        key, equals, rest = part.decode("utf-8").partition("=")
    except UnicodeDecodeError:
        return None
    key = unquote(key.strip(" \t"))
    if not equals or not key:
        return None
    value, _, properties = rest.partition(";")
    if not (properties.isascii() and properties.isprintable()):
        properties = ""  # They are written on as they are.
    # `unquote`, not `unquote_plus`: a peer's plus sign is a plus sign.
    return BaggageMember(key, unquote(value.strip(" \t")), properties.strip(" "))


def encode_baggage(baggage: Mapping[str, object], came: Mapping[str, BaggageMember] = MappingProxyType({})) -> bytes:
    """Write the header of these members; what goes beyond the limits or has no text is left out, the rest is kept.

    Args:
        baggage: values by their keys.
        came: members as a message brought them, by their keys; whose value is still the same keeps its properties.
    """
    length, members = 0, []
    for key, value in baggage.items():
        member = _encoded(key, value, came.get(key))
        if member is None or length + len(member) > MAX_BAGGAGE_BYTES:
            continue
        length += len(member) + 1
        members.append(member)
        if len(members) >= MAX_BAGGAGE_MEMBERS:
            break
    return ",".join(members).encode("ascii")


def _encoded(key: object, value: object, came: BaggageMember | None) -> str | None:
    try:
        name, text = (
            quote(str(key), _BAGGAGE_SAFE, errors="replace"),
            quote(str(value), _BAGGAGE_SAFE, errors="replace"),
        )
    except Exception:
        raise_theirs()
        return None  # The application's own object, whose text cannot be had.
    member = f"{name}={text}"
    if came is not None and came.properties and came.value == value:
        member = f"{member};{came.properties}"
    return member if len(member) <= MAX_BAGGAGE_MEMBER_BYTES else None
