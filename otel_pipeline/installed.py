"""What is installed, as `importlib.metadata` has it, with each file read once and no more of it than is asked for."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_NAME, _VERSION = (re.compile(rf"^{header}:[ \t]*(\S+)[ \t]*$", re.MULTILINE) for header in ("Name", "Version"))
_read: tuple[object, Any] | None = None
"""The entry points of all distributions, and the state of the folders that they were found in."""


def entry_points(group: str) -> metadata.EntryPoints:
    """Return those of one group. Safe in any thread.

    Raises:
        Exception: anything, where some installed distribution's files are broken.
    """
    global _read  # noqa: PLW0603 - a look-up opens the files of all distributions
    known, now = _read, _folders()
    if known is None or known[0] != now:
        _read = known = (now, metadata.entry_points())
    found: metadata.EntryPoints = known[1].select(group=group)
    return found


def version(*names: str) -> str | None:
    """Return the version of the first of these distributions that is installed; None where none of them is."""
    for name in names:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        return _said(found, _VERSION) or found.version
    return None


def name_of(distribution: metadata.Distribution | None) -> str:
    """Return a distribution's name; empty where there is none."""
    return "" if distribution is None else _said(distribution, _NAME) or distribution.name


def _said(distribution: metadata.Distribution, header: re.Pattern[str]) -> str | None:
    """Read one header: the others, a page and more, are not parsed for it."""
    found = header.search((distribution.read_text("METADATA") or "").partition("\n\n")[0])
    return None if found is None else found[1]


def _folders() -> object:
    """Return what changes when something is installed, as far as `importlib.metadata` itself looks at it."""
    return [(folder, _changed_ns(folder)) for folder in sys.path]


def _changed_ns(folder: str) -> int | None:
    try:
        return Path(folder).stat().st_mtime_ns
    except (OSError, ValueError):
        return None
