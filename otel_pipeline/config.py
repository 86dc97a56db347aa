"""Configuration: one table of options, from which values, documentation, the file's schema and messages are made.

Precedence: safety switches > arguments > `OTEL_*` and `OTEL_PIPELINE_*` variables > file > the environment's defaults >
defaults. Each value knows its source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from otel_pipeline import environment as environments
from otel_pipeline.configuration_file import Section, locate, read

if TYPE_CHECKING:
    from pathlib import Path

    from otel_pipeline.environment import Environment

HOOKS = ("send", "process", "inference")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


@dataclass(frozen=True)
class Kind:
    """A type of value: how it is read, and how the schema and the pages call it."""

    name: str
    parse: Callable[[Any], Any]
    """Raises ValueError, saying what would be right."""
    schema: Mapping[str, Any]


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise ValueError("give a text")


def _rate(value: Any) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = -1
    if isinstance(value, bool) or not 0 <= rate <= 1:
        raise ValueError("give a number from 0 to 1")
    return rate


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("give true or false")


def _duration(value: Any) -> float:
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None:
        seconds = float(match.group(1)) * _UNITS[match.group(2)]
        if isfinite(seconds) and seconds > 0:
            return seconds
    raise ValueError("give a duration such as 500ms, 15s, 15m, 2h or 28d")


def _count(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("give a whole number above 0")


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes, Section)):
        names = tuple(value)
        if all(isinstance(name, str) and name for name in names):
            return names
    raise ValueError("give a list of names")


def _libraries(value: Any) -> tuple[str, ...] | str:
    return "auto" if value == "auto" else _names(value)


def _endpoint(value: Any) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as http://127.0.0.1:4318")
    return text


def _hooks(value: Any) -> Mapping[str, Callable[..., object]]:
    if isinstance(value, Mapping) and all(name in HOOKS and callable(hook) for name, hook in value.items()):
        return MappingProxyType(dict(value))
    raise ValueError(f"give functions under the names {', '.join(HOOKS)}")


def _choice(*choices: str) -> Kind:
    def parse(value: Any) -> str:
        if value in choices:
            return str(value)
        raise ValueError(f"give one of {', '.join(choices)}" + _meant(value, choices))

    return Kind(" \\| ".join(choices), parse, {"enum": list(choices)})


def _version(value: Any) -> int:
    if value in (1, "1") and value is not True:
        return 1
    raise ValueError("give 1, the only version there is")


TEXT = Kind("text", _text, {"type": ["string", "number"]})
RATE = Kind("number 0-1", _rate, {"type": ["number", "string"]})
BOOLEAN = Kind("boolean", _boolean, {"type": ["boolean", "string"]})
DURATION = Kind("duration", _duration, {"type": "string", "pattern": r"^(\$\{.*\}|[0-9]+(\.[0-9]+)?(ms|s|m|h|d))$"})
COUNT = Kind("whole number", _count, {"type": ["integer", "string"]})
NAMES = Kind("list of names", _names, {"type": ["array", "string"], "items": {"type": "string"}})
LIBRARIES = Kind("auto \\| list of names", _libraries, {"type": ["array", "string"], "items": {"type": "string"}})
ENDPOINT = Kind("URL", _endpoint, {"type": "string"})
FUNCTIONS = Kind("functions", _hooks, {})
VERSION = Kind("1", _version, {"enum": [1]})


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
        _choice("message", "ambient", "link"),
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
_GROUPS = {option.path.partition(".")[0] for option in OPTIONS if "." in option.path}


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
    loading = _Loading(arguments, os.environ if environ is None else environ, directory, around)
    return loading.load(raises=raises)


class _Loading:
    """One reading of all sources."""

    def __init__(
        self,
        arguments: Mapping[str, object],
        environ: Mapping[str, str],
        directory: Path | None,
        around: environments.Surroundings | None,
    ) -> None:
        self._arguments = arguments
        self._environ = environ
        self._directory = directory
        self._around = around or environments.surroundings(environ)
        self._problems: list[Problem] = []
        self._overridden: list[str] = []
        self._values: dict[str, Any] = {}
        self._sources: dict[str, Source] = {}
        self._file: Path | None = None
        self._top = Section(1)

    def load(self, *, raises: bool) -> Config:
        self._file = locate(self._arguments.get("config_file"), self._environ, self._directory, self._tell)
        if self._file is not None:
            self._top = read(self._file, self._environ, self._tell) or self._top
            self._check(self._top)
        resolved = self._environment()
        section = self._for(resolved.name)
        for option in OPTIONS:
            self._settle(option, section, resolved)
        self._values["environment"] = resolved.name
        self._sources["environment"] = _environment_source(resolved)
        if self._problems and raises and self._values["strict"]:
            raise ConfigError(self._problems)
        return self._made(resolved)

    def _tell(self, where: str, message: str, remedy: str) -> None:
        self._problems.append(Problem("", message, remedy, where))

    def _environment(self) -> Environment:
        written = self._top.values.get("environment")
        given = self._arguments.get("environment")
        argument = given if isinstance(given, str) else None
        resolved = environments.resolve(argument, written if isinstance(written, str) else None, self._around)
        meant = environments.near_miss(resolved.name) if resolved.name and resolved.source != "detected" else None
        if meant is not None:
            self._problems.append(
                Problem("environment", f"is {resolved.name!r}", f"did you mean {meant!r}?", resolved.reason)
            )
        return resolved

    def _for(self, name: str | None) -> Section:
        """The file's values for one environment."""
        overrides = self._top.values.get("environments")
        mine = overrides.values.get(name or "") if isinstance(overrides, Section) else None
        return mine.over(self._top) if isinstance(mine, Section) else self._top

    def _check(self, section: Section, prefix: str = "", *, overrides: bool = False) -> None:
        """Unknown keys, and mappings where values belong."""
        for name, value in section.values.items():
            path = prefix + name
            where = f"{self._file}:{section.lines[name]}"
            if path == "environments" and not overrides:
                self._check_environments(value, where)
            elif path in _GROUPS:
                if isinstance(value, Section):
                    self._check(value, path + ".", overrides=overrides)
                elif value is not None:
                    self._problems.append(Problem(path, "is no mapping", "indent its options below it", where))
            elif path not in BY_PATH or not BY_PATH[path].in_file:
                known = [option.path for option in OPTIONS if option.in_file] + ["environments"]
                remedy = "remove it" + _meant(path, known)
                self._problems.append(Problem(path, "is no option", remedy, where))
            elif overrides and not BY_PATH[path].overridable:
                self._problems.append(
                    Problem(path, "cannot differ by environment", "say it at the top of the file", where)
                )

    def _check_environments(self, value: Any, where: str) -> None:
        if not isinstance(value, Section):
            if value is not None:
                self._problems.append(Problem("environments", "is no mapping", "name each environment", where))
            return
        for name, section in value.values.items():
            if isinstance(section, Section):
                self._check(section, overrides=True)
                for path, content in _leaves(section):
                    option = BY_PATH.get(path)
                    if option is not None and content is not None:
                        self._parsed(option, content, f"{self._file}:{section.line}", f"environments.{name}.")
            elif section is not None:
                self._problems.append(Problem(f"environments.{name}", "is no mapping", "indent its options", where))

    def _parsed(self, option: Option, value: Any, where: str, prefix: str = "") -> Any:
        """The value as its kind has it; a bad one is a problem, and None."""
        try:
            return option.kind.parse(value)
        except ValueError as error:
            shown = "a mapping" if isinstance(value, Section) else repr(value)[:80]
            self._problems.append(Problem(prefix + option.path, f"is {shown}", str(error), where))
            return None

    def _settle(self, option: Option, section: Section, resolved: Environment) -> None:
        candidates = list(self._candidates(option, section))
        if option.path == "disable":
            # A safety switch: whoever says "leave it alone" is obeyed.
            self._values["disable"] = tuple(dict.fromkeys(name for value, _ in candidates for name in value))
            self._sources["disable"] = candidates[0][1] if candidates else Source("default")
            return
        if candidates:
            self._values[option.path], self._sources[option.path] = candidates[0]
            self._note_override(option, candidates)
        elif resolved.name is not None and resolved.name in option.per_environment:
            self._values[option.path] = option.per_environment[resolved.name]
            self._sources[option.path] = Source("environment default", resolved.name)
        else:
            self._values[option.path] = option.default
            self._sources[option.path] = Source("default")

    def _candidates(self, option: Option, section: Section) -> Iterable[tuple[Any, Source]]:
        given = self._arguments.get(option.path)
        if given is not None:
            value = self._parsed(option, given, "argument of instrument()")
            if value is not None:
                yield value, Source("argument", option.argument or option.path)
        found, name = self._variable(option)
        if found is not None:
            value = self._parsed(option, found, name) if option.path != "sample_rate" else found
            if value is not None:
                yield (None if option.path == "sample_rate" else value), Source("environment", name)
        written, line = _lookup(section, option.path)
        if written is not None and option.in_file:
            where = f"{self._file}:{line}"
            value = self._parsed(option, written, where)
            if value is not None:
                yield value, Source("file", where)

    def _variable(self, option: Option) -> tuple[Any, str]:
        """What the variables say of an option, and which of them."""
        name = option.variable
        if name is None or option.path == "environment":
            return None, ""
        if option.path in ("service_name", "service_version"):
            attribute = option.path.replace("_", ".")
            direct = self._environ.get(name, "").strip() if option.path == "service_name" else ""
            labelled = _resource_attribute(self._environ, attribute)
            return (direct, name) if direct else (labelled, "OTEL_RESOURCE_ATTRIBUTES")
        text = self._environ.get(name, "").strip()
        if not text:
            return None, ""
        if option.path == "export.metric_interval":
            return f"{text}ms", name  # OpenTelemetry says it in milliseconds.
        return text, name

    def _note_override(self, option: Option, candidates: list[tuple[Any, Source]]) -> None:
        first, rest = candidates[0], candidates[1:]
        other = next((found for found in rest if found[1].kind == "environment"), None)
        if first[1].kind == "argument" and other is not None and other[0] != first[0]:
            self._overridden.append(
                f"{option.path}: instrument() says {first[0]!r}, {other[1].where} says "
                f"{self._environ.get(other[1].where)!r}; the argument is used"
            )

    def _made(self, resolved: Environment) -> Config:
        of = self._values
        return Config(
            service_name=of["service_name"],
            service_version=of["service_version"],
            environment=resolved.name,
            sample_rate=of["sample_rate"],
            libraries=of["libraries"],
            disable=of["disable"],
            endpoint=of["endpoint"],
            strict=of["strict"],
            hooks=of["hooks"],
            export=Export(of["export.metric_interval"]),
            process=Process(of["process.parent"], of["process.parent_max_age"], of["process.max_hops"]),
            receive_spans=of["receive_spans"],
            capture=Capture(of["capture.content"], of["capture.message_key"]),
            exclude=Exclude(of["exclude.destinations"], of["exclude.clients"]),
            sdk_disabled=self._environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true",
            resolved=resolved,
            file=self._file,
            values=MappingProxyType(self._values),
            sources=MappingProxyType(self._sources),
            problems=tuple(self._problems),
            overridden=tuple(self._overridden),
        )


def _environment_source(resolved: Environment) -> Source:
    kinds: dict[str, Literal["argument", "environment", "file"]] = {
        "argument": "argument",
        "environment": "environment",
        "file": "file",
    }
    kind = kinds.get(resolved.source)
    return Source(kind, resolved.reason) if kind else Source("default", resolved.reason)


def _lookup(section: Section, path: str) -> tuple[Any, int]:
    value: Any = section
    line = section.line
    for name in path.split("."):
        if not isinstance(value, Section) or name not in value.values:
            return None, line
        line = value.lines[name]
        value = value.values[name]
    return value, line


def _leaves(section: Section, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in section.values.items():
        if isinstance(value, Section):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _resource_attribute(environ: Mapping[str, str], name: str) -> str | None:
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == name and value.strip():
            return unquote(value.strip())
    return None


def _meant(value: object, known: Iterable[str]) -> str:
    close = get_close_matches(str(value), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
