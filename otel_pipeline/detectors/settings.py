"""What detectors and the verdict can be told. Times in s."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline.settings import DEFAULTS, REQUIRED, Names, Settings, option, things

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Policy = Literal["allow", "flag", "reject"]
Age = Literal["delivery", "data", "event"]
OnReject = Literal["flag", "raise"]


@dataclass(frozen=True)
class DestinationSettings:
    """What is said of one destination."""

    foreign: Mapping[str, Policy] = option(
        "destinations.*.foreign",
        Policy,
        {"*": "flag"},
        'What is done with messages that began in this environment; "*" is any other.',
        names=Names("origin", 'name each origin below it, or "*" for any other', doubt="environment"),
    )
    """By origin environment; `*` is any other, and always there."""
    ordered: bool = option(
        "destinations.*.ordered", "boolean", False, "Whether events must come in the order of their times."
    )
    origin: Literal["unknown", "message"] = option(
        "destinations.*.origin",
        Literal["unknown", "message"],
        "unknown",
        "Where data begins of messages without the header `otelp`: nobody knows, or with the message.",
    )
    expect_every_s: float | None = option(
        "destinations.*.expect_every", "duration", None, "No message for longer than this is a finding."
    )
    event_age: bool = option(
        "destinations.*.event_age",
        "boolean",
        False,
        "Whether the header `ce_time` is read: the age of events, `otel_pipeline.event.age`.",
    )
    process_wait: bool = option(
        "destinations.*.process_wait",
        "boolean",
        False,
        "Whether the time that messages wait for `process()` is measured: `otel_pipeline.process.wait`.",
    )
    same_key: bool = option(
        "destinations.*.same_key",
        "boolean",
        False,
        "Whether messages with the same key that `process()` has in hand at the same time are counted.",
    )


@dataclass(frozen=True)
class Objective:
    """A freshness objective: `objective` of the cases are younger than `threshold_s`. By destination or by model."""

    name: str
    _: KW_ONLY
    destination: str | None = option(
        "objectives.*.destination", "text", None, "The destination whose messages are meant; either this or `model`."
    )
    group: str | None = option("objectives.*.group", "text", None, "The consumer group; all without it.")
    model: str | None = option(
        "objectives.*.model", "text", None, "The model whose calls are meant; either this or `destination`."
    )
    age: Age = option(
        "objectives.*.age", Age, "data", "Which age: of the message, of the oldest data in it, of the event."
    )
    threshold_s: float = option("objectives.*.threshold", "duration", REQUIRED, "Older than this misses the objective.")
    objective: float = option(
        "objectives.*.objective", "share", REQUIRED, "Share that must be younger than the threshold."
    )


def _mirrors_itself(copy: str, original: object) -> tuple[str, str] | None:
    return ("is its own copy", "name the destination that is copied") if copy == original else None


@dataclass(frozen=True)
class HealthSettings:
    """Everything that the detectors and the verdict need to know."""

    environment: str | None = None
    service_name: str = "unknown_service"
    configured: Settings = field(default=DEFAULTS, repr=False, compare=False)
    """The source of a detector's own settings."""
    stuck_after_s: float = option(
        "health.stuck_after",
        "duration",
        10.0,
        "A consumer that is behind and does not move is stuck after this, or 3 times its median processing.",
    )
    lost_after_s: float = option(
        "health.lost_after",
        "duration",
        150.0,
        "A gap is a loss at the earliest this long after it was seen.",
        per_environment={"local": 5.0, "test": 5.0},
    )
    on_reject: OnReject = option(
        "health.on_reject",
        OnReject,
        "flag",
        "What a message of a rejected environment does: counted and shown, or an exception in the application as well.",
    )
    mirrors: Mapping[str, str] = option(
        "mirrors",
        "text",
        {},
        "Original of a destination that a relay copies with its partitions and headers.",
        names=Names("copy", "write `copy: original` lines below it", doubt=_mirrors_itself),
    )
    """Copy -> original."""
    objectives: tuple[Objective, ...] = things(
        "objectives",
        Objective,
        "How fresh data has to be.",
        names=Names("name", "name each objective below it"),
        one_of=("destination", "model"),
    )
    event_time: Callable[[Any], object] | None = option(
        "event_time",
        "function",
        None,
        "Function f(message) that returns when its event happened: a datetime, s since the epoch, or None.",
        argument="event_time",
        in_file=False,
    )
    """See `detectors/event_time.py`."""

    def destination(self, name: str) -> DestinationSettings:
        """Return what is said of this destination; to be asked once for each name."""
        return self.configured.destination(DestinationSettings, name)
