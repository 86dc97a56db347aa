"""Reads what the kernel itself believes of its clock: an upper bound of its error, kept by the time service (Linux)."""

from __future__ import annotations

import sys
from ctypes import CDLL, Structure, byref, c_byte, c_int, c_long, c_uint, sizeof
from functools import cache
from typing import Any

_UNSYNCHRONISED = 0x40
_LONG_BYTES = 8


class _Timex(Structure):
    """`struct timex` as far as it is read, with room for the rest: it has 208 bytes where `long` has 64 bits."""

    _fields_ = (
        ("modes", c_uint),
        ("offset", c_long),
        ("freq", c_long),
        ("maxerror", c_long),
        ("esterror", c_long),
        ("status", c_int),
        ("rest", c_byte * 256),
    )


def error_s() -> float | None:
    """Return how far the clock can be off, s; None where the kernel does not say, or says that nothing disciplines it.

    A virtual machine, or chrony without `rtcsync`, may leave the clock "unsynchronised" although it is right: that is
    no evidence of a fault, and the 16 s that come with it are no bound. Needs no privilege, takes 3 us; any thread.
    """
    adjust = _adjtimex()
    if adjust is None:
        return None
    found = _Timex(modes=0)
    if adjust(byref(found)) < 0 or found.status & _UNSYNCHRONISED:
        return None
    return float(found.maxerror) / 1e6


@cache
def _adjtimex() -> Any:
    """Find the C library's function; None on other systems, and where its structure is another one."""
    if sys.platform != "linux" or sizeof(c_long) != _LONG_BYTES:
        return None
    try:
        function = CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    function.restype = c_int
    return function
