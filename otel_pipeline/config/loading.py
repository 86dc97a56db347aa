"""One reading of all sources of the configuration."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from otel_pipeline.config import environment as environments
from otel_pipeline.config.config import (
    Capture,
    Config,
    ConfigError,
    Contracts,
    Exclude,
    Export,
    ForeignSampling,
    Health,
    ObjectiveOptions,
    Problem,
    Process,
    Source,
)
from otel_pipeline.config.kinds import Kind, meant
from otel_pipeline.config.named import check, complete, defaults, gathered, leaves, shown
from otel_pipeline.config.options import BY_PATH, GROUPS, NAMED, OPTIONS, Named, Option
from otel_pipeline.config.yaml_file import Section, locate, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.config.environment import Environment


class Loading:
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
        self._kinds: dict[str, Kind] = {}
        self._things: dict[str, dict[str, Any]] = {}
        self._file: Path | None = None
        self._top = Section(1)

    def load(self, *, raises: bool) -> Config:
        """Read everything; raise `ConfigError` where that is wanted."""
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
        for named in NAMED.values():
            self._settle_named(named, section)
        self._check_other_environments(resolved.name)
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
            elif path in GROUPS:
                if isinstance(value, Section):
                    self._check(value, path + ".", overrides=overrides)
                elif value is not None:
                    self._problems.append(Problem(path, "is no mapping", "indent its options below it", where))
            elif path in NAMED:
                check(NAMED[path], value, path, section.lines[name], self._say)
            elif path not in BY_PATH or not BY_PATH[path].in_file:
                known = [option.path for option in OPTIONS if option.in_file] + [*NAMED, *GROUPS, "environments"]
                remedy = "remove it" + meant(path, known)
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
            elif section is not None:
                self._problems.append(Problem(f"environments.{name}", "is no mapping", "indent its options", where))

    def _check_other_environments(self, mine: str | None) -> None:
        """Their values are not used here, but a mistake in them is better found here than there."""
        overrides = self._top.values.get("environments")
        for name, section in overrides.values.items() if isinstance(overrides, Section) else ():
            if name == mine or not isinstance(section, Section):
                continue
            prefix = f"environments.{name}."
            for path, content, line in _leaves(section):
                option = BY_PATH.get(path)
                if option is not None and content is not None:
                    self._parsed(option, content, f"{self._file}:{line}", prefix)
            for named in NAMED.values():
                for _ in leaves(named, section.values.get(named.path), prefix + named.path, self._say):
                    pass
            changed = section.values.get("objectives")
            if isinstance(changed, Section):
                whole = section.over(self._top).values["objectives"]
                complete(whole, f"{prefix}objectives", self._say, changed.values)

    def _say(self, option: str, message: str, remedy: str, line: int) -> None:
        self._problems.append(Problem(option, message, remedy, f"{self._file}:{line}"))

    def _parsed(self, option: Option, value: Any, where: str, prefix: str = "") -> Any:
        """The value as its kind has it; a bad one is a problem, and None."""
        try:
            return option.kind.parse(value)
        except ValueError as error:
            self._problems.append(Problem(prefix + option.path, f"is {shown(value)}", str(error), where))
            return None

    def _settle(self, option: Option, section: Section, resolved: Environment) -> None:
        self._kinds[option.path] = option.kind
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

    def _settle_named(self, named: Named, section: Section) -> None:
        below = section.values.get(named.path)
        found = list(leaves(named, below, named.path, self._say))
        if named.path == "objectives":
            whole = complete(below, named.path, self._say)
            # A required value that is there and bad has been said already.
            whole &= {name for name, said in gathered(found).items() if _is_objective(said)}
            found = [leaf for leaf in found if leaf.names[0] in whole]
        self._things[named.path] = things = gathered(found)
        said = {leaf.names for leaf in found}
        found += [leaf for leaf in defaults(named, things) if leaf.names not in said]
        order = {name: at for at, name in enumerate(dict.fromkeys(leaf.names[0] for leaf in found))}
        for leaf in sorted(found, key=lambda leaf: order[leaf.names[0]]):
            path = ".".join((named.path, *leaf.names))
            source = Source("file", f"{self._file}:{leaf.line}") if leaf.line else Source("default")
            self._values[path], self._sources[path], self._kinds[path] = leaf.value, source, leaf.kind
        if not found:
            self._values[named.path], self._sources[named.path] = {}, Source("default")

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
        of, traces = self._values, self._values["foreign_sampling.max_traces_per_second"]
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
            event_time=of["event_time"],
            export=Export(of["export.metric_interval"]),
            process=Process(of["process.parent"], of["process.parent_max_age"], of["process.max_hops"]),
            receive_spans=of["receive_spans"],
            capture=Capture(of["capture.content"], of["capture.message_key"]),
            exclude=Exclude(of["exclude.destinations"], of["exclude.clients"]),
            contracts=Contracts(self._path("contracts.directory"), of["contracts.learn_messages"]),
            health=Health(
                of["health.state_file"]
                if of["health.state_file"] in ("auto", "off")
                else self._path("health.state_file"),
                of["health.interval"],
                of["health.stuck_after"],
                of["health.lost_after"],
                of["health.on_reject"],
            ),
            foreign_sampling=ForeignSampling(None if traces == "unlimited" else traces),
            mirrors=MappingProxyType(self._things["mirrors"]),
            objectives=tuple(ObjectiveOptions(name, **said) for name, said in self._things["objectives"].items()),
            destinations=MappingProxyType(self._things["destinations"]),
            sdk_disabled=self._environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true",
            resolved=resolved,
            file=self._file,
            values=MappingProxyType(self._values),
            sources=MappingProxyType(self._sources),
            kinds=MappingProxyType(self._kinds),
            problems=tuple(self._problems),
            overridden=tuple(self._overridden),
        )

    def _path(self, option: str) -> Path:
        """A path that begins at the file's folder."""
        folder = self._file.parent if self._file is not None else Path()
        text: str = self._values[option]
        try:
            return (folder / Path(text).expanduser()).absolute()
        except (OSError, RuntimeError):
            return folder / text  # No home, or a working folder that was deleted.


def _is_objective(said: Mapping[str, Any]) -> bool:
    """Whether all that is needed could be used."""
    return {"threshold_s", "objective"} <= said.keys() and ("destination" in said) != ("model" in said)


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


def _leaves(section: Section, prefix: str = "") -> Iterable[tuple[str, Any, int]]:
    for name, value in section.values.items():
        if isinstance(value, Section) and prefix + name in GROUPS:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value, section.lines[name]


def _resource_attribute(environ: Mapping[str, str], name: str) -> str | None:
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == name and value.strip():
            return unquote(value.strip())
    return None
