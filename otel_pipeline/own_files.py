"""Keeps files for one user alone, tells them from everybody else's, and reads the others' without waiting for them."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator
    from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_PLAIN = ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY")
FLAGS = os.O_CREAT | sum(getattr(os, name, 0) for name in _PLAIN)
"""To open a file of ours: no link is followed, and nothing is waited for where a pipe lies in its place."""

_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in _PLAIN if name != "O_NOFOLLOW")


class OwnFile(NamedTuple):
    """A file of this user's in a folder of ours."""

    modified_s: float
    """s since the epoch."""
    size_bytes: int
    path: Path


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone, where it is missing.

    Raises:
        OSError: it cannot be made, is somebody else's, or is a link.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(0, f"{folder} is no folder")
    if not is_mine(found):
        raise PermissionError(0, f"{folder} belongs to another user")


def open_plain(path: Path, *, through_links: bool = True) -> BinaryIO:
    """Open a file to read it; a pipe or device in its place is not waited for.

    Raises:
        OSError: it cannot be read, or is no plain file.
        ValueError: no path is like that.
    """
    descriptor = os.open(path, _READ | (0 if through_links else getattr(os, "O_NOFOLLOW", 0)))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file")
    return os.fdopen(descriptor, "rb")


def is_mine(found: os.stat_result) -> bool:
    """Tell whether a file is this user's; where a system has no owners, every file is."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def is_gone(descriptor: int) -> bool:
    """Tell whether an open file has been deleted, alone or with its folder. Never raises."""
    try:
        return os.fstat(descriptor).st_nlink == 0
    except OSError:
        return True  # As network file systems say it.


def own_files(folder: Path, name: re.Pattern[str]) -> list[OwnFile]:
    """Return this user's plain files whose whole name is like that, the oldest first. Never raises."""
    return sorted(_own_files(folder, name))


def _own_files(folder: Path, name: re.Pattern[str]) -> Iterator[OwnFile]:
    with suppress(OSError):
        for each in os.scandir(folder):
            if name.fullmatch(each.name):
                with suppress(OSError):  # Another process was faster.
                    found = each.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and is_mine(found):
                        yield OwnFile(found.st_mtime, found.st_size, folder / each.name)


def lock(descriptor: int, *, exclusive: bool) -> bool | None:
    """Lock an open file until it is closed, without waiting.

    Returns:
        False when another process has it, None where the file system has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def is_locked(path: Path) -> bool | None:
    """Tell whether a process has the lock of this file; None where the file system has no locks. Never raises."""
    try:
        descriptor = os.open(path, (FLAGS & ~os.O_CREAT) | os.O_RDWR)
    except OSError:
        return False
    try:
        free = lock(descriptor, exclusive=False)
        return None if free is None else not free
    finally:
        os.close(descriptor)
