"""Says where this package keeps what outlives a process. Nothing is made here, and nothing raises."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "OTEL_PIPELINE_STATE_DIR"
_NAME = "otel-pipeline"


def telemetry_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where telemetry lines lie."""
    return _in_state_folder("telemetry", environ)


def spool_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where telemetry waits until it is taken."""
    return _in_state_folder("spool", environ)


def demo_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the demo keeps its runs."""
    return _in_state_folder("demo", environ)


def health_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where running processes keep their health: rather in memory, where it ends with the user's session."""
    return health_folders(environ)[0]


def health_folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return where to look for health: a service of the same user need not have the variables of its session."""
    folders = [_in_state_folder("health", environ)]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if not environ.get(VARIABLE) and _is_the_users(runtime):
        folders.insert(0, _whole(Path(runtime)) / _NAME / "health")
    return folders


def _is_the_users(folder: str) -> bool:
    """Tell whether it is there for this user, and not kept from another one's session, as `sudo` may."""
    try:
        found = os.stat(folder)  # noqa: PTH116 - any text is a path here
    except (OSError, ValueError):
        return False
    return os.name != "nt" and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _in_state_folder(name: str, environ: Mapping[str, str]) -> Path:
    """Return `OTEL_PIPELINE_STATE_DIR`, else the user's state folder of this system, else one for temporary files."""
    if environ.get(VARIABLE):
        return _whole(Path(environ[VARIABLE])) / name
    state = environ.get("LOCALAPPDATA", "") if os.name == "nt" else ""
    state = state or environ.get("XDG_STATE_HOME", "") or _home_state()
    if _can_be_made(state):
        return _whole(Path(state)) / _NAME / name
    # A process in a container often has no home, no name, or a home that it may not write to. One level: whoever may
    # write beside the folder could swap the one above it.
    temporary = environ.get("TMPDIR") or environ.get("TEMP") or "/tmp"  # noqa: S108 - it must be the user's own
    return _whole(Path(temporary)) / f"{_NAME}-{_user()}-{name}"


def _home_state() -> str:
    """Return the state folder in the user's home; empty where there is none."""
    home = os.path.expanduser("~")  # noqa: PTH111 - `Path.home()` raises without one
    return os.path.join(home, ".local", "state") if os.path.isabs(home) else ""  # noqa: PTH117, PTH118


def _can_be_made(folder: str) -> bool:
    """Tell whether it is there, or may be made, and can be written to."""
    while folder and not os.path.lexists(folder):
        above = os.path.dirname(folder)  # noqa: PTH120 - never raises
        folder = above if above != folder else ""
    # `Path.is_dir()` raises where a folder above may not be looked into.
    return bool(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)  # noqa: PTH112


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else "user"


def _whole(path: Path) -> Path:
    """Return it from the root, since the application may change its working folder."""
    try:
        return path.absolute()
    except OSError:
        return path  # The working folder was deleted.
