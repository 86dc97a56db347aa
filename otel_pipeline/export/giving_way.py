"""An application that sets its own provider after us gets it.

OpenTelemetry allows one `set_..._provider` per process and only logs a second one. What guards it is an object with one
method; ours lets one more through and tells us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.util._once import Once

if TYPE_CHECKING:
    from collections.abc import Callable


class GivingWay(Once):
    """Stands in for the guard after our own provider was set: the next one is the application's, and final.

    Args:
        replaced: called when it is set.
        failed: called where that raises: whoever sets a provider hears nothing of it.
    """

    def __init__(self, replaced: Callable[[], None], failed: Callable[[], None]) -> None:
        super().__init__()
        self._replaced, self._failed = replaced, failed

    def do_once(self, func: Callable[[], None]) -> bool:
        """Let the call through once, then tell."""
        done = super().do_once(func)
        if done:
            try:
                self._replaced()
            except Exception:
                self._failed()
        return done


def give_way(module: Any, name: str, replaced: Callable[[], None], failed: Callable[[], None]) -> None:
    """Let the application's next provider through, after ours was set."""
    setattr(module, f"{name}_SET_ONCE", GivingWay(replaced, failed))
