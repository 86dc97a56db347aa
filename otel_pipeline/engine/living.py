"""Remembers objects for as long as they live, and does not keep them alive."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class Living(Generic[T]):
    """Objects in the order in which they were added. Safe in any thread."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: tuple[ref[T], ...] = ()

    def add(self, each: T) -> None:
        """Remember an object."""
        # A new tuple each time: other threads may be reading the old one.
        self._known = (*(known for known in self._known if known() is not None), ref(each))

    def clear(self) -> None:
        """Forget them all."""
        self._known = ()

    def all(self) -> list[T]:
        """Return the objects that are still alive."""
        return [each for known in self._known if (each := known()) is not None]
