"""Whose segments are whose: each process has a lock for as long as it lives, and its files' names begin as the lock's.

A process that ends, however it ends, lets go of its lock; then another one of the same service may take what it has
left. Where the file system has no locks, nobody takes anybody's.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.export.spool.segments import FileSegment
from otel_pipeline.own_files import FLAGS, is_gone, lock, make_folder, own_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_pipeline.export.destination import Signal

OTHERS_AGE_S = 7 * 86_400.0
"""When segments of other services are deleted: nobody has come back for them."""
_NAME = re.compile(r"(?P<owner>(?P<service>[A-Za-z0-9._-]{1,60})-[0-9]+-[0-9]{13,17})(?:\.lock|-[0-9]{8}\.spool)")
_TRIES = 3


def safe_name(service: str) -> str:
    """Return a service's name as it stands in names of files."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", service)[:60] or "service"


class OwnFolder:
    """This process's files in the spool's folder. The caller has a lock.

    Args:
        folder: made when missing, for its user alone.
        service: whose process it is, as `safe_name` returns it.
    """

    def __init__(self, folder: Path, service: str) -> None:
        self.path = folder
        self.service = service
        self._owner = ""
        self._lock: int | None = None

    def make(self, signal: Signal, digest: bytes, number: int) -> FileSegment:
        """Make a segment. Raises OSError where that cannot be done."""
        if self._lock is None or is_gone(self._lock):
            self._begin()
        return FileSegment.make(self.path / f"{self._owner}-{number % 10**8:08}.spool", signal, digest, number)

    def _begin(self) -> None:
        """Lock a new name. Who looks for what dead processes have left may have locked it first, and deleted it."""
        make_folder(self.path)
        self.forget()
        for _ in range(_TRIES):
            # Thirteen digits at least, as the pattern has it: a machine without a clock of its own starts in 1970.
            owner = f"{self.service}-{os.getpid()}-{max(time.time_ns(), 0) // 1_000:013}"
            descriptor = os.open(self.path / f"{owner}.lock", FLAGS | os.O_RDWR | os.O_EXCL, 0o600)
            if lock(descriptor, exclusive=True) is False or is_gone(descriptor):
                os.close(descriptor)
                continue
            self._owner, self._lock = owner, descriptor
            return
        raise OSError("others take its files")

    @property
    def owner(self) -> str:
        """What its files' names begin with; empty before there are any."""
        return self._owner

    def forget(self) -> None:
        """Let go of the lock, in a forked child of the parent's: that goes on having it."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def end(self, *, is_empty: bool) -> None:
        """Let go of the files; without any, of the lock's file as well."""
        if self._lock is not None and is_empty:
            with suppress(OSError):
                (self.path / f"{self._owner}.lock").unlink()
        self.forget()


class Left(NamedTuple):
    """What a process has left that has ended. It is this process's as long as the lock is not closed."""

    lock_path: Path
    lock: int
    segments: list[Path]

    def let_go(self, *, is_empty: bool) -> None:
        """Leave it to others; or, where nothing is left in it, delete the lock's file."""
        if is_empty:
            with suppress(OSError):
                self.lock_path.unlink()
        with suppress(OSError):
            os.close(self.lock)


def left_behind(own: OwnFolder, age_s: float) -> Iterator[Left]:
    """Find what processes of this service have left; delete what is old of others. Never raises.

    Args:
        own: of this process.
        age_s: what is older is left out by the caller; of other services what is older than this and a week is deleted.
    """
    found: dict[str, list[Path]] = {}
    services: dict[str, str] = {}
    modified_s: dict[str, float] = {}
    for each in own_files(own.path, _NAME):
        named = _NAME.fullmatch(each.path.name)
        if named is None or named["owner"] == own.owner:
            continue
        owner = named["owner"]
        services[owner] = named["service"]
        modified_s[owner] = max(each.modified_s, modified_s.get(owner, 0.0))
        files = found.setdefault(owner, [])
        if each.path.suffix == ".spool":
            files.append(each.path)
    for owner, files in found.items():
        is_ours = services[owner] == own.service
        if not is_ours and time.time() - modified_s[owner] < max(age_s, OTHERS_AGE_S):
            continue
        held = _taken(own.path / f"{owner}.lock", files)
        if held is None:
            continue
        if is_ours and files:
            yield held
            continue
        for path in files:
            with suppress(OSError):
                path.unlink()
        held.let_go(is_empty=True)


def _taken(path: Path, files: list[Path]) -> Left | None:
    """Take the lock of a process that has ended; None where it lives, or where that cannot be told."""
    try:
        descriptor = os.open(path, FLAGS | os.O_RDWR, 0o600)
    except OSError:
        return None
    # Another one may have been faster, and be through with it: the name is not the file's any more.
    if lock(descriptor, exclusive=True) is True and not is_gone(descriptor):
        return Left(path, descriptor, sorted(files))
    os.close(descriptor)
    return None
