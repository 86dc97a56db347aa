"""Attributes of classes that are written in C, and that Python keeps from being changed.

Such a class is one object for all who have imported it, and whose instances are made already: what is replaced in it is
replaced for all of them, for subclasses and `super()` too. CPython refuses that for as long as a flag of the class is
set; it is lifted around the one change (docs/decisions/0027-why-are-classes-of-c-patched-in-place.md).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMMUTABLE = 1 << 8
"""`Py_TPFLAGS_IMMUTABLETYPE`."""
_BUILT_IN = 1 << 1
"""`_Py_TPFLAGS_STATIC_BUILTIN`: each interpreter has the attributes of such a class elsewhere."""
_FIELDS = range(10, 48)
"""Which words of a class in memory may be its flags: it has some fifty, and begins with what every object has."""


class ImmutableTypeError(TypeError):
    """Python keeps the class from being changed, and its flags were not found."""


def can_be_changed(kind: type) -> bool:
    """Tell whether attributes of the class can be replaced in place. Never raises."""
    return not kind.__flags__ & _IMMUTABLE or _flags(kind) is not None


@contextmanager
def changeable(owner: object) -> Iterator[None]:
    """Let attributes of the class be set while the `with` lasts; anything but such a class is left as it is.

    Raises:
        ImmutableTypeError: where `can_be_changed` says no.
    """
    if not isinstance(owner, type) or not owner.__flags__ & _IMMUTABLE:
        yield
        return
    flags = _flags(owner)
    if flags is None:
        raise ImmutableTypeError(f"{owner.__name__} cannot be changed in place by this Python")
    flags.value &= ~_IMMUTABLE
    try:
        yield
    finally:
        flags.value |= _IMMUTABLE  # Setting an attribute may have changed others of them.


def _flags(kind: type) -> Any:
    """Find the flags in memory by their value, not by where they should be; None unless that is in just one place."""
    if kind.__flags__ & _BUILT_IN:
        return None
    try:
        import ctypes  # Not every Python has it, and not every application needs it.

        word, wanted = ctypes.sizeof(ctypes.c_void_p), kind.__flags__
        fields = [ctypes.c_ulong.from_address(id(kind) + field * word) for field in _FIELDS]
        found = [field for field in fields if field.value == wanted]
    except Exception:
        return None
    return found[0] if len(found) == 1 else None
