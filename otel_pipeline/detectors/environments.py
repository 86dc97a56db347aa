"""Finds out where messages began: a laptop's test data in production's topic is found at its first message."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, get_args

from otel_pipeline import semconv
from otel_pipeline.detectors.measures import Detector
from otel_pipeline.detectors.settings import Policy
from otel_pipeline.engine import pipeline_header
from otel_pipeline.engine.measures import Attribute, Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_pipeline.detectors.settings import DestinationSettings, HealthSettings
    from otel_pipeline.detectors.watched_partition import WatchedPartition
    from otel_pipeline.engine.measures import Label

MAX_ENVIRONMENTS = 8
KNOWN = frozenset(pipeline_header.ENVIRONMENT_CODES)
"""Their series exist from the beginning, at 0."""
OTHER = "_other"


FOREIGN = Measure(
    "otel_pipeline.messages.foreign_environment",
    "counter",
    "{message}",
    "Messages that began in another environment.",
    (
        semconv.MESSAGING_DESTINATION_NAME,
        Attribute(semconv.OTEL_PIPELINE_ORIGIN_ENVIRONMENT),
        Attribute("otel_pipeline.policy", "What the configuration says of messages from there.", get_args(Policy)),
    ),
)
UNLABELLED = Measure("unlabelled", None, "{message}", "Messages that name no environment.").label()


class ForeignEnvironmentError(Exception):
    """A message from an environment that the configuration rejects, with `health: {on_reject: raise}`."""


def policy_of(foreign: Mapping[str, Policy], origin: str) -> Policy:
    """Return what the configuration says of messages that began in an environment."""
    return foreign.get(origin, foreign.get("*", "flag"))


def is_allowed(policy: str) -> bool:
    """Tell whether messages under this policy are wanted."""
    return policy == "allow"


class PartitionEnvironments:
    """Counts the messages of one partition by the environment that they began in. For the consumer's thread.

    A name of more than 16 bytes is cut in the header, so names are compared as far as they are known there.

    Args:
        own: the environment of this process; None when it is not known, then nothing is foreign.
        foreign: policy by origin environment; `*` is any other.
        raises: whether a rejected message is to raise.
    """

    __slots__ = ("_foreign", "_own", "own_code", "raises", "unlabelled", "visitors")

    def __init__(self, own: str | None, foreign: Mapping[str, Policy], *, raises: bool = False) -> None:
        in_header = pipeline_header.name_in_header
        self._own = None if own is None else in_header(own)
        self._foreign = {in_header(origin): policy for origin, policy in foreign.items()}
        self.own_code = pipeline_header.ENVIRONMENT_CODES.get(own, -1) if own is not None else -1
        """-1 where the name has to be read to know."""
        self.raises = raises and any(policy == "reject" for policy in foreign.values())
        self.unlabelled = 0
        self.visitors: dict[str, int] = {}
        """Messages by origin environment, without those of this one."""

    def foreign(self) -> dict[tuple[str, ...], int]:
        """Count the messages by origin environment and policy."""
        return {(origin, policy_of(self._foreign, origin)): count for origin, count in list(self.visitors.items())}

    def other(self, code: int, header: Any) -> None:
        """Count a message whose environment code is not that of this process."""
        name = pipeline_header.environment_of(header, code)
        if name is None:
            self.unlabelled += 1
        elif name != self._own:
            visitors = self.visitors
            if name not in visitors and len(visitors) >= MAX_ENVIRONMENTS:
                name = OTHER
            visitors[name] = visitors.get(name, 0) + 1

    def rejection(self, header: Any) -> Exception | None:
        """Return what to raise before the application gets a message; None where nothing is to be raised."""
        if not self.raises or self._own is None:
            return None
        read = pipeline_header.decode(header)
        origin = read.environment if read is not None else None
        if origin is None or origin == self._own or policy_of(self._foreign, origin) != "reject":
            return None
        return ForeignEnvironmentError(
            f"a message that began in {origin} reached {self._own}, whose configuration rejects it; "
            f"to let it in, allow {origin} under destinations: foreign"
        )


def _watch(at: WatchedPartition) -> PartitionEnvironments:
    settings = at.settings
    raises = settings.on_reject == "raise"
    return PartitionEnvironments(settings.environment, at.destination_settings.foreign, raises=raises)


def _born(settings: HealthSettings, destination: DestinationSettings) -> Iterator[Label]:
    if settings.environment is not None:
        for origin in sorted(KNOWN - {settings.environment}):
            yield FOREIGN.label(origin, policy_of(destination.foreign, origin))


DETECTOR = Detector(
    "environments",
    watch=_watch,
    counts={UNLABELLED: attrgetter("unlabelled")},
    open_counts={FOREIGN: PartitionEnvironments.foreign},
    born=_born,
)
