"""Where this package keeps what outlives a process, for its user alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "OTEL_PIPELINE_STATE_DIR"


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return `OTEL_PIPELINE_STATE_DIR`, else the user's state folder on this system."""
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    if os.name == "nt" and environ.get("LOCALAPPDATA"):
        return Path(environ["LOCALAPPDATA"]) / "otel-pipeline"
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "otel-pipeline"
    return Path.home() / ".local" / "state" / "otel-pipeline"


def health_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where running processes keep their health: in memory where possible, so that it ends with the session."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and not environ.get(VARIABLE) and os.name != "nt":
        return Path(runtime) / "otel-pipeline" / "health"
    return state_folder(environ) / "health"


def telemetry_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder in which telemetry lines lie."""
    return state_folder(environ) / "telemetry"
