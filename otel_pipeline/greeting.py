"""The one line that says where telemetry goes, always: on stderr where a person looks, as a log record elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from otel_pipeline.config.variables import WRAPPED

if TYPE_CHECKING:
    from otel_pipeline.engine.guard import Guard
    from otel_pipeline.status import Status

_LOGGER = logging.getLogger("otel_pipeline")
_SPAWNED = "--multiprocessing-fork"
"""An argument of every interpreter that `multiprocessing` starts for a child: part of the program."""


def say_where(status: Status, guard: Guard, *, on_stderr: bool) -> None:
    """Say where telemetry goes, and why there. Never raises.

    Args:
        status: of what has just been instrumented.
        guard: counts where that cannot be said.
        on_stderr: whether stderr is read by a person even if it is no terminal, as in `local`.
    """
    line = f"otel_pipeline: {status.service_name} ({status.environment or 'environment unknown'}) -> {status.export}"
    try:
        if sys.stderr is not None and (on_stderr or _is_looked_at()) and not _of_another_program():
            sys.stderr.write(f"{line}\n")
        else:
            _LOGGER.info("%s", line)
    except Exception:
        guard.count("stderr")


def _is_looked_at() -> bool:
    """Tell whether a person sees what stderr says: a terminal, or a cell of a notebook."""
    return "ipykernel" in sys.modules or sys.stderr.isatty()


def leave_stderr_to_programs() -> None:
    """Write nothing on stderr in the programs that the wrapped one starts, which the wrapper instruments as well.

    What they write is theirs, and may be read by who has started them; their log says it, where they have one.
    """
    os.environ.setdefault(WRAPPED, str(os.getpid()))
    if _of_another_program():
        # Without any handler Python itself would write our warnings there.
        _LOGGER.addHandler(logging.NullHandler())


def _of_another_program() -> bool:
    return os.environ.get(WRAPPED, str(os.getpid())) != str(os.getpid()) and _SPAWNED not in sys.orig_argv
