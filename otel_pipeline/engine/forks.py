"""What a forked child makes anew: it begins at zero, with locks, threads, ids and a name of its own.

Each part says once what it does in a child. The interpreter's hooks call it; where a host forks without them, as uWSGI
does, the process id tells: it is looked at by `notice()`, at doors that are seldom passed. No thread may run there: the
child of a fork in the middle of one would hang, with the interpreter's own lock held by nobody.
"""

from __future__ import annotations

# Their hooks, which give free locks to a child, are to run before ours.
import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import threading
import weakref
from contextlib import nullcontext
from enum import IntEnum
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Step(IntEnum):
    """In which order a child's parts are made anew."""

    LOCKS = 0
    """Locks: those of the parent may be held by threads that are not here."""
    ZERO = 1
    """Counts, and what is known of messages."""
    NAME = 2
    """Who the process is, and its connections."""
    THREADS = 3
    """Threads; they find all of the above."""


class Held(NamedTuple):
    """Why no thread may run yet."""

    waits: Callable[[], bool]
    """Whether this process is still one that forks."""
    takes_over: Callable[[], bool]
    """Asked once in a child: whether it goes on with what its parent has recorded; true in one of them."""


class Forks:
    """The parts, by step. Safe in any thread; nothing here raises.

    Args:
        pid: of the process that is known.
    """

    def __init__(self, pid: Callable[[], int] = os.getpid) -> None:
        self.count_failure: Callable[[str], None] = lambda _place: None
        """Told, while an exception of a part is handled."""
        self.told = True
        """Whether hooks have run in this process since it was forked, so that those of others have run as well."""
        self.goes_on = False
        """Whether this process goes on with what was recorded while threads were held."""
        self.starting: Callable[[], AbstractContextManager[object]] = nullcontext
        """Entered while threads are started."""
        self._held: Held | None = None
        self._pid_now = pid
        self._pid = pid()
        self._numbers = count()
        self._parts: dict[Step, dict[int, Callable[[], Callable[[], object] | None]]] = {step: {} for step in Step}
        self._around: list[tuple[Callable[[], object], Callable[[], object]]] = []
        self._noticing = threading.Lock()

    def add(self, renew: Callable[[], object], step: Step = Step.LOCKS) -> None:
        """Call this in a child. A bound method is called as long as its object lives, which is not kept alive."""
        number, parts = next(self._numbers), self._parts[step]
        if hasattr(renew, "__self__"):
            bound: Any = renew
            # Not a `WeakMethod`: one whose object outlives it complains when the interpreter ends.
            owner, method = weakref.ref(bound.__self__, lambda _reference: parts.pop(number, None)), bound.__func__
            parts[number] = lambda: None if (found := owner()) is None else partial(method, found)
        else:
            parts[number] = lambda: renew

    def around(self, before: Callable[[], object], in_parent: Callable[[], object]) -> None:
        """Call these in the process that forks, before and after each fork that runs hooks; both must be short."""
        self._around.append((before, in_parent))

    def before(self) -> None:
        """Make ready to fork; for the interpreter's hook."""
        self._call([before for before, _ in self._around])

    def in_parent(self) -> None:
        """Go on; for the interpreter's hook."""
        self._call([in_parent for _, in_parent in self._around])

    def begin(self, start: Callable[[], object]) -> None:
        """Start a thread by this, now and in every child; while `holds` it is called, but must not start one."""
        self.add(start, Step.THREADS)
        with self.starting():
            start()

    def hold(self, held: Held) -> None:
        """Start no thread in this process, which is to be forked without hooks."""
        self._held = held

    @property
    def holds(self) -> bool:
        """Whether no thread may run in this process."""
        return self._held is not None

    def release(self) -> None:
        """Start what was held, in this process: it will not be forked, or ends."""
        if self._held is not None:
            self._held, self.goes_on = None, True
            self._start()

    def notice(self) -> bool:
        """Tell whether this process turns out to be a child that no hook was run in: then everything is made anew, now.

        Costs a system call: for doors that are passed once per batch, export, request or client, not per message.
        """
        if self._pid_now() == self._pid:
            if self._held is not None and not self._held.waits():
                self.release()
            return False
        # Without waiting: the lock may be held by a thread that only the parent has.
        if not self._noticing.acquire(blocking=False):
            return False
        try:
            if self._pid_now() == self._pid:
                return False
            self.told = False
            self._renew()
            return True
        finally:
            self._noticing.release()

    def in_child(self) -> None:
        """Make everything anew; for the interpreter's hook."""
        self.told = True
        self._noticing = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        self._pid = self._pid_now()
        held, self._held = self._held, None
        self.goes_on = held is not None and not self.told and held.takes_over()
        for step in (Step.LOCKS, Step.ZERO, Step.NAME):
            if step is not Step.ZERO or not self.goes_on:
                self._make_anew(step)
        self._start()

    def _start(self) -> None:
        with self.starting():
            self._make_anew(Step.THREADS)

    def _make_anew(self, step: Step) -> None:
        self._call([renew for part in list(self._parts[step].values()) if (renew := part()) is not None])

    def _call(self, parts: list[Callable[[], object]]) -> None:
        for part in parts:
            try:
                part()
            except Exception:
                self.count_failure("fork")


forks = Forks()
"""Those of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)
