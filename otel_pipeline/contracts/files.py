"""Finds the contract of a destination: `contracts/<topic>.json`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otel_pipeline.contracts.contract import Contract
from otel_pipeline.contracts.paths import ContractError

if TYPE_CHECKING:
    from pathlib import Path

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


def file_of(directory: Path, topic: str) -> Path | None:
    """Return the file of a topic; None for a name that no Kafka topic has, such as a path that leads elsewhere."""
    if not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
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
        return Contract.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ContractError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ContractError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} is no contract: {error}") from None
