"""What is loaded is no garbage: while hundreds of modules are, the interpreter does not look for any."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_pausing = 0


@contextmanager
def not_looked_for() -> Iterator[None]:
    """Pause the cyclic garbage collector, if it is on, while the `with` lasts: a quarter of what loading us costs.

    For tens of ms, once. What was made meanwhile counts as old then, and is looked at with all else the next time.
    Where the application has switched the collector off it stays so, and what it has frozen stays frozen.
    """
    global _pausing  # noqa: PLW0603 - the collector is the process's
    if not gc.isenabled():
        yield
        return
    _pausing += 1
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        gc.enable()
        _pausing -= 1


def _in_child() -> None:
    """Go on in a child that another thread forked meanwhile: the thread that would is not there."""
    global _pausing  # noqa: PLW0603 - as above
    if _pausing:
        _pausing = 0
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
