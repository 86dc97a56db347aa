"""The plain values that detectors and verdict work with. Times in s."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Policy = Literal["allow", "flag", "reject"]
NO_ENVIRONMENTS: Mapping[str, Policy] = MappingProxyType({"*": "flag"})


@dataclass(frozen=True)
class DestinationSettings:
    """What the configuration says of one destination."""

    trust: Literal["all", "same-environment", "none"] = "all"
    foreign: Mapping[str, Policy] = field(default_factory=lambda: NO_ENVIRONMENTS)
    """By origin environment; `*` is any other."""
    contract: Literal["learn", "file", "ignore"] = "learn"
    log: Literal["plain", "transactional", "compacted"] = "plain"
    ordered: bool = False
    expect_every_s: float | None = None
    event_age: bool = False
    process_wait: bool = False
    same_key: bool = False
    fields: tuple[str, ...] = ()
    """Of the contract, whose null rate and range are kept."""


@dataclass(frozen=True)
class Objective:
    """A freshness objective: `objective` of the cases are younger than `threshold_s`. By destination or by model."""

    name: str
    threshold_s: float
    objective: float
    age: Literal["delivery", "data", "event"] = "data"
    destination: str | None = None
    group: str | None = None
    model: str | None = None
    window_s: float = 28 * 86400.0


def _default_destination(_name: str) -> DestinationSettings:
    return DestinationSettings()


@dataclass(frozen=True)
class HealthSettings:
    """Everything that the detectors and the verdict need to know."""

    environment: str | None = None
    service_name: str = "unknown_service"
    destination: Callable[[str], DestinationSettings] = _default_destination
    """What is said of a destination, by its name; asked once a name."""
    objectives: tuple[Objective, ...] = ()
    mirrors: Mapping[str, str] = field(default_factory=dict)
    """Copy -> original, where a relay keeps partitions and headers."""
    interval_s: float = 1.0
    stuck_after_s: float = 10.0
    lost_after_s: float = 150.0
    on_reject: Literal["flag", "raise"] = "flag"
    learn_messages: int = 1000
    event_time: Callable[[Any], object] | None = None
    """When a message's event happened, as the application knows it: see `detectors/event_time.py`."""
