"""What an answer means for what was sent: by the specification of OTLP over HTTP."""

from __future__ import annotations

from enum import Enum

_WAITS = frozenset({408, 429, 502, 503, 504})
_TOO_LARGE = 413
_REDIRECTS = 300
_SERVERS_FAULT = 500


class Meaning(Enum):
    """What is to be done next."""

    ARRIVED = 0
    WAIT = 1
    """Send it again, later."""
    FAILED = 2
    """Send it again, a few times."""
    TOO_LARGE = 3
    """Send it in parts."""
    REFUSED = 4
    """It will never be taken."""


def meaning(status: int) -> Meaning:
    """Return what a status means."""
    if status in _WAITS:
        return Meaning.WAIT
    if status == _TOO_LARGE:
        return Meaning.TOO_LARGE
    if status >= _SERVERS_FAULT:
        return Meaning.FAILED
    return Meaning.ARRIVED if status < _REDIRECTS else Meaning.REFUSED
