"""What the engine can be told about messages in general, and about each destination."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline.settings import DEFAULTS, Settings, option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Parent = Literal["message", "ambient", "link"]
Propagated = Literal["header", "tracestate"]
Batches = Literal["driven", "plain"]
Trust = Literal["all", "same-environment", "none"]
"""The environments whose messages' traces are continued."""

_NEAR: Mapping[str, None] = dict.fromkeys(("local", "test", "development", "staging"))
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True)
class DestinationTrust:
    """What the engine is told about one destination."""

    trust: Trust = option(
        "destinations.*.trust",
        Trust,
        "all",
        "Whose trace contexts become parents: everybody's, those of data that began in this environment, nobody's; "
        "the others' are links.",
    )


def _trusts_all(_destination: str) -> Trust:
    return "all"


@dataclass(frozen=True)
class EngineSettings:
    """The plain values that the engine works with."""

    service_name: str = "unknown_service"
    environment: str | None = None
    max_links: int = 128
    trust: Callable[[str], Trust] = _trusts_all
    """By destination; asked once for each partition."""
    configured: Settings = field(default=DEFAULTS, repr=False, compare=False)
    """The source of the adapters' own settings."""
    excludes_destination: Callable[[str], bool] = field(init=False, repr=False, compare=False)
    """Tells whether the destination of this name is left alone."""
    excludes_client: Callable[[str], bool] = field(init=False, repr=False, compare=False)
    """Tells whether the client with this id is left alone."""
    process_parent: Parent = option(
        "process.parent",
        Parent,
        "message",
        "Parent of the process span: the message's creation context, the application's own span, or none but a link.",
    )
    parent_max_age_ms: int = option(
        "process.parent_max_age",
        "duration",
        900_000,
        "Older messages start a new trace with a link, so that no trace lasts for hours.",
    )
    max_hops: int = option(
        "process.max_hops", "count", 32, "Messages that made more hops start a new trace with a link."
    )
    receive_spans: bool = option(
        "receive_spans", "boolean", True, "One CLIENT span for each batch that the application polled."
    )
    batches: Batches = option(
        "batches",
        Batches,
        "driven",
        "Whether a loop over what a call for several messages returns has each message in hand (driven), or the list "
        "is the client's own (plain).",
    )
    peer_name: bool = option(
        "peer_name",
        "boolean",
        False,
        "Whether PRODUCER and CONSUMER spans carry the topic's name as `service.peer.name`, for maps that need a peer.",
    )
    message_key: bool = option(
        "capture.message_key",
        "boolean",
        False,
        "Whether message keys stand on spans.",
        per_environment={"local": True, "test": True},
    )
    exception_text: bool = option(
        "capture.exception_text",
        "boolean",
        False,
        "Whether the text of exceptions of handlers, models, serializers stands on our spans; their type always does.",
        per_environment={"local": True, "test": True, "development": True},
    )
    excluded_destinations: tuple[str, ...] = option(
        "exclude.destinations", "names", ("__*",), "Patterns of destinations that are left alone."
    )
    excluded_clients: tuple[str, ...] = option(
        "exclude.clients", "names", (), "Patterns of client ids that are left alone."
    )
    max_foreign_traces_per_second: float | None = option(
        "foreign_sampling.max_traces_per_second",
        "trace rate",
        1.0,
        "How many traces per second follow another environment's sampled flag; then this process's sampler decides.",
        per_environment=_NEAR,
    )
    """None: all of them."""
    foreign_baggage: tuple[str, ...] | None = option(
        "baggage.from_other_environments",
        "names",
        None,
        "Patterns of the baggage keys of another environment's messages that are handed on, 1 kB at most; without it "
        "all of them where `trust` is `all`, none elsewhere.",
    )
    propagate_origin: Propagated = option(
        "propagate_origin",
        Propagated,
        "header",
        "Where it travels where data began: in the header otelp, or in tracestate as well, which others hand on.",
    )
    hooks: Mapping[str, Callable[[Any, Any], object]] = option(
        "hooks", "hooks", {}, "Functions f(span, message).", argument="hooks", in_file=False
    )

    def __post_init__(self) -> None:
        # Made once, and not when first asked for: a lock that a thread holds then is held for ever in a forked child.
        object.__setattr__(self, "excludes_destination", matcher(self.excluded_destinations))
        object.__setattr__(self, "excludes_client", matcher(self.excluded_clients))


def matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Make a function that tells whether a name matches one of the patterns; it keeps its answers."""
    if not patterns:
        return lambda _name: False
    known: dict[str, bool] = {}

    def matches(name: str) -> bool:
        found = known.get(name)
        if found is None:
            found = any(fnmatchcase(name, pattern) for pattern in patterns)
            if len(known) < _MAX_REMEMBERED:  # Names are the application's: bounded.
                known[name] = found
        return found

    return matches
