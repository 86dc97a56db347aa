"""What addresses and headers hold that is nobody else's: it is used, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIGNALS = ("", "TRACES_", "METRICS_", "LOGS_")
HEADERS = tuple(f"OTEL_EXPORTER_OTLP_{signal}HEADERS" for signal in _SIGNALS)
_NAME = frozenset(chr(code) for code in range(0x21, 0x7F)) - frozenset('"(),/:;<=>?@[\\]{}')
_VALUE = frozenset(chr(code) for code in range(0x20, 0x7F)) - frozenset('",;\\')


def without_credentials(address: Any) -> Any:
    """Return an address as it may be shown, without `user:password@`; anything but a text as it is.

    A password may hold `/`, `:` and `@`, so that all up to the last `@` is left out.
    """
    if not isinstance(address, str) or "@" not in address:
        return address
    scheme, marker, rest = address.partition("://")
    return f"{scheme}{marker}{rest.rpartition('@')[2]}" if marker else address.rpartition("@")[2]


def bad_headers(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each variable with headers that has bad ones, and which of them are: their places, never what they say."""
    for variable in HEADERS:
        parts = environ.get(variable, "").split(",")
        bad = [str(at) for at, part in enumerate(parts, 1) if part.strip() and not _is_header(part)]
        if bad:
            yield variable, ", ".join(bad)


def _is_header(part: str) -> bool:
    """Tell whether OpenTelemetry reads it: `name=value`, the value URL-encoded or plain."""
    name, equals, value = part.partition("=")
    named = name.strip(" \t")
    return bool(equals and named) and _NAME.issuperset(named) and _VALUE.issuperset(value.strip(" \t"))
