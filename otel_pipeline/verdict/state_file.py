"""The health of each running process in a file that is replaced once a second, and a lock that ends with its process.

A file and not a socket: it can be read when the process's interpreter hangs, needs no port, and works everywhere.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SILENT_AFTER_S = 5.0
"""A living process whose file is older than this does not answer."""
REMOVED_AFTER_S = 3600.0
"""Files of dead processes are kept for this long, so that somebody can see that they died."""
_WAIT_S = 0.5
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_files: WeakSet[StateFile] = WeakSet()


class StateFile:
    """One process's file. Safe in any thread; a forked child writes one of its own.

    Args:
        folder: made when missing, for its user alone.
        service: stands in the file's name.
        instance: so does this.
        problem: told once when nothing can be written.
        path: a file to write instead, as the configuration says.
    """

    def __init__(
        self,
        folder: Path,
        service: str,
        instance: str,
        problem: Callable[[str, str], None],
        path: Path | None = None,
    ) -> None:
        self._folder = folder
        self._name = f"{_safe(service)}-{{pid}}-{_safe(instance)[:8]}"
        self._problem = problem
        self._given = path
        self._pid = 0
        self._lock: int | None = None
        self._path = Path()
        self._off = False
        self._writing = Lock()
        _files.add(self)

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the file. A failure is reported once, and the next call tries again."""
        with self._writing:
            if not self._off:
                self._write(document)

    def _write(self, document: Mapping[str, Any]) -> None:
        try:
            if self._pid != os.getpid():
                self._open()
            if self._lock is None:
                self._take_lock()
            part = self._path.with_suffix(f".{self._pid}.part")
            descriptor = os.open(part, _FLAGS | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, separators=(",", ":"), default=str)
            part.replace(self._path)
        except OSError as error:
            self._problem("state_file", f"health cannot be written to {self._folder}: {error.strerror or error}")

    def close(self) -> None:
        """Remove the file: the process ends in an orderly way, and nothing is left of it."""
        # What is being written just now would be left otherwise, and its process look dead.
        held = self._writing.acquire(timeout=_WAIT_S)
        try:
            self._off = True
            if self._pid == os.getpid():
                with suppress(OSError):
                    self._path.unlink()
                with suppress(OSError):
                    self._path.with_suffix(".lock").unlink()
            self.forget_lock()
        finally:
            if held:
                self._writing.release()

    def renew(self) -> None:
        """Begin anew in a forked child: the thread that wrote is not here, and the file's lock is the parent's."""
        self._writing = Lock()
        self.forget_lock()

    def forget_lock(self) -> None:
        """Close the parent's lock in a forked child; the parent would look alive for as long as the child lives."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _open(self) -> None:
        self._pid = os.getpid()
        self._path = self._given or self._folder / f"{self._name.format(pid=self._pid)}.json"
        make_folder(self._path.parent)
        if self._given is None:
            _remove_old(self._folder)

    def _take_lock(self) -> None:
        descriptor = os.open(self._path.with_suffix(".lock"), _FLAGS, 0o600)
        if lock(descriptor, exclusive=True):
            self._lock = descriptor
        else:
            os.close(descriptor)  # A reader looks at this moment.


@dataclass(frozen=True)
class Found:
    """A state file and its process."""

    path: Path
    document: dict[str, Any]
    alive: bool
    age_s: float
    """Seconds since it was written."""

    @property
    def silent(self) -> bool:
        """Whether the process is alive but does not answer."""
        interval_s = self.document.get("interval_s")
        patience_s = 5 * interval_s if isinstance(interval_s, (int, float)) else 0.0
        return self.alive and self.age_s > max(SILENT_AFTER_S, patience_s)


def read_all(folder: Path) -> list[Found]:
    """Read each process of this user that keeps its health in `folder`, by service; what is unreadable is left out."""
    found = [each for path in folder.glob("*.json") if (each := read(path)) is not None]
    return sorted(found, key=lambda each: (each.document["process"]["service"], each.document["process"]["pid"]))


def read(path: Path) -> Found | None:
    """Read one file; None when it is none of ours."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        age_s = max(0.0, time.time() - path.stat().st_mtime)
        document = json.loads(path.read_text("utf-8"))
        if document["schema"] != 1 or not isinstance(document["flows"], list) or not document["process"]["service"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Found(path, document, _is_locked(path.with_suffix(".lock")), age_s)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        return not lock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)


def lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock an open file until it is closed, without waiting; False when another process has it."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone; raises OSError when it is somebody else's, or a link."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(0, f"{folder} is no folder")
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise PermissionError(0, f"{folder} belongs to another user")


def _remove_old(folder: Path) -> None:
    for path in (*folder.glob("*.json"), *folder.glob("*.part")):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > REMOVED_AFTER_S and not _is_locked(path.with_suffix(".lock")):
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:60] or "service"


def _in_child() -> None:
    for file in list(_files):
        file.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
