"""Finds the contract of a destination: `contracts/<topic>.json`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from otel_pipeline.contracts.contract import Contract
from otel_pipeline.contracts.paths import ContractError
from otel_pipeline.own_files import open_plain
from otel_pipeline.plain_text import printable

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 4_000_000
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
"""Names of devices on Windows, whatever the folder."""
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def file_of(directory: Path, topic: str) -> Path | None:
    """Return the file of a topic; None for a name that no Kafka topic has, such as a path that leads elsewhere."""
    if not _TOPIC.fullmatch(topic) or topic in {".", ".."} or (os.name == "nt" and _RESERVED.fullmatch(topic)):
        return None
    return directory / f"{topic}.json"


def contract_in(directory: Path, topic: str) -> Contract | None:
    """Read the folder's contract of a topic; None without one.

    Raises:
        ContractError: the file exists but cannot be read or is not a contract; the message names the file.
    """
    path = file_of(directory, topic)
    if path is None:
        return None
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ContractError(printable(f"{path} cannot be read: {error.strerror or error}")) from None
    except ContractError as error:
        raise ContractError(printable(f"{path} is no contract: {error}")) from None


def read(path: Path) -> Contract:
    """Read a file. Raises OSError where that cannot be done, ContractError where it is no contract."""
    with open_plain(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ContractError(f"it is larger than {MAX_BYTES} bytes")
    return Contract.loads(content)
