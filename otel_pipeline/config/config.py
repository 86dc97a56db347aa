"""Configuration: all values, made from the tables in config_options.py, as are documentation, schema and messages.

Precedence: safety switches > arguments > `OTEL_*` and `OTEL_PIPELINE_*` variables > file > the environment's defaults >
defaults. Each value knows its source.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline.config.destinations import DestinationOptions, destination_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from otel_pipeline.config.environment import Environment, Surroundings
    from otel_pipeline.config.kinds import Kind


@dataclass(frozen=True)
class Source:
    """Where a value came from."""

    kind: Literal["argument", "environment", "file", "environment default", "default"]
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}" if self.where else self.kind


@dataclass(frozen=True)
class Problem:
    """A mistake in the configuration, and what would be right."""

    option: str
    message: str
    remedy: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        option = f"{self.option} " if self.option else ""
        return f"{place}{option}{self.message}; {self.remedy}"


class ConfigError(ValueError):
    """The configuration is wrong; `problems` has all mistakes at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Export:
    """Times in s."""

    metric_interval_s: float


@dataclass(frozen=True)
class Process:
    """How process spans are made."""

    parent: str
    parent_max_age_s: float
    max_hops: int


@dataclass(frozen=True)
class Capture:
    """What of the application's data may stand on spans."""

    content: bool
    message_key: bool


@dataclass(frozen=True)
class Exclude:
    """What is left alone, as shell patterns."""

    destinations: tuple[str, ...]
    clients: tuple[str, ...]


@dataclass(frozen=True)
class Contracts:
    """Where contracts come from."""

    directory: Path
    """Of the contract files; absolute or from the working folder."""
    learn_messages: int


@dataclass(frozen=True)
class Health:
    """How the lights are judged. Times in s."""

    state_file: Literal["auto", "off"] | Path
    interval_s: float
    stuck_after_s: float
    lost_after_s: float
    on_reject: Literal["flag", "raise"]


@dataclass(frozen=True)
class ForeignSampling:
    """How far other environments decide what is recorded here."""

    max_traces_per_second: float | None
    """None: without limit."""


@dataclass(frozen=True)
class ObjectiveOptions:
    """A freshness objective, of a destination or of a model. Times in s."""

    name: str
    threshold_s: float
    objective: float
    age: Literal["delivery", "data", "event"] = "data"
    destination: str | None = None
    group: str | None = None
    model: str | None = None
    window_s: float = 28 * 86400.0


@dataclass(frozen=True)
class Config:
    """All values, each with its source."""

    service_name: str | None
    service_version: str | None
    environment: str | None
    sample_rate: float | None
    """None: nobody has said, or `OTEL_TRACES_SAMPLER` decides."""
    libraries: Literal["auto"] | tuple[str, ...]
    disable: tuple[str, ...]
    endpoint: str | None
    strict: bool
    hooks: Mapping[str, Callable[..., object]]
    event_time: Callable[[Any], object] | None
    export: Export
    process: Process
    receive_spans: bool
    capture: Capture
    exclude: Exclude
    contracts: Contracts
    health: Health
    foreign_sampling: ForeignSampling
    mirrors: Mapping[str, str]
    """Copy -> original."""
    objectives: tuple[ObjectiveOptions, ...]
    destinations: Mapping[str, Mapping[str, Any]]
    """What the file says, by pattern; `destination()` is what holds."""
    sdk_disabled: bool
    resolved: Environment
    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    """By full path, as the file would have it; times in s."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """How each value is written."""
    problems: tuple[Problem, ...] = ()
    overridden: tuple[str, ...] = ()
    """Where an argument in code and the deployment's variable disagree."""

    def destination(self, name: str) -> DestinationOptions:
        """What is said of this destination: the most specific pattern wins, option by option. Ask once a name."""
        return destination_options(self.destinations, name)


def load(
    arguments: Mapping[str, object] = MappingProxyType({}),
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    around: Surroundings | None = None,
    raises: bool = True,
) -> Config:
    """Read everything. Raises `ConfigError` only when strict; without, each mistake is among the problems.

    Args:
        arguments: values given in code, by option path; `config_file` names the file.
        environ: the environment variables.
        directory: where to look for the file, upwards; otherwise beside the program and in the working folder.
        around: what the environment is found out from.
        raises: whether mistakes may be raised at all.
    """
    from otel_pipeline.config.loading import Loading

    loading = Loading(arguments, os.environ if environ is None else environ, directory, around)
    return loading.load(raises=raises)
