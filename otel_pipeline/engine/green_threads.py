"""gevent, which makes greenlets of threads: it is to patch before ours begin."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.engine.patching import Patches

_MONKEY, _EVENTS = "gevent.monkey", "gevent.events"
_SAID = (
    "gevent has patched threads after instrument(): what is exported when the program ends may be lost; "
    "call gevent.monkey.patch_all() before otel_pipeline.instrument()"
)


def follow(patches: Patches, problem: Callable[[str, str], None]) -> None:
    """Say once where gevent patches threads while those of telemetry run already."""
    patches.when_imported(_MONKEY, partial(_listen, problem))


def _listen(problem: Callable[[str, str], None], monkey: Any) -> None:
    if monkey.is_module_patched("threading"):
        return
    events: Any = importlib.import_module(_EVENTS)

    def tell(event: object) -> None:
        name = type(event).__name__
        if name == "GeventDidPatchModuleEvent" and getattr(event, "module_name", None) == "threading":
            problem("gevent", _SAID)

    events.subscribers.append(tell)
