"""The file that a model was loaded from: its name, a version of its content, and when it was written."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HASHED_BYTES = 64 * 1024 * 1024
MAX_HASHING_MS = 100
"""The application waits for it, once, where it loads a model."""
_BLOCK_BYTES = 1024 * 1024
_DIGITS = 8
_PARENTS = 4
"""How many folders above a file are looked at."""
_OLDEST_S = 315_619_200
"""1980-01-02: images and archives that can be built again have files of 1970 and 1980, which say nothing."""
_GENERIC = re.compile(
    r"""(?:pytorch|torch|tf|flax|onnx|saved|trained|final|best|last|latest|exported|quantized|my|the|jit|export|scripted
        |script|traced|main|graph|functional|sequential|models|model|boosters|booster|checkpoints|checkpoint|ckpt|epoch
        |step|snapshots|snapshot|weights|state|dict|optimized|default|artifacts|artifact|outputs|output|data|files|bin
        |tmp|temp|app|src|root|home|opt|usr|var|mnt|srv|work|space|cache|assets|resources|lib|build|dist|code|v?\d|[-_.])+
        |tmp\w*|[0-9a-f-]{12,}""",
    re.VERBOSE | re.IGNORECASE,
)
_ENDING = re.compile(r"\.[A-Za-z]\w{0,11}")
_HUB = "models--"
"""How Hugging Face's cache names the folder of a model: models--owner--name."""
_PEOPLE = {"home", "Users"}


def is_generic(name: str) -> bool:
    """Tell whether a name says nothing of which model it is: `model`, `best`, `checkpoint-500`, a hash."""
    return _GENERIC.fullmatch(name) is not None


class ModelFile(NamedTuple):
    """What is known of the file that a model was loaded from."""

    name: str | None
    """Of the file, or of the nearest folder whose name is not generic; None where all are."""
    version: str
    """8 hexadecimal digits of the SHA-256 of its content; size and time of writing where that is not known in time."""
    written_s: float | None
    """When it was written, s since the epoch; None where that cannot be."""


def read(
    path: Any,
    max_bytes: int = MAX_HASHED_BYTES,
    max_ms: float = MAX_HASHING_MS,
    now_ns: Callable[[], int] = time.perf_counter_ns,
) -> ModelFile | None:
    """Return what is known of a file; None for what is none, such as a buffer. Raises OSError where it is not there."""
    if not isinstance(path, (str, os.PathLike)):
        return None
    file = Path(os.fsdecode(os.fspath(path))).absolute()
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        return None
    version = None
    if found.st_size <= max_bytes:
        version = _hashed(file, now_ns() + int(max_ms * 1_000_000), now_ns)
    if version is None:
        version = f"{found.st_size}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(found.st_mtime))}"
    written_s = found.st_mtime if _OLDEST_S < found.st_mtime <= time.time() else None
    return ModelFile(name_of(file), version, written_s)


def _hashed(file: Path, until_ns: int, now_ns: Callable[[], int]) -> str | None:
    """Return the beginning of the hash of the content; None where that takes too long."""
    import hashlib  # Not at the start: it loads OpenSSL.

    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            if now_ns() > until_ns:
                return None
            digest.update(block)
    return digest.hexdigest()[:_DIGITS]


def name_of(path: Path) -> str | None:
    """Return the name of a file without its endings, or of the nearest folder above that is not generic; or None."""
    for each in (path, *path.parents)[: _PARENTS + 1]:
        name, ending = each.stem, each.suffix
        while _ENDING.fullmatch(ending):
            name, ending = Path(name).stem, Path(name).suffix
        name += ending
        if name.startswith(_HUB):
            return name.removeprefix(_HUB).replace("--", "/")
        if name and not is_generic(name):
            return None if each.parent.name in _PEOPLE else name
    return None
