"""Reads the state files of processes. Whatever lies in their folder, nothing raises and nothing is waited for."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_pipeline.own_files import is_locked, open_plain
from otel_pipeline.verdict.report import SCHEMA
from otel_pipeline.verdict.state_file import is_name, lock_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SILENT_AFTER_S = 5.0
"""A process that is alive and whose file is older does not answer."""
MAX_BYTES = 4_000_000
"""Of a state file: four times what the most flows with the longest names take."""
MAX_DEPTH = 12
MAX_NUMBER = 1e15
"""Of a time in s; nothing that is measured comes near it."""

_TEXT, _TEXT_OR_NONE = (str,), (str, type(None))
_PROCESS = {"pid": (int,), "service": _TEXT, "environment": _TEXT_OR_NONE}
_FLOW = {"destination": _TEXT, "group": _TEXT_OR_NONE, "cluster": _TEXT_OR_NONE, "state": _TEXT, "lights": (dict,)}
_LIGHT = {"state": _TEXT, "why": _TEXT, "look": _TEXT_OR_NONE, "figures": (dict,)}
_SENT = {name: kinds for name, kinds in _FLOW.items() if name != "group"}
_DOCUMENT = {
    "ok": (bool,),
    "reason": _TEXT,
    "written_at": _TEXT,
    "ended_at": _TEXT_OR_NONE,
    "process": (dict,),
    "flows": (list,),
    "producers": (list,),
}


@dataclass(frozen=True)
class Found:
    """A state file and its process."""

    path: Path
    document: dict[str, Any]
    alive: bool
    age_s: float
    """Since it was written."""

    @property
    def ended(self) -> bool:
        """Whether the process has ended in order."""
        return not self.alive and self.document["ended_at"] is not None

    @property
    def silent(self) -> bool:
        """Whether the process is there, and does not answer."""
        return self.alive and self.age_s > _patience_s(self.document)


def read_all(folder: Path, left_out: Callable[[Path], object] = lambda _path: None) -> list[Found]:
    """Read the files of every process that keeps its health in `folder`, by service.

    Args:
        folder: need not be there.
        left_out: told of each file that is called like a state file and is none, and of a folder that cannot be read.
    """
    found = []
    try:
        for path in (path for path in folder.iterdir() if path.suffix == ".json"):
            each = read(path)
            if each is not None:
                found.append(each)
            elif is_name(path.name) and os.path.lexists(path):  # Its process may have left just now.
                left_out(path)
    except FileNotFoundError:
        return []
    except OSError:
        left_out(folder)
    return sorted(found, key=lambda each: (each.document["process"]["service"], each.document["process"]["pid"]))


def read(path: Path) -> Found | None:
    """Read one file; None when it is no state file."""
    try:
        text, age_s = _text(path)
        document = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    if not _is_state(document):
        return None
    locked = is_locked(lock_of(path))
    return Found(path, document, age_s <= _patience_s(document) if locked is None else locked, age_s)


def _text(path: Path) -> tuple[bytes, float]:
    """Return the content of a plain file, and its age in s. Raises OSError; ValueError for one that is too large."""
    with open_plain(path, through_links=False) as file:
        found = os.fstat(file.fileno())
        if found.st_size > MAX_BYTES:
            raise ValueError("it is too large")
        return file.read(MAX_BYTES), max(0.0, time.time() - found.st_mtime)


def _patience_s(document: Mapping[str, Any]) -> float:
    return max(SILENT_AFTER_S, 5 * float(document["interval_s"]))


def _is_state(document: Any) -> bool:
    """Tell whether all that is read of it is there, and of its kind."""
    return (
        _has(document, _DOCUMENT)
        and document.get("schema") == SCHEMA
        and _is_shallow(document)
        and _is_number(document.get("interval_s"))
        and (document.get("clock_bound_s") is None or _is_number(document["clock_bound_s"]))
        and _has(document["process"], _PROCESS)
        and all(map(_is_flow, document["flows"]))
        and all(map(_is_sent, document["producers"]))
    )


def _is_flow(flow: Any) -> bool:
    return _has(flow, _FLOW) and _has_lights(flow)


def _is_sent(sent: Any) -> bool:
    return _has(sent, _SENT) and _has_lights(sent)


def _has_lights(flow: Mapping[str, Any]) -> bool:
    return all(_has(light, _LIGHT) for light in flow["lights"].values())


def _has(value: Any, shape: Mapping[str, tuple[type, ...]]) -> bool:
    return isinstance(value, dict) and all(
        name in value and isinstance(value[name], kinds) for name, kinds in shape.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER


def _is_shallow(document: Any) -> bool:
    """Tell whether everything lies as deep as in ours at most."""
    level = [document]
    for _ in range(MAX_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for values in inner for value in values if isinstance(value, (dict, list))]
    return not level
