"""The health of each running process in a file that is replaced once a second, and a lock that ends with its process.

A file and not a socket: it can be read of a process whose interpreter hangs, needs no port, and works everywhere.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from otel_pipeline.engine.forks import forks
from otel_pipeline.own_files import FLAGS, is_gone, is_locked, lock, make_folder, own_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEPT_S = 86_400.0
"""What processes leave is kept for as long: for a batch job, for CI, and so that somebody can see that they died."""
MAX_KEPT = 200
"""So many of them are, the newest ones."""
_WAIT_S = 0.5
MISSED = 3
"""How often the lock of a named file was another's before that is said."""
_BEGINNING = b'{"schema":'
"""Of every state file."""
_OURS = re.compile(r"[A-Za-z0-9._-]{1,60}-([0-9]+)-[A-Za-z0-9._-]{1,8}\.json(\.lock|\.\1\.part)?")


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
        self._service = service
        self.instance = instance
        """What is written from now on in a new file's name."""
        self._problem = problem
        self._given = path
        self._pid = 0
        self._lock: int | None = None
        self._path = Path()
        self._off = self._failed = False
        self._missed = 0
        self._writing = Lock()
        forks.add(self.renew)

    def is_there(self) -> bool:
        """Tell whether the file that was written last is still there."""
        return not self._failed and self._path.exists()

    def write(self, document: Mapping[str, Any] | str) -> None:
        """Replace the file by a document, or its text. What goes wrong is told once, and tried again the next time."""
        with self._writing:
            if not self._off:
                self._write(document)

    def _write(self, document: Mapping[str, Any] | str) -> None:
        try:
            if self._failed or self._pid != os.getpid() or (self._lock is not None and is_gone(self._lock)):
                self._open()
            if self._lock is None and not self._take_lock() and self._given is not None:
                self._leave_to_another()
                return
            self._missed = 0
            text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"), default=str)
            self._replace(text)
            self._failed = False
        except (OSError, ValueError) as error:  # ValueError: no path is like that.
            self._failed = True
            reason = getattr(error, "strerror", None) or error
            self._problem(
                "state_file",
                f"health cannot be written to {self._given or self._folder}: {reason}; set OTEL_PIPELINE_STATE_DIR to "
                "another folder, or `health: {state_file: off}`",
            )

    def _leave_to_another(self) -> None:
        """Write nothing: a file tells of one process. A reader may have had the lock at that moment."""
        self._missed += 1
        if self._missed == MISSED:
            self._problem(
                "state_file",
                f"{self._given} tells of another process, which has its lock; where a service has several, leave "
                "`health.state_file` at auto: then each has a file",
            )

    def _replace(self, text: str) -> None:
        part = self._path.with_name(f"{self._path.name}.{self._pid}.part")
        try:
            descriptor = os.open(part, FLAGS | os.O_WRONLY | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            part.replace(self._path)
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise

    def close(self, last: str | None = None) -> None:
        """Leave in order: what is left of the process is its last document, with the time of its end, or nothing."""
        # What is being written just now would be left otherwise, and its process look dead.
        held = self._writing.acquire(timeout=_WAIT_S)
        try:
            if last is not None and not self._off:
                self._write(last)
            self._off = True
            if self._pid == os.getpid() and (self._given is None or self._lock is not None):
                if last is None or self._failed:
                    with suppress(OSError):
                        self._path.unlink()
                if self._lock is not None:
                    with suppress(OSError):
                        lock_of(self._path).unlink()
            self.forget_lock()
        finally:
            if held:
                self._writing.release()

    def renew(self) -> None:
        """Begin anew in a forked child: who was writing is not here, and the file's lock is the parent's."""
        self._writing = Lock()
        self.forget_lock()

    def forget_lock(self) -> None:
        """Give the lock back in a forked child: its parent would look alive for as long as the child lives."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _name(self) -> str:
        return f"{_safe(self._service)}-{os.getpid()}-{_safe(self.instance)[:8]}.json"

    def _open(self) -> None:
        self.forget_lock()
        self._path = path = self._given or self._folder / self._name()
        if self._given is None:
            make_folder(self._folder)
            _remove_old(self._folder)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and _beginning(path) not in (b"", _BEGINNING):
                raise FileExistsError(0, "a file that is no state file is there already")
        self._pid = os.getpid()

    def _take_lock(self) -> bool:
        descriptor = os.open(lock_of(self._path), FLAGS | os.O_RDWR, 0o600)
        if os.fstat(descriptor).st_size:
            os.close(descriptor)
            raise FileExistsError(0, f"{lock_of(self._path).name} is somebody else's")
        if lock(descriptor, exclusive=True) is False:
            os.close(descriptor)  # A reader looks at this moment.
            return False
        self._lock = descriptor
        return True


def is_name(name: str) -> bool:
    """Tell whether a state file of ours is called like that, where the configuration has not named it."""
    return name.endswith(".json") and _OURS.fullmatch(name) is not None


def lock_of(path: Path) -> Path:
    """Return the file whose lock says that the process of a state file lives; it is always empty."""
    return path.with_name(f"{path.name}.lock")


def _remove_old(folder: Path) -> None:
    """Remove what processes have left that are long gone, or too many; only what is ours by name, owner and content."""
    now_s, files = time.time(), own_files(folder, _OURS)
    old = [path for modified_s, _, path in files if now_s - modified_s > KEPT_S]
    # Some of them are of running processes, which are asked only where there are too many files.
    left = [path for modified_s, _, path in files if now_s - modified_s <= KEPT_S and path.suffix == ".json"]
    if len(left) > MAX_KEPT:
        left = [path for path in left if is_locked(lock_of(path)) is not True]
        old += left[: max(0, len(left) - MAX_KEPT)]
    # The locks last: those of the files that are gone by then.
    for path in sorted(old, key=lambda path: path.suffix == ".lock"):
        with suppress(OSError):
            if path.suffix == ".part" or _is_dead(path):
                path.unlink()


def _is_dead(path: Path) -> bool:
    """Tell whether a state file is one, or a lock has no file any more, and no process has it."""
    if path.suffix == ".lock":
        left = not path.stat().st_size and not path.with_suffix("").exists()
    else:
        left = _beginning(path) == _BEGINNING
    return left and is_locked(path if path.suffix == ".lock" else lock_of(path)) is not True


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_BEGINNING))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:60] or "service"
