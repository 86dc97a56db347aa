"""What can be said of contracts: in general, and of each destination."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from otel_pipeline.settings import option

Wanted = Literal["learn", "file", "ignore"]


@dataclass(frozen=True)
class DestinationContract:
    """What is said of the contract of one destination."""

    contract: Wanted = option(
        "destinations.*.contract", Wanted, "learn", "Where the contract of the values comes from."
    )
    fields: tuple[str, ...] = option(
        "destinations.*.fields",
        "names",
        (),
        "Paths of the contract, 32 at most, whose null rate and range are kept; these are values, so none by default.",
    )


@dataclass(frozen=True)
class ContractSettings:
    """Where contracts come from."""

    directory: Path = option(
        "contracts.directory",
        "path",
        Path("contracts"),
        "Folder of the contract files, beginning at the configuration file's folder.",
    )
    learn_messages: int = option(
        "contracts.learn_messages",
        "count",
        1000,
        "How many messages of a destination a learned contract is made from.",
    )
