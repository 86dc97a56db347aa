"""Finds the configuration file: one that is named is read, one that lies about only if its owner may decide here.

It is looked for beside the program and in the working folder, and from there up to the repository's root. A folder that
others may write to, such as /tmp, must not decide where a program's data goes.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline.own_files import open_plain
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_pipeline.config.yaml_file import Tell

FILE_NAME = "otel_pipeline.yaml"
VARIABLE = "OTEL_PIPELINE_CONFIG_FILE"
MAX_BYTES = 1_000_000
_REPOSITORY = ".git"


class File(NamedTuple):
    """A configuration file as it was when it was found."""

    path: Path
    content: bytes


class _RefusedError(Exception):
    """A file that was found and is not to be read."""


def find(
    argument: object, environ: Mapping[str, str], directory: Path | None, tell: Tell, remark: Callable[[str], None]
) -> File | None:
    """Find the file to read: the argument's, the variable's, or the first that is found and may be read. Never raises.

    Args:
        argument: a path given in code.
        environ: the environment variables.
        directory: where to begin, instead of at the program and in the working folder.
        tell: told of a named file that cannot be read, and of a file that is too large.
        remark: told of a file that was found and is not read.
    """
    given, said = (argument, "config_file") if argument else (environ.get(VARIABLE, ""), VARIABLE)
    if given:
        return _named(str(given), said, tell)
    starts = [directory] if directory is not None else _starts()
    trusted = _trusted(directory if directory is not None else _program_folder())
    read, above = _places(starts)
    for path in filter(os.path.lexists, read):
        try:
            content = _content(path, trusted)
        except (OSError, ValueError, _RefusedError) as error:
            reason = getattr(error, "strerror", None) or error
            remark(printable(f"{path} was found and is not read: {reason}; if it is meant, set {VARIABLE} to it"))
        else:
            return _not_too_large(path, content, tell)
    for path in filter(os.path.lexists, above):
        with suppress(OSError, ValueError, _RefusedError):  # Somebody else's, who put it there for whomever.
            _content(path, trusted)
            said = f"{path} is not read: it lies above the program and is in no repository; set {VARIABLE} to it"
            remark(printable(said))
            break
    return None


def _named(given: str, said: str, tell: Tell) -> File | None:
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        path = Path(given)  # No home.
    try:
        return _not_too_large(path, _content(path, None), tell)
    except (OSError, ValueError) as error:
        if not os.path.isfile(path):  # noqa: PTH113 - never raises
            tell(said, f"{path} is no file", f"give the path of an {FILE_NAME}")
            return None
        tell(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}", "make it readable")
    return None


def _not_too_large(path: Path, content: bytes, tell: Tell) -> File | None:
    if len(content) <= MAX_BYTES:
        return File(path, content)
    tell(str(path), f"is larger than {MAX_BYTES} bytes", "name the right file")
    return None


def _content(path: Path, trusted: frozenset[int] | None) -> bytes:
    """Read at most one byte more than is allowed. Raises OSError, ValueError for no path, and _RefusedError."""
    link = os.lstat(path)
    with open_plain(path) as file:
        found = os.fstat(file.fileno())
        if trusted is not None:
            _check(link, trusted)
            _check(found, trusted)
            if found.st_mode & stat.S_IWOTH:
                raise _RefusedError("everybody may write it")
        return file.read(MAX_BYTES + 1)


def _check(found: os.stat_result, trusted: frozenset[int]) -> None:
    if found.st_uid not in trusted:
        raise _RefusedError(f"it belongs to user {found.st_uid}, who is neither this process's nor the program's")


def _trusted(program: Path | None) -> frozenset[int] | None:
    """Return whose files are read: this user's, root's, and those of the program's owner; None without owners."""
    if os.name == "nt":
        return None
    users = {0, os.geteuid()}
    if program is not None:
        with suppress(OSError):
            users.add(program.stat().st_uid)
    return frozenset(users)


def _places(starts: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the places that are looked at, the nearest first, and those above that would be in a repository."""
    read: dict[Path, None] = {}
    above: dict[Path, None] = {}
    for start in starts:
        folders = [start, *_above(start)]
        root = next((at for at, folder in enumerate(folders) if os.path.lexists(folder / _REPOSITORY)), None)
        read.update(dict.fromkeys(folder / FILE_NAME for folder in folders[: 1 if root is None else root + 1]))
        if root is None:
            above.update(dict.fromkeys(folder / FILE_NAME for folder in folders[1:]))
    return list(read), [path for path in above if path not in read]


def _above(start: Path) -> Iterator[Path]:
    """Give the folders above on the same file system."""
    try:
        device = start.stat().st_dev
        for folder in start.parents:
            if folder.stat().st_dev != device:
                return
            yield folder
    except OSError:
        return


def _starts() -> list[Path]:
    """Return the program's folder and the working folder."""
    starts = [_program_folder()]
    with suppress(OSError):  # It may have been deleted.
        starts.append(Path.cwd())
    return [start for start in starts if start is not None]


def _program_folder() -> Path | None:
    try:
        program = program_file()
        return None if program is None else program.resolve().parent
    except (OSError, ValueError, RuntimeError):
        return None  # A circle of links, or a working folder that was deleted.


def program_file() -> Path | None:
    """Return the script that runs, or is about to run, as under `opentelemetry-instrument`."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main:
        return Path(main)
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word in ("-m", "-c"):
            return None
        if word in ("-W", "-X"):
            next(words, None)
        elif not word.startswith("-"):
            return Path(word)
    return None
