"""Tells when the event of a message happened: what the application says, else the CloudEvents header `ce_time`.

Where neither says it, it is unknown: the time of sending never stands in for it (docs/design/ages.md).
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.guard import raise_theirs

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.engine.messages import Message, MessageFields

HEADER = "ce_time"
LATEST_MS = 1 << 47
"""The end of what counts as a time: anything above comes from a broken clock or a forged header."""
MAX_CHARACTERS = 64
"""RFC 3339 allows any number of digits after the point; nobody writes so many."""

# The year 0000 and the 30th of February are left to `datetime`. Classes, because \d takes other scripts' digits.
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - compared with times whose offset is known apart
_MAX_MINUTES = 1000
_minutes: dict[str, int] = {}
"""The last minutes in s since the epoch: events come close to each other, and making a datetime costs most."""


def rfc3339_ms(value: object) -> int:
    """Read a time as RFC 3339 writes it, in ms since the epoch; 0 for anything else. Never raises.

    A leap second, :60, is the first of the next minute.
    """
    try:
        if isinstance(value, bytes) and len(value) <= MAX_CHARACTERS:
            value = value.decode("ascii")
        if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
            return 0
        found = _RFC3339.fullmatch(value)
        if found is None:
            return 0
        minute, second, fraction, offset = found.groups()
        seconds = _minutes.get(minute)
        if seconds is None:
            seconds = _seconds_of(minute)
        found_ms = (seconds + int(second)) * 1000
        if fraction is not None:
            found_ms += int((fraction + "00")[:3])
        if offset is not None:
            ahead_ms = (int(offset[1:3]) * 60 + int(offset[4:])) * 60_000
            found_ms -= ahead_ms if offset[0] == "+" else -ahead_ms
    except ValueError:
        return 0
    return found_ms if 0 < found_ms < LATEST_MS else 0


def _seconds_of(minute: str) -> int:
    since = datetime.fromisoformat(minute) - _EPOCH
    if len(_minutes) >= _MAX_MINUTES:
        _minutes.clear()
    seconds = _minutes[minute] = since.days * 86400 + since.seconds
    return seconds


def milliseconds(value: Any) -> int:
    """Convert what the application's function returned to ms since the epoch; 0 is unknown. Never raises.

    A datetime without a zone is taken as UTC. A number is s since the epoch; NaN, infinity, a time before 1970 or after
    this millennium, a boolean and everything else that is no time are unknown.
    """
    try:
        if isinstance(value, datetime):
            zoned = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
            found_ms = int(zoned.timestamp() * 1000)
        elif value is None or isinstance(value, (bool, str, bytes)):
            return 0
        else:
            found_ms = int(float(value) * 1000)
    except Exception:  # A class of the application's own may raise anything.
        raise_theirs()
        return 0
    return found_ms if 0 < found_ms < LATEST_MS else 0


def reader(
    fields: MessageFields, said: Callable[[Message], object] | None, guard: Guard, *, header: bool
) -> Callable[[Message], int]:
    """Make a function that tells when a message's event happened, ms since the epoch; 0 is unknown. It never raises.

    Args:
        fields: how to read a message.
        said: the application's own function, which comes first; it is counted when it raises or returns no time.
        guard: counts failures.
        header: whether `ce_time` is looked at where the application does not know.
    """
    of_header = _header_reader(fields, guard) if header else _unknown
    if said is None:
        return of_header
    place = guard.place("event_time")

    def of_application(message: Message) -> int:
        if place.off:
            return of_header(message)
        try:
            value = said(message)
        except Exception:
            place.failed()
            return of_header(message)
        found_ms = milliseconds(value)
        if found_ms:
            return found_ms
        if value is not None:
            guard.count("event_time.value")
        return of_header(message)

    return of_application


def _header_reader(fields: MessageFields, guard: Guard) -> Callable[[Message], int]:
    headers = fields.headers
    place = guard.place("event_time.ce_time")

    def of_header(message: Message) -> int:
        if place.off:
            return 0
        try:
            for name, value in headers(message) or ():
                if name == HEADER:
                    found_ms = rfc3339_ms(value)
                    if not found_ms:
                        guard.count("event_time.ce_time")
                    return found_ms
        except Exception:
            place.failed()
        return 0

    return of_header


def _unknown(_message: Message) -> int:
    return 0
