"""When an event happened: what the application says, what `ce_time` says, and what is no time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nan
from types import SimpleNamespace

import pytest

from otel_pipeline.detectors.event_time import milliseconds, reader, rfc3339_ms
from otel_pipeline.engine.guard import Guard

NOON_MS = 1_795_435_200_000
"""2026-11-23T12:00:00Z"""


class Angry:
    def __float__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("written", "expected_ms"),
    {
        "2026-11-23T12:00:00Z": NOON_MS,
        "2026-11-23t12:00:00z": NOON_MS,
        "2026-11-23T12:00:00.2Z": NOON_MS + 200,
        "2026-11-23T12:00:00.123456789Z": NOON_MS + 123,
        "2026-11-23T13:30:00+01:30": NOON_MS,
        "2026-11-23T11:30:00-00:30": NOON_MS,
        "2026-11-23T11:59:60Z": NOON_MS,
        "2024-02-29T00:00:00Z": 1_709_164_800_000,
        "3000-01-01T00:00:00Z": 32_503_680_000_000,
    }.items(),
)
def test_what_rfc_3339_writes(written, expected_ms):
    """As text and as bytes."""
    assert (rfc3339_ms(written), rfc3339_ms(written.encode())) == (expected_ms, expected_ms)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T12:00:00",
        "2026-11-23 12:00:00Z",
        "2026-11-23T12:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T12:60:00Z",
        "2026-11-23T12:00:61Z",
        "2026-02-30T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-01-01T00:00:00Z",
        "2026-11-23T12:00:00+24:00",
        "2026-11-23T12:00:00.Z",
        "2026-11-23T12:00:00Z\n",
        "2026-11-23T12:00:00." + "0" * 10_000 + "Z",
        "٢٠٢٦-11-23T12:00:00Z",
        b"\xff\xfe",
        b"x" * 1_000_000,
        None,
        NOON_MS,
        [],
    ],
)
def test_what_is_no_time(garbage):
    """Is unknown, whatever it is; nothing is raised."""
    assert rfc3339_ms(garbage) == 0


@pytest.mark.parametrize(
    ("said", "expected_ms"),
    [
        (NOON_MS / 1000, NOON_MS),
        (NOON_MS // 1000, NOON_MS),
        (Decimal(NOON_MS) / 1000, NOON_MS),
        (datetime(2026, 11, 23, 12, tzinfo=timezone.utc), NOON_MS),
        (datetime(2026, 11, 23, 13, tzinfo=timezone(timedelta(hours=1))), NOON_MS),
        (datetime(2026, 11, 23, 12), NOON_MS),  # noqa: DTZ001 - without a zone it is UTC, wherever this runs
        (datetime(3000, 1, 1, tzinfo=timezone.utc), 32_503_680_000_000),
        *((each, 0) for each in (None, nan, inf, -inf, 0, -1, 1e300, True, "1795435200", b"1", [], Angry())),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), 0),
    ],
)
def test_what_the_application_returns(said, expected_ms):
    """s since the epoch or a datetime; anything else is unknown."""
    assert milliseconds(said) == expected_ms


def test_the_application_comes_before_the_header():
    """The header where the application does not know; what is no time is counted, at its place."""
    answers = iter([1_000.5, None, nan, "x"])

    def said(_message):
        try:
            return next(answers)
        except StopIteration:
            raise RuntimeError("no more") from None

    guard = Guard()
    fields = SimpleNamespace(headers=lambda message: message)
    read = reader(fields, said, guard, header=True)
    message = [("other", b""), ("ce_time", b"2026-11-23T12:00:00Z")]

    assert [read(message) for _ in range(5)] == [1_000_500, *[NOON_MS] * 4]
    assert guard.errors == {"event_time.value": 2, "event_time": 1}


@pytest.mark.parametrize(
    ("headers", "errors"),
    [
        (None, {}),
        ([("ce_id", b"1")], {}),
        ([("ce_time", b"yesterday")], {"event_time.ce_time": 1}),
        ([("ce_time", None)], {"event_time.ce_time": 1}),
        ([("only a name",)], {"event_time.ce_time": 1}),
        (7, {"event_time.ce_time": 1}),
    ],
)
def test_headers_of_any_kind(headers, errors):
    """Without a time nothing is known, and garbage is counted; the time of sending is never taken for it."""
    guard = Guard()

    assert reader(SimpleNamespace(headers=lambda _: headers), None, guard, header=True)(None) == 0
    assert guard.errors == errors
