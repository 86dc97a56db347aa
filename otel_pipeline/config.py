"""Configuration: one table of options, from which values, documentation, the file's schema and messages are made.

Precedence: safety switches > arguments > `OTEL_*` and `OTEL_PIPELINE_*` variables > file > the environment's defaults >
defaults. Each value knows its source.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline import environment as environments
from otel_pipeline.config_kinds import (
    BOOLEAN,
    COUNT,
    DURATION,
    ENDPOINT,
    FUNCTIONS,
    LIBRARIES,
    NAMES,
    RATE,
    TEXT,
    VERSION,
    Kind,
    choice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from otel_pipeline.environment import Environment


@dataclass(frozen=True)
class Option:
    """One option: the row that everything else is made from."""

    path: str
    kind: Kind
    default: Any
    help: str
    variable: str | None = None
    argument: str | None = None
    """The keyword of `instrument()`."""
    per_environment: Mapping[str, Any] = field(default_factory=dict)
    in_file: bool = True
    overridable: bool = True
    """Whether `environments:` may say it."""


OPTIONS: tuple[Option, ...] = (
    Option("version", VERSION, 1, "Version of the file's format.", overridable=False),
    Option(
        "service_name",
        TEXT,
        None,
        "`service.name`. Without it the program's file name.",
        "OTEL_SERVICE_NAME",
        "service_name",
    ),
    Option(
        "service_version",
        TEXT,
        None,
        "`service.version`.",
        "OTEL_RESOURCE_ATTRIBUTES",
        "service_version",
    ),
    Option(
        "environment",
        TEXT,
        None,
        "`deployment.environment.name`. Found out when not given; never guessed to be production.",
        environments.VARIABLE,
        "environment",
        overridable=False,
    ),
    Option(
        "sample_rate",
        RATE,
        None,
        "Share of new traces that are recorded (`parentbased_traceidratio`); 1 unless said otherwise.",
        "OTEL_TRACES_SAMPLER",
        "sample_rate",
    ),
    Option(
        "libraries",
        LIBRARIES,
        "auto",
        "Which libraries to instrument; auto is all that are installed.",
        "OTEL_PIPELINE_LIBRARIES",
        "libraries",
    ),
    Option(
        "disable",
        NAMES,
        (),
        "Libraries to leave alone. All sources add up: a safety switch cannot be overridden.",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        "disable",
    ),
    Option(
        "endpoint",
        ENDPOINT,
        None,
        "OTLP endpoint. Without it: see the table of environments.",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "endpoint",
    ),
    Option(
        "strict",
        BOOLEAN,
        False,
        "Raise on bad values, all at once, instead of saying so and using the default.",
        "OTEL_PIPELINE_STRICT",
        "strict",
        {"test": True},
        overridable=False,
    ),
    Option("hooks", FUNCTIONS, MappingProxyType({}), "Functions f(span, message).", None, "hooks", in_file=False),
    Option(
        "export.metric_interval",
        DURATION,
        15.0,
        "How often metrics leave the process.",
        "OTEL_METRIC_EXPORT_INTERVAL",
    ),
    Option(
        "process.parent",
        choice("message", "ambient", "link"),
        "message",
        "Parent of the process span: the message's creation context, the application's own span, or none but a link.",
        "OTEL_PIPELINE_PROCESS_PARENT",
    ),
    Option(
        "process.parent_max_age",
        DURATION,
        900.0,
        "Older messages start a new trace with a link, so that no trace lasts for hours.",
        "OTEL_PIPELINE_PROCESS_PARENT_MAX_AGE",
    ),
    Option(
        "process.max_hops",
        COUNT,
        32,
        "Messages that made more hops start a new trace with a link.",
        "OTEL_PIPELINE_PROCESS_MAX_HOPS",
    ),
    Option(
        "receive_spans",
        BOOLEAN,
        True,
        "One CLIENT span for each pull that returned messages.",
        "OTEL_PIPELINE_RECEIVE_SPANS",
    ),
    Option(
        "capture.content",
        BOOLEAN,
        False,
        "Whether content of messages and model calls may stand on spans.",
        "OTEL_PIPELINE_CAPTURE_CONTENT",
        "capture_content",
    ),
    Option(
        "capture.message_key",
        BOOLEAN,
        False,
        "Whether message keys stand on spans.",
        "OTEL_PIPELINE_CAPTURE_MESSAGE_KEY",
        None,
        {"local": True, "test": True},
    ),
    Option(
        "exclude.destinations",
        NAMES,
        ("__*",),
        "Patterns of destinations that are left alone.",
        "OTEL_PIPELINE_EXCLUDE_DESTINATIONS",
    ),
    Option(
        "exclude.clients",
        NAMES,
        (),
        "Patterns of client ids that are left alone.",
        "OTEL_PIPELINE_EXCLUDE_CLIENTS",
    ),
)
BY_PATH = {option.path: option for option in OPTIONS}
GROUPS = {option.path.partition(".")[0] for option in OPTIONS if "." in option.path}


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
    export: Export
    process: Process
    receive_spans: bool
    capture: Capture
    exclude: Exclude
    sdk_disabled: bool
    resolved: Environment
    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    overridden: tuple[str, ...] = ()
    """Where an argument in code and the deployment's variable disagree."""


def load(
    arguments: Mapping[str, object] = MappingProxyType({}),
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    around: environments.Surroundings | None = None,
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
    from otel_pipeline.config_loading import Loading

    loading = Loading(arguments, os.environ if environ is None else environ, directory, around)
    return loading.load(raises=raises)
