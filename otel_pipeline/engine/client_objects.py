"""The engine's side of each client object, found by the object's id: one dictionary look-up per call.

A client written in C may take neither an attribute nor a weak reference, and must not be kept alive by us. So nothing
is hung on a client; an entry goes when its client goes, as far as that can be known (`ClientObjects.new`).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from otel_pipeline.engine.forks import Step, forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.guard import Guard

T = TypeVar("T")
R = TypeVar("R")
MAX_CLIENTS = 10_000


class ClientObjects(Generic[T]):
    """What the engine knows of each client of one library. Safe in any thread; nothing here raises.

    Args:
        make: makes the engine's side of a client; what it raises is counted.
        left_alone: what stands for a client whose own side could not be made.
        gone: called when a client is gone, or closed.
    """

    __slots__ = ("__weakref__", "_gone", "_make", "_place", "_references", "by_id", "left_alone")

    def __init__(
        self, guard: Guard, make: Callable[[Any], T], left_alone: T, gone: Callable[[T], object] | None = None
    ) -> None:
        self._place = guard.place("client")
        self._make = make
        self.left_alone = left_alone
        self._gone = gone
        self.by_id: dict[int, T] = {}
        """What has been made. Where each message asks, `by_id.get(id(client)) or of(client)` saves a call."""
        self._references: dict[int, weakref.ref[Any]] = {}
        forks.add(self.begin_anew, Step.ZERO)

    def begin_anew(self) -> None:
        """Know no client, in a forked child: one that is used there has its side made there."""
        self.by_id.clear()
        self._references.clear()

    def of(self, client: Any) -> T:
        """Return the engine's side of a client, made at its first use."""
        try:
            found = self.by_id.get(id(client))
            return self._remember(client, None) if found is None else found
        except Exception:
            self._place.failed()
            return self.left_alone

    def known(self, client: Any) -> T | None:
        """Return the same if it exists already, else None."""
        return self.by_id.get(id(client))

    def new(self, client: Any, lifetime: Any = None) -> T:
        """Make the same for a client that has just been constructed: what had its id before is gone.

        To be called by the replacement of `__init__`, where clients take no weak references. `lifetime` is then an
        object that only the client holds, such as a callback in a copy of its settings: the entry goes with it.
        Without one the entry goes with `forget`.
        """
        self._drop(id(client))
        return self._remember(client, lifetime)

    def forget(self, client: Any) -> None:
        """Drop the engine's side of a client that the application has closed."""
        self._drop(id(client))

    def living(self) -> list[Any]:
        """Return the clients themselves, those that take weak references."""
        found = [client for known in list(self._references.values()) if (client := known()) is not None]
        return [client for client in found if id(client) in self.by_id]  # The others are what clients of C hold.

    def __len__(self) -> int:
        return len(self.by_id)

    def _remember(self, client: Any, lifetime: Any) -> T:
        if self._place.off:
            return self.left_alone
        key = id(client)
        try:
            forks.notice()
            made = self._make(client)
        except Exception:
            self._place.failed()
            made = self.left_alone
        try:
            if len(self.by_id) >= MAX_CLIENTS:
                self._drop(next(iter(self.by_id)))
            made = self.by_id.setdefault(key, made)
            self._watch(key, client, lifetime)
        except Exception:
            self._place.failed()
        return made

    def _watch(self, key: int, client: Any, lifetime: Any) -> None:
        mine = weakref.ref(self)

        def gone(reference: weakref.ref[Any]) -> None:
            table = mine()
            # The id may be another client's by now.
            if table is not None and table._references.get(key) is reference:
                table._drop(key)

        try:
            self._references[key] = weakref.ref(client, gone)
        except TypeError:
            if lifetime is not None:
                self._references[key] = weakref.ref(lifetime, gone)

    def _drop(self, key: int) -> None:
        self._references.pop(key, None)
        known = self.by_id.pop(key, None)
        if known is not None and self._gone is not None:
            try:
                self._gone(known)
            except Exception:
                self._place.failed()


def weakly(
    client: Any, read: Callable[[Any], R], otherwise: R, reach: Callable[[Any], Any] = weakref.ref
) -> Callable[[], R]:
    """Make a function that reads something of the client and does not keep it alive.

    It returns `otherwise` once the client is gone, and always where the client takes no weak reference: there the
    adapter has to read it while it has the client at hand.

    Args:
        client: whose function it is.
        read: given what `reach` leads to.
        otherwise: see above.
        reach: given the client, it returns what gives, when called, that or None.
    """
    try:
        reached = reach(client)
    except TypeError:
        return lambda: otherwise

    def found() -> R:
        there = reached()
        return otherwise if there is None else read(there)

    return found
