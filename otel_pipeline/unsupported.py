"""Messaging clients and frameworks that are known and not instrumented, and what to do with each instead."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_pipeline import installed
from otel_pipeline.library_names import spelled

if TYPE_CHECKING:
    from types import FrameType

BY_HAND = (
    "its messages carry no trace; by hand: otel_pipeline.inject(headers) where it sends, "
    "with otel_pipeline.extract(headers): where it receives"
)
_OURS = ("otel_pipeline.", "opentelemetry.")
_HOOK = "otel_pipeline.engine.import_hooks"
_IMPORTING = ("importlib", "_frozen_importlib", "wrapt.")
_told: set[str] = set()
"""Packages that have been spoken of in this process."""


@dataclass(frozen=True)
class Unsupported:
    """One of them."""

    name: str
    """What configuration and `status()` call it: its name in the package index."""
    package: str
    """What the application imports."""
    distributions: tuple[str, ...] = ()
    """Other names that the package index has it under."""
    instead: str = BY_HAND
    """What it costs, and what to do."""

    @property
    def names(self) -> frozenset[str]:
        """All that configuration may call it, as `Adapter.names`."""
        return spelled((self.name, self.package, *self.distributions))

    def version(self) -> str | None:
        """Return the installed version; None when it is not installed."""
        return installed.version(self.name, *self.distributions)


UNSUPPORTED = (
    Unsupported(
        "quixstreams",
        "quixstreams",
        instead="it rests on confluent-kafka: where that is instrumented, its functions have the message in hand; with "
        "joins, which read ahead, what is sent rests on all that was read",
    ),
    Unsupported("pulsar-client", "pulsar"),
    Unsupported("pika", "pika"),
    Unsupported("aio-pika", "aio_pika"),
    Unsupported("nats-py", "nats"),
    Unsupported(
        "eventlet",
        "eventlet",
        instead="its green threads are not followed, and telemetry may not leave; use threads, or gevent with "
        "gevent.monkey.patch_all() before otel_pipeline.instrument()",
    ),
)


def is_first_import(package: str, *, is_there: bool) -> bool:
    """Tell whether the application has imported the package, and nobody has been told of it in this process.

    What we import ourselves, or another instrumentation does, says nothing of the application.

    Args:
        package: what is imported.
        is_there: whether it was imported before; otherwise the code that asks is called by the import.
    """
    if package in _told or (not is_there and _importer().startswith(_OURS)):
        return False
    _told.add(package)
    return True


def _importer() -> str:
    """Return the name of the module whose import statement runs; empty where there is none."""
    frame: FrameType | None = sys._getframe(1)
    called_by_hook = False
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        called_by_hook = called_by_hook or name.startswith(_HOOK)
        if called_by_hook and not name.startswith((_HOOK, *_IMPORTING)):
            return name
        frame = frame.f_back
    return ""
