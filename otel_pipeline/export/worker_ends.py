"""Servers whose workers end in ways of their own, past `atexit`: there is a moment after their last work to hand over.

uvicorn raises the signal that it was stopped by again, at its default; celery's prefork children leave by `os._exit`.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from otel_pipeline.export import ending

if TYPE_CHECKING:
    from types import ModuleType

    from otel_pipeline.engine.patching import Patches

_CAPTURED = "_captured_signals"
"""Where uvicorn keeps the signals that it will raise again; since it does so, 0.29."""


def follow(patches: Patches) -> None:
    """Hand over in these moments, once the servers are imported."""
    patches.when_imported("uvicorn.server", functools.partial(_follow_uvicorn, patches))
    patches.when_imported("celery.signals", _follow_celery)


def _follow_uvicorn(patches: Patches, uvicorn: ModuleType) -> None:
    patches.check_signature(uvicorn.Server.shutdown, ("self", "sockets"))
    patches.replace(uvicorn.Server, "shutdown", _shutdown)


def _shutdown(original: Any) -> Any:
    @functools.wraps(original)
    async def shutdown(self: Any, sockets: Any = None) -> None:
        await original(self, sockets)
        with suppress(Exception):
            if getattr(self, _CAPTURED, None):
                import asyncio

                await asyncio.to_thread(ending.before_signal)

    return shutdown


def _follow_celery(signals: ModuleType) -> None:
    signals.worker_process_shutdown.connect(_child_ends, weak=False, dispatch_uid=__name__)


def _child_ends(**_others: Any) -> None:
    ending.leave()
