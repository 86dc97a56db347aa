"""The tables of options: single values, and mappings of named things. Everything else is made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from otel_pipeline.config import environment as environments
from otel_pipeline.config.kinds import (
    BOOLEAN,
    COUNT,
    DURATION,
    ENDPOINT,
    FUNCTION,
    FUNCTIONS,
    LIBRARIES,
    NAMES,
    RATE,
    SHARE,
    STATE_FILE,
    TEXT,
    TRACE_RATE,
    VERSION,
    Kind,
    choice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Option:
    """One option: a row of the table."""

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
    required: bool = False
    """Whether a named thing is nothing without it."""


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
        "event_time",
        FUNCTION,
        None,
        "Function f(message) that returns when its event happened: a datetime, s since the epoch, or None.",
        None,
        "event_time",
        in_file=False,
    ),
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
        "One CLIENT span for each batch that the application polled.",
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
    Option(
        "contracts.directory",
        TEXT,
        "contracts",
        "Folder of the contract files, beginning at the configuration file's folder.",
        "OTEL_PIPELINE_CONTRACTS_DIRECTORY",
    ),
    Option(
        "contracts.learn_messages",
        COUNT,
        1000,
        "Messages of a destination after which a contract that is learned is known.",
        "OTEL_PIPELINE_CONTRACTS_LEARN_MESSAGES",
    ),
    Option(
        "health.state_file",
        STATE_FILE,
        "auto",
        "Where the lights are written for `otel-pipeline health`; a path begins at the configuration file's folder.",
        "OTEL_PIPELINE_HEALTH_STATE_FILE",
    ),
    Option(
        "health.interval",
        DURATION,
        1.0,
        "How often the lights are judged.",
        "OTEL_PIPELINE_HEALTH_INTERVAL",
    ),
    Option(
        "health.stuck_after",
        DURATION,
        10.0,
        "A consumer that is behind and does not move is stuck after this, or 3 times its median processing.",
        "OTEL_PIPELINE_HEALTH_STUCK_AFTER",
    ),
    Option(
        "health.lost_after",
        DURATION,
        150.0,
        "A gap is a loss at the earliest this long after it was seen.",
        "OTEL_PIPELINE_HEALTH_LOST_AFTER",
        None,
        {"local": 5.0, "test": 5.0},
    ),
    Option(
        "health.on_reject",
        choice("flag", "raise"),
        "flag",
        "What a message of a rejected environment does: counted and shown, or an exception in the application as well.",
        "OTEL_PIPELINE_HEALTH_ON_REJECT",
    ),
    Option(
        "foreign_sampling.max_traces_per_second",
        TRACE_RATE,
        1.0,
        "Up to how many traces a second another environment's sampled flag is followed; then the own sampler decides.",
        "OTEL_PIPELINE_FOREIGN_SAMPLING_MAX_TRACES_PER_SECOND",
        None,
        dict.fromkeys(("local", "test", "development", "staging"), "unlimited"),
    ),
)
BY_PATH = {option.path: option for option in OPTIONS}
GROUPS = {option.path.partition(".")[0] for option in OPTIONS if "." in option.path}


@dataclass(frozen=True)
class Named:
    """A mapping of named things, so that an environment can override one of them by its name."""

    path: str
    each: Kind | tuple[Option | Named, ...]
    """What stands behind a name: a value, or these options."""
    name: str
    """What the names are."""
    help: str
    remedy: str
    doubt: Callable[[str, Any], tuple[str, str] | None] = lambda _name, _value: None
    """What is wrong with a name, and the remedy."""
    default: Mapping[str, Any] = field(default_factory=dict)
    one_of: tuple[str, ...] = ()
    """The options of which a thing has exactly one."""


def _unlikely_origin(name: str, _policy: Any) -> tuple[str, str] | None:
    meant = environments.near_miss(name)
    return ("is no environment that is known", f"did you mean {meant!r}?") if meant else None


def _mirrors_itself(copy: str, original: Any) -> tuple[str, str] | None:
    return ("is its own copy", "name the destination that is copied") if copy == original else None


OBJECTIVE: tuple[Option, ...] = (
    Option("destination", TEXT, None, "The destination whose messages are meant; either this or `model`."),
    Option("group", TEXT, None, "The consumer group; all without it."),
    Option("model", TEXT, None, "The model whose calls are meant; either this or `destination`."),
    Option(
        "age",
        choice("delivery", "data", "event"),
        "data",
        "Which age: of the message, of the oldest data in it, of the event.",
    ),
    Option("threshold", DURATION, None, "Older than this misses the objective.", required=True),
    Option("objective", SHARE, None, "Share that must be younger than the threshold.", required=True),
    Option("window", DURATION, 28 * 86400.0, "What the error budget is counted over."),
)
NAMED: Mapping[str, Named] = {
    "mirrors": Named(
        "mirrors",
        TEXT,
        "copy",
        "Original of a destination that a relay copies with its partitions and headers.",
        "write `copy: original` lines below it",
        _mirrors_itself,
    ),
    "destinations": Named(
        "destinations",
        (
            Option(
                "trust",
                choice("all", "same-environment", "none"),
                "all",
                "Whose trace contexts become parents: everybody's, those of data that began in this environment, "
                "nobody's; the others' are links.",
            ),
            Named(
                "foreign",
                choice("allow", "flag", "reject"),
                "origin",
                'What is done with messages that began in this environment; "*" is any other.',
                'name each origin below it, or "*" for any other',
                _unlikely_origin,
                {"*": "flag"},
            ),
            Option(
                "contract",
                choice("learn", "file", "ignore"),
                "learn",
                "Where the contract of the values comes from.",
            ),
            Option(
                "log",
                choice("plain", "transactional", "compacted"),
                "plain",
                "How the log is kept: but in a plain one offsets are missing without a loss.",
            ),
            Option("ordered", BOOLEAN, default=False, help="Whether events must come in the order of their times."),
            Option("expect_every", DURATION, None, "No message for longer than this is a finding."),
            Option(
                "event_age",
                BOOLEAN,
                default=False,
                help="Whether the header `ce_time` is read: the age of events, `otel_pipeline.event.age`.",
            ),
            Option(
                "process_wait",
                BOOLEAN,
                default=False,
                help="Whether it is measured how long messages wait for `process()`: `otel_pipeline.process.wait`.",
            ),
            Option(
                "same_key",
                BOOLEAN,
                default=False,
                help="Whether messages with the same key that `process()` has in hand at the same time are counted.",
            ),
            Option(
                "fields",
                NAMES,
                (),
                "Paths of the contract, 32 at most, of which null rate and range are kept: values, so none by default.",
            ),
        ),
        "pattern",
        "What is said of destinations; the most specific pattern that says an option wins.",
        'name each destination below it, or "*" for all',
    ),
    "objectives": Named(
        "objectives",
        OBJECTIVE,
        "name",
        "How fresh data has to be.",
        "name each objective below it",
        one_of=("destination", "model"),
    ),
}
